"""What every catalog promises: the table in DynamoDB, and the one in memory that other tests stand on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from holdfast.aws.dynamodb import DynamoCatalog
from holdfast.errors import NotFoundError, PermanentError
from holdfast.model.inventory import Instance, InstanceConfiguration
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Session, State
from holdfast.operations.retention.retention_in_force import FOR_GOOD, IN_FORCE, part_of
from holdfast.ports import Catalog, Switch
from tests.memory_catalog import MemoryCatalog

NOW = datetime(2026, 11, 30, 23, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"
TABLE = "holdfast-catalog"


def make_table(client: Any) -> None:
    """The table as the hub stack makes it."""
    keys = {"pk": "HASH", "sk": "RANGE"}, {"gpk": "HASH", "gsk": "RANGE"}
    schemas = [[{"AttributeName": name, "KeyType": kind} for name, kind in key.items()] for key in keys]
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=schemas[0],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "gpk", "gsk")
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": "by-time", "KeySchema": schemas[1], "Projection": {"ProjectionType": "ALL"}}
        ],
    )


@pytest.fixture
def dynamo() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-central-1")
        make_table(client)
        yield client


@pytest.fixture(params=["memory", "dynamodb"])
def catalog(request: pytest.FixtureRequest) -> Catalog:
    if request.param == "memory":
        return MemoryCatalog()
    return DynamoCatalog(request.getfixturevalue("dynamo"), TABLE)


def a_session(number: int = 0, **changes: Any) -> Session:
    started = NOW + timedelta(hours=number)
    return Session(
        session_id=f"session-{number}", policy="daily", slot=started, started_at=started, **changes
    )


def a_point(number: int = 0, **changes: Any) -> RestorePoint:
    taken = NOW + timedelta(hours=number)
    fields = {
        "point_id": f"{taken:%Y%m%dT%H%M%SZ}-abc",
        "kind": Kind.SNAPSHOT,
        "account": "111122223333",
        "region": "eu-central-1",
        "instance_id": INSTANCE,
        "taken_at": taken,
        "flags": frozenset({Flag.DAILY, Flag.WEEKLY}),
        "snapshot_ids": {"vol-1": "snap-1"},
        **changes,
    }
    return RestorePoint.model_validate(fields)


def a_configuration(user_data: str = "") -> InstanceConfiguration:
    return InstanceConfiguration(
        instance=Instance(instance_id=INSTANCE, account="111122223333", region="eu-central-1"),
        user_data=user_data,
    )


def test_a_session_begins_once(catalog: Catalog):
    assert catalog.begin_session(a_session()) is True
    assert catalog.begin_session(a_session(state=State.FAILED)) is False
    assert catalog.read_session("session-0") == a_session()


def test_a_session_is_rewritten(catalog: Catalog):
    catalog.begin_session(a_session())
    catalog.write_session(a_session(state=State.WARNING))
    assert catalog.read_session("session-0").state is State.WARNING


def test_an_unknown_session_is_not_found(catalog: Catalog):
    with pytest.raises(NotFoundError):
        catalog.read_session("nobody")


def test_sessions_are_listed_by_time_across_months(catalog: Catalog):
    for number in (2, 0, 30, 24 * 40):
        catalog.begin_session(a_session(number))
    found = catalog.sessions(NOW + timedelta(hours=1), NOW + timedelta(days=40))
    assert [session.session_id for session in found] == ["session-2", "session-30"]


def test_parts_belong_to_their_session_and_come_in_order(catalog: Catalog):
    for part in ("outcome/b", "outcome/a", "region/x"):
        catalog.write_part("one", part, {"name": part}, at=NOW)
    catalog.write_part("other", "outcome/c", {}, at=NOW)
    assert list(catalog.parts("one", "outcome/")) == [
        ("outcome/a", {"name": "outcome/a"}),
        ("outcome/b", {"name": "outcome/b"}),
    ]


def test_a_new_part_is_written_once(catalog: Catalog):
    assert catalog.write_part("one", "p", {"n": 1}, at=NOW, new=True) is True
    assert catalog.write_part("one", "p", {"n": 2}, at=NOW, new=True) is False
    assert catalog.read_part("one", "p") == {"n": 1}
    catalog.write_part("one", "p", {"n": 3}, at=NOW)
    assert catalog.read_part("one", "p") == {"n": 3}


def test_a_part_that_is_not_there_is_none_and_may_be_removed(catalog: Catalog):
    catalog.remove_part("one", "p")
    assert catalog.read_part("one", "p") is None
    catalog.write_part("one", "p", {}, at=NOW)
    catalog.remove_part("one", "p")
    assert catalog.read_part("one", "p") is None


def test_a_long_part_comes_back_whole(catalog: Catalog):
    body = {"accounts": [f"{number:012}" for number in range(20_000)], "name": "Ünïcode\u0000"}
    catalog.write_part("one", "scope", body, at=NOW)
    assert catalog.read_part("one", "scope") == body
    assert list(catalog.parts("one", "scope")) == [("scope", body)]


def test_a_later_version_of_a_part_is_not_overwritten_by_an_earlier_one(catalog: Catalog):
    assert catalog.write_part("session-0", "p", {"n": 1}, at=NOW, version=1) is True
    assert catalog.write_part("session-0", "p", {"n": 0}, at=NOW, version=0) is False
    assert catalog.read_part("session-0", "p") == {"n": 1}
    assert catalog.write_part("session-0", "p", {"n": 2}, at=NOW, version=1) is True
    assert catalog.read_part("session-0", "p") == {"n": 2}
    catalog.remove_part("session-0", "p")
    assert catalog.write_part("session-0", "p", {"n": 3}, at=NOW, version=0) is True


def test_policies_are_switched_off_and_on(catalog: Catalog):
    assert catalog.is_switched_off("daily") is False
    catalog.switch_policy("daily", off=True)
    assert (catalog.is_switched_off("daily"), catalog.is_switched_off("weekly")) == (True, False)
    catalog.switch_policy("daily", off=False)
    assert catalog.is_switched_off("daily") is False


def test_who_switched_a_policy_last_and_when_is_kept(catalog: Catalog):
    assert catalog.switches() == {}
    catalog.switch_policy("daily", off=True, by="arn:aws:iam::999999999999:user/anna", at=NOW)
    catalog.switch_policy("größer # 1", off=True)
    catalog.switch_policy("größer # 1", off=False, by="arn:aws:iam::999999999999:user/tim", at=NOW)
    assert catalog.switches() == {
        "daily": Switch(True, "arn:aws:iam::999999999999:user/anna", NOW),
        "größer # 1": Switch(False, "arn:aws:iam::999999999999:user/tim", NOW),
    }


def test_restore_points_come_back_as_they_were_oldest_first(catalog: Catalog):
    points = [a_point(2), a_point(0), a_point(1, kind=Kind.BACKUP, repository="main", root_digest="ab")]
    for point in points:
        catalog.add_point(point)
    assert list(catalog.points(INSTANCE)) == [points[1], points[2], points[0]]
    assert list(catalog.points(INSTANCE, Kind.BACKUP)) == [points[2]]
    assert list(catalog.points("i-00000000000000000")) == []


def test_kinds_and_places_of_one_moment_stand_beside_each_other(catalog: Catalog):
    points = [
        a_point(kind=Kind.BACKUP, repository="main"),
        a_point(kind=Kind.BACKUP, repository="vault"),
        a_point(kind=Kind.REPLICA, region="eu-west-1"),
        a_point(kind=Kind.SNAPSHOT),
    ]
    for point in points:
        catalog.add_point(point)
    assert sorted(catalog.points(INSTANCE), key=repr) == sorted(points, key=repr)


def test_a_restore_point_is_stored_again_over_itself(catalog: Catalog):
    catalog.add_point(a_point())
    catalog.add_point(a_point(complete=False))
    assert [point.complete for point in catalog.points(INSTANCE)] == [False]


def test_the_configuration_goes_with_the_last_kind_of_its_point(catalog: Catalog):
    backup, snapshot = a_point(kind=Kind.BACKUP, repository="main"), a_point()
    catalog.add_point(backup, a_configuration("secret"))
    catalog.add_point(snapshot)
    catalog.remove_point(backup)
    assert catalog.configuration(INSTANCE, snapshot.point_id).user_data == "secret"
    catalog.remove_point(snapshot)
    with pytest.raises(NotFoundError):
        catalog.configuration(INSTANCE, snapshot.point_id)


def test_removing_a_point_leaves_the_others(catalog: Catalog):
    catalog.add_point(a_point(0))
    catalog.add_point(a_point(1))
    catalog.remove_point(a_point(0))
    catalog.remove_point(a_point(0))
    assert list(catalog.points(INSTANCE)) == [a_point(1)]


def test_points_of_all_instances_are_listed_by_time(catalog: Catalog):
    other = a_point(1, instance_id="i-0aaaaaaaaaaaaaaaa")
    for point in (a_point(2), other, a_point(0), a_point(24 * 35)):
        catalog.add_point(point)
    found = catalog.points_between(NOW, NOW + timedelta(hours=2))
    assert [point.point_id for point in found] == [a_point(0).point_id, other.point_id]


def test_only_records_of_sessions_expire(dynamo: Any):
    catalog = DynamoCatalog(dynamo, TABLE, timedelta(days=10))
    catalog.begin_session(a_session())
    catalog.write_part("session-0", "p", {}, at=NOW)
    catalog.add_point(a_point(), a_configuration())
    catalog.switch_policy("daily", off=True)
    items = {item["sk"]["S"].partition("#")[0]: item for item in dynamo.scan(TableName=TABLE)["Items"]}
    expiring = {name for name, item in items.items() if "expires_at" in item}
    assert expiring == {"SESSION", "PART"}
    assert items["PART"]["expires_at"]["N"] == str(int((NOW + timedelta(days=10)).timestamp()))


def test_records_are_kept_for_ever_when_asked_for(dynamo: Any):
    catalog = DynamoCatalog(dynamo, TABLE, None)
    catalog.begin_session(a_session())
    assert all("expires_at" not in item for item in dynamo.scan(TableName=TABLE)["Items"])


@pytest.mark.parametrize("record_for", [timedelta(days=1), timedelta(days=36_234), None])
def test_what_has_to_be_remembered_for_good_is_dated_far_ahead(dynamo: Any, record_for: timedelta | None):
    catalog = DynamoCatalog(dynamo, TABLE, record_for)
    policy_in_force = part_of("Produktion täglich", Kind.SNAPSHOT)
    catalog.write_part(IN_FORCE, policy_in_force, {"held": []}, at=FOR_GOOD)
    assert catalog.read_part(IN_FORCE, policy_in_force) == {"held": []}
    (item,) = dynamo.scan(TableName=TABLE)["Items"]
    assert float(item.get("expires_at", {"N": "inf"})["N"]) > datetime(8999, 1, 1, tzinfo=UTC).timestamp()


def test_what_can_never_fit_into_an_item_is_told(dynamo: Any):
    noise = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    with pytest.raises(PermanentError, match="catalog's items hold"):
        DynamoCatalog(dynamo, TABLE).write_part("one", "scope", {"noise": noise}, at=NOW)


def test_listings_go_on_after_a_page(dynamo: Any):
    catalog = DynamoCatalog(dynamo, TABLE)
    body = {"text": [f"{number:08}" * 40 for number in range(900)]}
    for number in range(60):
        catalog.write_part("one", f"outcome/{number:03}", body, at=NOW)
    assert len(list(catalog.parts("one", "outcome/"))) == 60
