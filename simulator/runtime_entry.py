"""First program of a function's process: installs the simulated World, then becomes the runtime client.

It runs in the function's process and must import nothing of the simulator: what the function finds there is
what it would find in Lambda.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from datetime import datetime
from pathlib import Path

from awslambdaric.__main__ import main


class SimulatedClock:
    """The virtual time at the beginning of the invocation."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """The current virtual instant, in UTC."""
        return datetime.fromisoformat(self._file.read_text())


def install_world() -> None:
    """Give a function of Holdfast the endpoints and the clock of the simulator."""
    try:
        from holdfast.bootstrap import World, installed
    except ModuleNotFoundError:  # a function that does not use the library
        return
    url = os.environ["AWS_ENDPOINT_URL"]
    clock = SimulatedClock(Path(os.environ["SIMULATED_NOW"]))
    installed.set(dataclasses.replace(World.from_process(), clock=clock, endpoints={"ebs": url, "s3": url}))


if __name__ == "__main__":
    install_world()
    main(sys.argv)
