"""Every vector of the specification, by its id. A vector that no runner recognizes fails."""

from __future__ import annotations

import pytest

from tests.vectors import archives, bases, generations, ratings, retentions, schedules, selections, windows

RUNNERS = {
    "archive": archives.run,
    "block_generation": generations.run,
    "cbt_retention": bases.run,
    "harmonized_scheduling": schedules.run,
    "retention": retentions.run,
    "selection": selections.run,
    "sla_calculation": ratings.run,
    "windows": windows.run,
}


@pytest.mark.vectors
def test_vector(section: str, vector: dict) -> None:
    assert section in RUNNERS, f"there is no section {section}"
    assert RUNNERS[section](vector) > 0, f"{vector['id']} was recognized by no runner"
