"""A company of twelve accounts in three Regions against an independent model, day by day.

Restore points, flags and marks in every account, the catalog, the repository, sessions and both ledgers are
compared. Sydney's clocks jump on 4 October, Frankfurt's fall back on the 25th, Virginia's on 1 November. Both
tests are campaigns (`make campaign`): the forty days take 13 minutes of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.model.configuration import Configuration
from simulator.world import World as WorldFile
from tests.forty_days import events, world
from tests.forty_days.play import play
from tests.scenarios.conftest import Installation, deploy, opened

FRIDAY = datetime(2026, 10, 2, 11, 0, tzinfo=UTC)


@pytest.fixture
def installation(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """The company with Holdfast deployed, on the day before the first."""
    document = world.world_document(request.param)
    configured = Configuration.model_validate(world.CONFIGURATION)
    deployed = deploy(configured, WorldFile.model_validate(document), tmp_path / "deployed")
    with opened(deployed, tmp_path / "aws") as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("installation", [FRIDAY], indirect=True)
def test_the_weekend_on_which_clocks_jump_is_as_the_model_says(installation: Installation):
    _live_through(installation, 3, events.WEEKEND)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("installation", [world.STARTS_AT], indirect=True)
def test_forty_days_are_as_the_model_says(installation: Installation):
    _live_through(installation, world.DAYS, events.FORTY_DAYS)


def _live_through(installation: Installation, days: int, script: tuple[events.Event, ...]) -> None:
    for end, found in play(installation.sim, installation.services, days, script):
        assert not found, f"up to {end:%Y-%m-%d %H:%M} UTC:\n" + "\n".join(found)
