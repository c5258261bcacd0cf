"""Judges a million restore points on one core, and shows how time and memory grow.

Every size runs in a process of its own, so that peak memory is that of this size; all of them have to stay
under 10 seconds and 1 GiB.

    python benchmarks/retention.py [--points 1000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "layers/core/python"))

from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.planning.retention import Rule, judge

SECONDS, BYTES = 10.0, 1 << 30
NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)
DAILY, WEEKLY = frozenset({Flag.DAILY}), frozenset({Flag.DAILY, Flag.WEEKLY})
MONTHLY = frozenset(Flag)


@dataclass(frozen=True, slots=True)
class Point:
    """What retention looks at in a restore point."""

    point_id: str
    taken_at: datetime
    flags: frozenset[Flag]
    manual: bool = False
    keep_until: datetime | None = None
    complete: bool = True


def days(count: int) -> Keep:
    return Keep(days=count, months=None, years=None)


RULES = {
    "counts": Rule(
        {Flag.DAILY: 60, Flag.WEEKLY: 20, Flag.MONTHLY: 12, Flag.YEARLY: 3}, ZoneInfo("Europe/Berlin")
    ),
    "ages": Rule(
        {
            Flag.DAILY: days(35),
            Flag.WEEKLY: days(90),
            Flag.MONTHLY: Keep(days=None, months=12, years=None),
            Flag.YEARLY: Keep(days=None, months=None, years=7),
        },
        ZoneInfo("Europe/Berlin"),
    ),
}


def chain(instance: int, length: int) -> list[Point]:
    """Points over 200 days of one instance: every 7th also weekly, every 30th carries all flags."""
    apart = timedelta(days=200) / length
    return [
        Point(
            f"{instance}-{number}",
            NOW - apart * number - timedelta(minutes=instance % 60),
            MONTHLY if number % 30 == 0 else WEEKLY if number % 7 == 0 else DAILY,
        )
        for number in range(length)
    ]


def chains(points: int, length: int) -> list[list[Point]]:
    return [chain(number, length) for number in range(points // length)]


def measured(kind: str, points: int, length: int) -> dict[str, object]:
    """All points and all verdicts are in memory at the same time: the worst way to call it."""
    inventory = chains(points, length)
    rule = RULES[kind]
    started = time.process_time()
    verdicts = [judge(each, rule, NOW) for each in inventory]
    seconds = time.process_time() - started
    return {
        "rule": kind,
        "points": points,
        "chain_length": length,
        "seconds": round(seconds, 3),
        "microseconds_per_point": round(seconds / points * 1e6, 2),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "removed": sum(verdict.remove for found in verdicts for verdict in found),
    }


def sizes(points: int) -> Iterator[tuple[str, int, int]]:
    for kind in RULES:
        for part in (16, 4, 1):
            yield kind, points // part, 200
    for kind in RULES:
        yield kind, points, points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument(
        "--one", nargs=3, metavar=("RULE", "POINTS", "LENGTH"), help="one size, in this process"
    )
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]), int(given.one[2]))))
        return 0
    results = []
    print(
        f"{'rule':8}{'points':>10}{'in a chain':>12}{'CPU s':>9}{'us each':>10}{'peak MiB':>10}{'removed':>9}"
    )
    for kind, points, length in sizes(given.points):
        command = [sys.executable, __file__, "--one", kind, str(points), str(length)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append(result)
        print(
            f"{kind:8}{points:>10,}{length:>12,}{result['seconds']:>9.2f}{result['microseconds_per_point']:>10.2f}"
            f"{result['peak_bytes'] / (1 << 20):>10.0f}{result['removed']:>10,}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    late = [each for each in results if each["seconds"] > SECONDS or each["peak_bytes"] > BYTES]
    print("limits: 10 s and 1024 MiB: " + ("exceeded" if late else "kept"))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
