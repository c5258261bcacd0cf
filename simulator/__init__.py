"""AWS in one process: accounts whose instances have real disks, driven by the templates that are deployed.

Nothing that is deployed imports this package; it is the witness of what is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simulator import service_models

if TYPE_CHECKING:
    from simulator.simulator import Simulator
    from simulator.world import World


service_models.share()


@contextmanager
def open(directory: Path, world: World | None = None) -> Iterator[Simulator]:
    """Open the simulated AWS whose state lives in ``directory``; with a ``world``, create it there first.

    The state is saved when the block ends, also when it ends by an error: what happened, happened.
    Raises ConfigurationError when there is nothing to open, something already, or another process is in it.
    """
    from simulator.simulator import Simulator

    simulator = Simulator(directory, world)
    try:
        yield simulator
    finally:
        simulator.close()
