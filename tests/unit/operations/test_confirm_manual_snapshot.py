"""A manual snapshot counts when it is complete; until then, and when it fails, nobody is offered it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import PermanentError, SourceGoneError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.operations.manual.confirm_manual_snapshot import ConfirmManualSnapshot, confirm_manual_snapshot
from holdfast.operations.manual.expire_manual_snapshots import ExpireManualSnapshots, expire_manual_snapshots
from holdfast.operations.manual.manual_snapshot import ManualSnapshot, take_manual_snapshot
from tests.restore_world import RestoreWorld
from tests.session_world import REGION, configured

TOPIC = f"arn:aws:sns:{REGION}:999999999999:team"
ERROR = {"Error": "PermanentError", "Cause": '{"errorMessage": "it broke"}'}


def taken(world: RestoreWorld, **changes: Any) -> dict[str, Any]:
    """The machine's event for a manual snapshot that is still pending."""
    world.home.pending = True
    event = {"instance_id": world.add_instance(sizes=(1, 2)), "region": REGION, **changes}
    answer = take_manual_snapshot(parse(ManualSnapshot, event), world)
    return world.executions(REGION).started[answer["point_id"]][1]


def confirm(world: RestoreWorld, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return dict(confirm_manual_snapshot(parse(ConfirmManualSnapshot, event | changes), world))


def is_complete(world: RestoreWorld, event: dict[str, Any]) -> bool:
    (point,) = world.catalog.points(event["instance_id"], Kind.SNAPSHOT)
    return point.complete


def test_a_snapshot_is_complete_when_every_volume_of_it_is() -> None:
    world = RestoreWorld()
    event = taken(world)
    first, second = world.home.snapshots.values()
    first.state = "completed"
    assert confirm(world, event) == {"pending": True, "wait_seconds": 15, "polls": 1, "copy": False}
    assert confirm(world, event, polls=300)["wait_seconds"] == 60
    assert not is_complete(world, event)
    second.state = "completed"
    assert confirm(world, event)["pending"] is False
    assert is_complete(world, event)


def test_a_copy_follows_when_one_was_asked_for() -> None:
    world = RestoreWorld()
    event = taken(world, copy_to={"region": "eu-west-1"})
    world.home.complete_snapshots()
    assert confirm(world, event)["copy"] is True


def test_a_repeated_request_leaves_a_complete_snapshot_complete() -> None:
    world = RestoreWorld()
    event = taken(world, request_id="upgrade-7")
    world.home.complete_snapshots()
    confirm(world, event)
    again = {"instance_id": event["instance_id"], "region": REGION, "request_id": "upgrade-7"}
    take_manual_snapshot(parse(ManualSnapshot, again), world)
    assert is_complete(world, event)


def test_a_snapshot_that_ebs_failed_stays_incomplete() -> None:
    world = RestoreWorld()
    event = taken(world)
    broken = min(world.home.snapshots.values(), key=lambda one: one.snapshot_id)
    broken.state, broken.reason = "error", "Given key ID is not accessible"
    with pytest.raises(PermanentError, match="Given key ID is not accessible"):
        confirm(world, event)
    assert not is_complete(world, event)


def test_a_snapshot_that_is_not_to_be_seen_yet_is_waited_for_and_then_told() -> None:
    world = RestoreWorld()
    event = taken(world)
    world.home.snapshots.clear()
    with pytest.raises(UnavailableError):
        confirm(world, event)
    world.clock.advance(timedelta(minutes=3))
    with pytest.raises(SourceGoneError, match="was deleted"):
        confirm(world, event)


def test_a_snapshot_that_is_pending_for_a_day_is_told() -> None:
    world = RestoreWorld()
    event = taken(world)
    world.clock.advance(timedelta(hours=25))
    with pytest.raises(PermanentError, match="not complete after a day"):
        confirm(world, event)


def test_a_snapshot_that_left_the_catalog_is_not_listed_again() -> None:
    world = RestoreWorld()
    event = taken(world)
    world.catalog.point_records.clear()
    with pytest.raises(SourceGoneError, match="not in the catalog"):
        confirm(world, event)


def test_whoever_hears_of_failed_sessions_hears_of_a_failed_snapshot() -> None:
    told = {"topic_arn": TOPIC, "sender": "holdfast@example.com", "recipients": ["team@example.com"]}
    world = RestoreWorld(configured(notifications=told))
    event = taken(world)
    assert confirm(world, event, error=ERROR)["pending"] is False
    ((topic, subject, text, document),) = world.notifier.notices
    assert (topic, subject) == (TOPIC, f"[Failed] manual snapshot of machine 1 ({event['instance_id']})")
    assert "it broke" in text
    assert (document["state"], document["manual_snapshot"]) == ("Failed", event["point_id"])
    (mail,) = world.notifier.mails
    assert mail.recipients == ("team@example.com",)
    assert not is_complete(world, event)


def test_nobody_is_told_who_wants_no_failures() -> None:
    world = RestoreWorld(configured(notifications={"topic_arn": TOPIC, "on_failure": False}))
    confirm(world, taken(world), error=ERROR)
    assert world.notifier.notices == []


def test_a_snapshot_that_is_kept_longer_stays_as_complete_as_it_was() -> None:
    world = RestoreWorld()
    event = taken(world, keep_days=1)
    world.home.complete_snapshots()
    confirm(world, event)
    for one in world.home.snapshots.values():
        one.tags[names.KEEP_UNTIL] = "20270101T000000Z"
    world.clock.advance(timedelta(days=2))
    expire_manual_snapshots(ExpireManualSnapshots(), world)
    assert is_complete(world, event)
