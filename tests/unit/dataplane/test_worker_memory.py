from __future__ import annotations

from benchmarks.memory import GOAL, peak_bytes


def test_a_worker_stays_below_its_memory_whatever_the_size_of_its_segment() -> None:
    # Four packs and seven: every buffer is in use from the third on.
    small, large = peak_bytes(700), peak_bytes(1_150)
    assert small <= GOAL
    assert large <= GOAL
    assert large - small < 48_000_000  # one pack of 32 MiB more may be in flight at the peak
