"""Resident memory of one worker at 24 connections and packs of 32 MiB, for two sizes of segment.

The peak must not grow with the segment: what grows with it belongs into the repository, not into memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.server import serving

GOAL = 250_000_000
CONTENTS = 32


def peak_bytes(count: int) -> int:
    """Peak resident memory of a process that backs up ``count`` blocks."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), CONTENTS, count, 1) as service:
        worker = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", service.url, str(service.certificate), str(count)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    if worker.returncode:
        raise SystemExit(f"The worker failed:\n{worker.stderr}")
    return int(json.loads(worker.stdout)["peak"])


def main(counts: tuple[int, ...] = (400, 1_200)) -> dict[str, float]:
    """Print the peak for each size and return the largest."""
    peaks = {count: peak_bytes(count) for count in counts}
    for count, peak in peaks.items():
        print(f"memory: {count:5} blocks: {peak / 1e6:6.0f} MB resident at the peak (goal: at most 250)")
    return {"peak_bytes": max(peaks.values()), "growth_bytes": peaks[counts[-1]] - peaks[counts[0]]}


if __name__ == "__main__":
    main()
