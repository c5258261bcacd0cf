"""The composition root: which role enters which account, what is made once, and what is never made."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from holdfast.aws.ebs import EbsSnapshotReader, EbsSnapshotWriter
from holdfast.bootstrap import Services, World
from holdfast.bundle import dump_bundle
from holdfast.errors import ConfigurationError, KeyUnavailableError, NotFoundError
from holdfast.metrics import publish
from holdfast.model.ids import metric_label
from holdfast.settings import Settings
from holdfast.stores.lists import StoredLists
from tests.memory_store import MemoryStore
from tests.repository_builders import FixedClock, SeededIds
from tests.session_world import ACCOUNT, POLICY, REGION, configured

COMPANY = {
    "name": "company",
    "management_role": "arn:aws-us-gov:iam::777777777777:role/HoldfastOrganization",
    "external_id": "agreed",
}


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def services(tmp_path: Path, *, endpoints: dict[str, str] | None = None, **changes: Any) -> Services:
    bundle = tmp_path / "configuration.json"
    bundle.write_text(dump_bundle(configured(**changes)))
    settings = Settings(
        installation="holdfast",
        hub_region=REGION,
        configuration=str(bundle),
        table_name="holdfast-catalog",
        work_bucket="holdfast-work",
    )
    world = World(
        settings.render() | {"AWS_REGION": "eu-west-1"},
        FixedClock(),
        SeededIds(),
        lambda: boto3.Session(region_name=REGION),
        endpoints or {},
    )
    return Services(world)


def role_of(given: Services, policy: str, account: str) -> tuple[str, str]:
    role = given._policy_role(policy, account)
    return role.role_arn, role._external_id


def test_a_policy_of_an_account_enters_by_its_role(tmp_path: Path):
    assert role_of(services(tmp_path), POLICY, ACCOUNT) == (
        f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup",
        "x" * 20,
    )


def test_a_policy_never_enters_an_account_that_its_role_is_not_of(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="does not enter account 444455556666"):
        role_of(services(tmp_path), POLICY, "444455556666")


def test_a_policy_of_an_organization_enters_by_the_members_role(tmp_path: Path):
    given = services(tmp_path, source={"organization": "company"}, organizations=[COMPANY])
    assert role_of(given, POLICY, "444455556666") == (
        "arn:aws-us-gov:iam::444455556666:role/HoldfastBackup",
        "agreed",
    )


def test_names_that_are_not_configured_are_told(tmp_path: Path):
    given = services(tmp_path)
    with pytest.raises(ConfigurationError, match="'nightly' under `policies`"):
        given.spoke("nightly", ACCOUNT, REGION)
    with pytest.raises(ConfigurationError, match="'vault' under `repositories`"):
        given.repository("vault")


def test_adapters_are_made_once_per_world(tmp_path: Path, aws: None):
    given = services(tmp_path)
    assert given.catalog is Services(given.world).catalog
    assert given.executions(REGION) is given.executions(REGION)
    assert given.executions(REGION) is not given.executions("eu-west-1")
    assert given.spoke(POLICY, ACCOUNT, REGION) is given.spoke(POLICY, ACCOUNT, REGION)


def test_nothing_connects_before_it_is_used(tmp_path: Path):
    """Without moto and without a network: making the services of an invocation touches nothing."""
    given = services(tmp_path)
    assert given.configuration.policies[0].name == POLICY
    assert isinstance(given.reader(POLICY, ACCOUNT, REGION), EbsSnapshotReader)
    assert isinstance(given.snapshot_writer(ACCOUNT, REGION), EbsSnapshotWriter)
    assert given.remaining() == float("inf")


def test_records_are_kept_at_least_as_long_as_configured(tmp_path: Path):
    assert services(tmp_path)._record_for() == timedelta(days=93)
    assert services(tmp_path, session_records="all")._record_for() is None
    assert services(tmp_path, session_records="2 years")._record_for() == timedelta(days=732)


def test_a_repository_that_never_was_is_only_created_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = MemoryStore()
    given = services(tmp_path)
    monkeypatch.setattr(Services, "object_store", lambda self, bucket, region, prefix: store)
    with pytest.raises(NotFoundError):
        given.repository("main")
    made = given.repository("main", create=True)
    assert given.repository("main") is made
    assert made.owner().installation == "holdfast"


def test_an_open_repository_is_opened_anew_after_a_while_and_for_every_new_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = MemoryStore()
    monkeypatch.setattr(Services, "object_store", lambda self, bucket, region, prefix: store)
    given = services(tmp_path)
    first = given.repository("main", create=True)
    assert given.repository("main") is first
    clock = given.world.clock
    assert isinstance(clock, FixedClock)
    clock.advance(timedelta(minutes=6))
    second = given.repository("main")
    clock.advance(timedelta(seconds=1))
    assert second is not first
    assert given.repository("main", create=True) is not second


def test_two_programs_that_create_a_repository_at_once_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = MemoryStore()
    monkeypatch.setattr(Services, "object_store", lambda self, bucket, region, prefix: store)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = services(tmp_path / "a"), services(tmp_path / "b")
    plain = store.put_new

    def put_new(key: str, content: bytes, **more: Any) -> None:
        store.put_new = plain  # type: ignore[method-assign]
        first.repository("main", create=True)
        plain(key, content, **more)

    store.put_new = put_new  # type: ignore[method-assign]
    assert second.repository("main", create=True).id == first.repository("main").id


def test_a_password_that_cannot_be_read_is_a_key_that_is_not_available(tmp_path: Path, aws: None):
    secret = f"arn:aws:secretsmanager:{REGION}:999999999999:secret:gone-AbCdEf"
    given = services(
        tmp_path,
        repositories=[
            {
                "name": "main",
                "bucket": "holdfast-main",
                "region": REGION,
                "encryption": {"kind": "password", "secret_arn": secret},
            }
        ],
    )
    with pytest.raises(KeyUnavailableError):
        given.repository("main")


def test_metrics_are_one_line_with_the_policy_as_dimension():
    stream = io.StringIO()
    publish(
        {"Instances": 3, "BytesStored": 5, "DurationSeconds": 7}, policy="daily", namespace="H", stream=stream
    )
    line = json.loads(stream.getvalue())
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert described["Namespace"] == "H"
    assert described["Dimensions"] == [["Policy"]]
    assert (line["Policy"], line["Instances"], line["BytesStored"]) == ("daily", [3.0], [5.0])
    assert {one["Name"]: one["Unit"] for one in described["Metrics"]} == {
        "Instances": "Count",
        "BytesStored": "Bytes",
        "DurationSeconds": "Seconds",
    }


def test_a_policy_with_any_name_has_metrics_that_its_alarm_finds():
    stream = io.StringIO()
    publish({"Sessions": 1}, policy="Täglich", namespace="H", stream=stream)
    assert json.loads(stream.getvalue())["Policy"] == metric_label("Täglich") != "Täglich"


def test_metrics_of_the_installation_have_no_dimension():
    stream = io.StringIO()
    publish({"AccountsNew": 1}, policy="", namespace="H", stream=stream)
    line = json.loads(stream.getvalue())
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[]]
    assert line["AccountsNew"] == [1.0]


def test_a_list_is_written_again_over_itself():
    lists = StoredLists(MemoryStore())
    lists.write("sessions/one/items.json", [1])
    lists.write("sessions/one/items.json", [{"name": "Ünïcode"}])
    lists.write("sessions/two/items.json", [])
    assert lists.read("sessions/one/items.json") == [{"name": "Ünïcode"}]
    assert list(lists.keys("sessions/one/")) == ["sessions/one/items.json"]
    with pytest.raises(NotFoundError):
        lists.read("sessions/none")
