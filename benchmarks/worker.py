"""One worker in a process of its own: backs up a segment over TLS and tells what it needed.

It imports what the deployed function imports, and holds the boto3 client that the function needs for its
role.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from benchmarks.data_plane import CONNECTIONS, PACK_BYTES, back_up, new_repository, parties
from benchmarks.server import Service


def main() -> None:
    """Arguments: address, certificate, number of blocks."""
    import boto3

    import functions.move_segment

    url, certificate, count = sys.argv[1:]
    session = boto3.Session("AKIDEXAMPLE", "secret", "token", "eu-central-1")
    held = (functions.move_segment.handler, session.client("sts"), session.client("kms"))
    worker = parties(Service(url, Path(certificate)), int(count))
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repository = new_repository(worker.store)
    back_up(worker.reader, repository, worker.count, CONNECTIONS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"held": len(held), "start": at_start << 10, "peak": peak << 10, "pack": PACK_BYTES}))


if __name__ == "__main__":
    main()
