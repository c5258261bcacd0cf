"""Fails when the tests leave out too many branches of a package of the library.

Counts branches alone: coverage's own total mixes them with lines, and easy lines would hide a rule whose
other outcome no test has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import CoverageException

LIBRARY = Path("layers/core/python/holdfast")


def measured_files() -> dict[str, dict]:
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "coverage.json")
        try:
            coverage.json_report(outfile=str(report))
        except CoverageException as error:
            sys.exit(f"branches: {error} Run `make unit` without ARGS.")
        return json.loads(report.read_text())["files"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("packages", nargs="+", help="packages below holdfast, for example: model planning")
    arguments.add_argument("--at-least", type=float, required=True, metavar="PERCENT", help="of the branches")
    chosen = arguments.parse_args()

    files = measured_files()
    below = []
    for package in chosen.packages:
        summaries = [
            entry["summary"] for name, entry in files.items() if Path(name).is_relative_to(LIBRARY / package)
        ]
        if not summaries:
            sys.exit(f"branches: nothing measured in {LIBRARY / package}; run `make unit` without ARGS")
        branches = sum(summary["num_branches"] for summary in summaries)
        covered = sum(summary["covered_branches"] for summary in summaries)
        percent = 100 * covered / branches if branches else 100.0
        print(
            f"branches: {package:<12} {covered} of {branches} ({percent:.1f}%, at least {chosen.at_least:g}%)"
        )
        if percent < chosen.at_least:
            below.append(package)
    for package in below:
        print(f"branches: untested in {package}, file:line->line", file=sys.stderr)
        for name, entry in files.items():
            if Path(name).is_relative_to(LIBRARY / package):
                for start, end in entry["missing_branches"]:
                    print(f"  {name}:{start}->{'exit' if end < 0 else end}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
