"""CPU that a worker's imports cost, against importing boto3 and making an ebs and an s3 client.

Each is measured in fresh processes, in turns; the cost of an empty interpreter is taken off both.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

GOAL = 0.5
HANDLER = (
    "import functions.move_segment, holdfast.aws.ebs, holdfast.aws.s3, holdfast.dataplane.backup, "
    "holdfast.repository.repository"
)
BOTO3 = (
    "import boto3; session = boto3.Session('AKID', 'secret', region_name='eu-central-1'); "
    "session.client('ebs'); session.client('s3')"
)


def _spent(statement: str) -> float:
    """User and system milliseconds of a process that runs ``statement``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main(rounds: int = 5) -> dict[str, float]:
    """Print both costs and their ratio; return the ratio."""
    spent: dict[str, list[float]] = {"pass": [], HANDLER: [], BOTO3: []}
    for number in range(rounds + 1):
        for statement, values in spent.items():
            cost = _spent(statement)
            if number:
                values.append(cost)
    empty = statistics.median(spent["pass"])
    handler, boto3 = (statistics.median(spent[statement]) - empty for statement in (HANDLER, BOTO3))
    ratio = statistics.median(
        (ours - nothing) / (theirs - nothing)
        for nothing, ours, theirs in zip(spent["pass"], spent[HANDLER], spent[BOTO3], strict=True)
    )
    print(
        f"cold start: handler of a worker {handler:.0f} ms CPU, boto3 with ebs and s3 clients {boto3:.0f} ms"
    )
    print(f"  a worker's imports cost {ratio:.2f} of boto3's (goal: at most {GOAL:.2f})")
    return {"cold_start": ratio}


if __name__ == "__main__":
    main()
