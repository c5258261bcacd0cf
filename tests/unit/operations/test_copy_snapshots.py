"""Copies of snapshots: step by step, once, shared with one account for as long as it takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    PermanentError,
    SourceGoneError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.model.scope import Account
from holdfast.operations.coverage.coverage_ledger import Known, write_known
from holdfast.operations.manual.expire_manual_snapshots import ExpireManualSnapshots, expire_manual_snapshots
from holdfast.operations.manual.manual_snapshot import ManualSnapshot, take_manual_snapshot
from holdfast.operations.replicas.copy_snapshots import CopySnapshots, copy_snapshots
from tests.restore_world import RestoreWorld
from tests.session_world import ACCOUNT, INSTALLATION, REGION, AccountRegion, configured

OTHER, WEST = "444455556666", "eu-west-1"
KEY = f"arn:aws:kms:{WEST}:{OTHER}:key/theirs"


def taken(world: RestoreWorld, copy_to: dict[str, str], **changes: Any) -> dict[str, Any]:
    """The event of the copy of a manual snapshot of an instance with two volumes."""
    instance_id = world.add_instance(sizes=(1, 2))
    event = {"instance_id": instance_id, "region": REGION, "copy_to": copy_to, **changes}
    answer = take_manual_snapshot(parse(ManualSnapshot, event), world)
    return world.executions(REGION).started[answer["point_id"]][1]


def copy(world: RestoreWorld, event: dict[str, Any]) -> dict[str, Any]:
    return dict(copy_snapshots(parse(CopySnapshots, event), world))


def finished(world: RestoreWorld, event: dict[str, Any], there: AccountRegion) -> dict[str, Any]:
    """The answer of the last step."""
    assert copy(world, event)["done"] is False
    there.complete_snapshots()
    return copy(world, event)


def test_every_volume_is_copied_to_another_region() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there = world.spoke("", ACCOUNT, WEST)
    answer = finished(world, event, there)
    assert answer["done"] is True
    assert answer["copies"].keys() == event["snapshots"].keys()
    assert set(answer["copies"].values()) == set(there.snapshots)


def test_a_copy_tells_by_its_tags_what_it_is() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST}, tags={"reason": "audit"}, keep_days=3)
    answer = finished(world, event, world.spoke("", ACCOUNT, WEST))
    volume_id, snapshot_id = min(answer["copies"].items())
    assert world.spoke("", ACCOUNT, WEST).snapshots[snapshot_id].tags == {
        "Name": "machine 1 copy",
        "reason": "audit",
        names.INSTALLATION: INSTALLATION,
        names.POINT: event["point_id"],
        names.INSTANCE: event["instance_id"],
        names.KIND: "replica",
        names.CALL: world.spoke("", ACCOUNT, WEST).snapshots[snapshot_id].tags[names.CALL],
        names.SOURCE: f"{ACCOUNT}/{REGION}/{event['snapshots'][volume_id]}",
        names.VOLUME: volume_id,
        names.VOLUMES: "2",
        names.KEEP_UNTIL: "20261125T070000Z",
    }


def test_the_copy_is_a_restore_point_of_its_own() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST}, keep_days=3)
    answer = finished(world, event, world.spoke("", ACCOUNT, WEST))
    (point,) = world.catalog.points(event["instance_id"], Kind.REPLICA)
    assert (point.point_id, point.account, point.region) == (event["point_id"], ACCOUNT, WEST)
    assert (point.snapshot_ids, point.manual) == (answer["copies"], True)


def test_a_copy_goes_when_its_days_are_over() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST}, keep_days=3)
    finished(world, event, world.spoke("", ACCOUNT, WEST))
    world.clock.advance(timedelta(days=4))
    expire_manual_snapshots(ExpireManualSnapshots(), world)
    assert world.spoke("", ACCOUNT, WEST).snapshots == {}
    assert list(world.catalog.points(event["instance_id"])) == []


def test_pending_sources_are_waited_for() -> None:
    world = RestoreWorld()
    world.home.pending = True
    event = taken(world, {"region": WEST})
    assert copy(world, event) == {"done": False, "copies": {}, "queued": 0}
    assert world.spoke("", ACCOUNT, WEST).snapshots == {}


def test_a_repeated_step_copies_nothing_twice() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there = world.spoke("", ACCOUNT, WEST)
    assert copy(world, event)["copies"] == {}
    copies = [copy(world, event)["copies"] for _ in range(2)]
    there.complete_snapshots()
    copies.append(copy(world, event)["copies"])
    assert len(there.snapshots) == 2
    assert all(set(one.values()) == set(there.snapshots) for one in copies)


def test_a_step_repeated_after_the_end_finds_the_copies_that_were_made() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there = world.spoke("", ACCOUNT, WEST)
    answer = finished(world, event, there)
    assert copy(world, event) == answer
    assert len(there.snapshots) == 2


def test_a_copy_whose_call_got_no_answer_is_waited_for_and_made_once() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there, copier = world.spoke("", ACCOUNT, WEST), world.snapshot_copier(ACCOUNT, WEST)
    copier.answers_lost, there.lag = 1, timedelta(minutes=1)
    with pytest.raises(UnavailableError):
        copy(world, event)
    assert copy(world, event)["done"] is False
    world.clock.advance(timedelta(minutes=3))
    assert finished(world, event, there)["done"] is True
    assert len(there.snapshots) == 2


def test_a_copy_call_that_never_arrived_is_repeated_when_that_is_sure() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there, copier = world.spoke("", ACCOUNT, WEST), world.snapshot_copier(ACCOUNT, WEST)
    copier.refusals = [UnavailableError("No connection.")]
    with pytest.raises(UnavailableError):
        copy(world, event)
    copy(world, event)
    assert len(there.snapshots) == 1
    world.clock.advance(timedelta(minutes=3))
    copy(world, event)
    assert len(there.snapshots) == 2


def test_a_full_region_gets_the_rest_later() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    there, copier = world.spoke("", ACCOUNT, WEST), world.snapshot_copier(ACCOUNT, WEST)
    copier.room = 1
    assert copy(world, event)["queued"] == 1
    assert copy(world, event)["queued"] == 1
    assert len(there.snapshots) == 1
    copier.room = 1
    assert finished(world, event, there)["done"] is True
    assert len(there.snapshots) == 2


def test_another_account_sees_the_snapshots_only_while_it_copies() -> None:
    world = RestoreWorld()
    event = taken(world, {"account": OTHER, "region": WEST, "kms_key_arn": KEY})
    home = world.snapshot_copier(ACCOUNT, REGION)
    copy(world, event)
    assert home.shared == {snapshot_id: {OTHER} for snapshot_id in event["snapshots"].values()}
    world.spoke("", OTHER, WEST).complete_snapshots()
    assert copy(world, event)["done"] is True
    assert home.shared == {snapshot_id: set() for snapshot_id in event["snapshots"].values()}
    assert set(world.snapshot_copier(OTHER, WEST).keys.values()) == {KEY}


def test_nothing_is_shared_with_an_account_that_nobody_knows() -> None:
    """The role of an Organization has one name in all accounts: any account of the world may have it."""
    company = {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
    world = RestoreWorld(configured(organizations=[company]))
    target = {"account": OTHER, "region": WEST}
    with pytest.raises(ConfigurationError, match="no Organization is known to have it"):
        taken(world, target)
    assert world.home.snapshots == {}
    event = taken(world, {"region": WEST}) | {"target": target}
    with pytest.raises(ConfigurationError, match="no Organization is known to have it"):
        copy(world, event)
    assert world.snapshot_copier(ACCOUNT, REGION).shared == {}
    assert OTHER not in {account for account, *_ in world.roles}
    member, now = Account(account=OTHER, organization="company"), world.clock.now()
    write_known([member], {}, {}, Known(), world.catalog, now, now)
    copy(world, event)
    assert world.snapshot_copier(ACCOUNT, REGION).shared.keys() == set(event["snapshots"].values())


def test_nothing_is_shared_within_an_account() -> None:
    world = RestoreWorld()
    finished(world, taken(world, {"region": WEST}), world.spoke("", ACCOUNT, WEST))
    assert world.snapshot_copier(ACCOUNT, REGION).shared == {}


def test_a_snapshot_under_the_default_key_is_told_to_be_unshareable() -> None:
    world = RestoreWorld()
    event = taken(world, {"account": OTHER})
    world.snapshot_copier(ACCOUNT, REGION).refusal = PermanentError(
        "The default key aws/ebs is never shared."
    )
    with pytest.raises(PermanentError, match="default key"):
        copy(world, event)
    assert world.spoke("", OTHER, REGION).snapshots == {}


def test_a_copy_that_ebs_gave_up_ends_with_its_reason() -> None:
    world = RestoreWorld()
    event = taken(world, {"account": OTHER})
    copy(world, event)
    broken = next(iter(world.spoke("", OTHER, REGION).snapshots.values()))
    broken.state, broken.reason = "error", "Given key ID is not accessible"
    with pytest.raises(PermanentError, match="Given key ID is not accessible"):
        copy(world, event)


def test_a_copy_that_is_given_up_is_unshared_and_what_was_copied_stays() -> None:
    world = RestoreWorld()
    event = taken(world, {"account": OTHER})
    copy(world, event)
    assert copy(world, event | {"abandon": True}) == {"done": True, "copies": {}}
    assert not any(world.snapshot_copier(ACCOUNT, REGION).shared.values())
    assert len(world.spoke("", OTHER, REGION).snapshots) == 2
    assert list(world.catalog.points(event["instance_id"], Kind.REPLICA)) == []


def test_a_source_that_was_deleted_ends_the_copy() -> None:
    world = RestoreWorld()
    event = taken(world, {"region": WEST})
    world.home.snapshots.popitem()
    with pytest.raises(SourceGoneError, match="was deleted"):
        copy(world, event)


def test_a_target_that_lets_nobody_in_is_told() -> None:
    world = RestoreWorld()
    event = taken(world, {"account": OTHER})
    world.refused[OTHER] = AccessDeniedError("The role cannot be assumed.")
    with pytest.raises(AccessDeniedError):
        copy(world, event)


def test_an_event_without_snapshots_is_refused() -> None:
    world = RestoreWorld()
    with pytest.raises(ConfigurationError, match="snapshots"):
        copy(world, taken(world, {"region": WEST}) | {"snapshots": {}})
