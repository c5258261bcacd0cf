"""All measurements in one run: ``python -m benchmarks [--rounds N] [--blocks N] [--json FILE]``.

Exit code 1 when a goal is missed. On a machine with busy neighbours give it more rounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import api_requests, cold_start, data_plane, incremental, memory

GOALS = {
    "cold_start": 0.5,
    "incremental_read": 1.1,
    "incremental_written": 1.1,
    "peak_bytes": 250_000_000,
    "backup_to_plain": 0.6,
    "backup_to_memory": 1.5,
}
"""The most that each may be; `restore_speedup` has to be at least 1.6."""


def main() -> int:
    """Run everything and say which goals are met."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Ratios of the data plane, measured in one run."
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of the data plane (after one to warm up)"
    )
    parser.add_argument("--blocks", type=int, default=640, help="blocks of 512 KiB in each round")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    results = cold_start.main() | incremental.main() | memory.main() | api_requests.main()
    results |= data_plane.main(options.blocks, options.rounds)
    missed = [name for name, most in GOALS.items() if results[name] > most]
    missed += ["restore_speedup"] if results["restore_speedup"] < 1.6 else []
    print("goals missed: " + ", ".join(missed) if missed else "every goal is met")
    if options.json:
        options.json.write_text(json.dumps(results | {"missed": missed}, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
