"""One worker in a process of its own: backs up a segment over TLS and tells what it needed.

It imports what the deployed function imports, and holds the boto3 client that the function needs for its
role.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.data_plane import CONNECTIONS, PACK_BYTES, back_up, new_repository, parties
from benchmarks.server import Service


def _peak_bytes() -> int:
    """Peak resident memory of this program (getrusage counts that of the program that started it, too)."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) << 10


def main() -> None:
    """Arguments: address, certificate, number of blocks."""
    import boto3

    import functions.move_segment

    url, certificate, count = sys.argv[1:]
    session = boto3.Session("AKIDEXAMPLE", "secret", "token", "eu-central-1")
    held = (functions.move_segment.handler, session.client("sts"), session.client("kms"))
    worker = parties(Service(url, Path(certificate)), int(count))
    repository = new_repository(worker.store)
    back_up(worker.reader, repository, worker.count, CONNECTIONS)
    print(json.dumps({"held": len(held), "peak": _peak_bytes(), "pack": PACK_BYTES}))


if __name__ == "__main__":
    main()
