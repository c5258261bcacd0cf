"""Replicas, retries, notifications, locks and chains."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import Mailing
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.model.session import State
from holdfast.planning.attempts import health_check_due, is_told, mailings, recipients, to_retry
from holdfast.planning.chain import Link, contents, remove
from holdfast.planning.generations import extended, lock
from holdfast.planning.replication import Copy, Refusal, is_default_key, plan_copy
from holdfast.planning.selection import Target
from tests.vectors.policies import BASIS, REGION, configuration, policy

OWN = "444455556666"
KEY = "arn:aws:kms:eu-west-1:444455556666:key/target"
TRANSFER = "arn:aws:kms:us-east-1:444455556666:key/transfer"
MANAGED = "arn:aws:kms:us-east-1:444455556666:key/managed"


def volume(key: str = "") -> AttachedVolume:
    return AttachedVolume(
        volume_id="vol-0123456789abcdef0",
        device="/dev/xvda",
        size_bytes=1 << 30,
        encrypted=bool(key),
        kms_key_arn=key,
    )


def instance(*volumes: AttachedVolume, region: str = REGION) -> Instance:
    return Instance(instance_id="i-0123456789abcdef0", account=OWN, region=region, volumes=volumes)


def plan(target: dict, *volumes: AttachedVolume, region: str = REGION, managed: frozenset[str] = frozenset()):
    made = configuration(
        BASIS | {"replication": [{"source_region": REGION, "region": "eu-west-1"} | target]},
        roles=[
            {"name": "role", "arn": f"arn:aws:iam::{OWN}:role/HoldfastBackup"},
            {"name": "other", "arn": "arn:aws:iam::111122223333:role/HoldfastReplica", "external_id": "x"},
        ],
    )
    own = Target(OWN, f"arn:aws:iam::{OWN}:role/HoldfastBackup")
    return plan_copy(made, made.policies[0], instance(*volumes, region=region), own, managed)


def test_a_replica_in_the_same_account_is_copied_under_its_own_role():
    found = plan({}, volume())
    assert isinstance(found, Copy)
    assert (found.target.account, found.region, found.share, found.encrypted_only) == (
        OWN,
        "eu-west-1",
        False,
        True,
    )


def test_a_replica_in_another_account_is_shared_and_copied_by_the_target_role():
    found = plan(
        {"role": "other", "key_arn": KEY, "encrypt": "all"}, volume("arn:aws:kms:us-east-1:1:key/own")
    )
    assert isinstance(found, Copy)
    assert (found.target.account, found.target.external_id, found.share) == ("111122223333", "x", True)
    assert (found.key_arn, found.encrypted_only, found.transfer_key_arn) == (KEY, False, "")


def test_a_snapshot_under_the_default_key_travels_by_a_transfer_key_or_not_at_all():
    refused = plan({"role": "other", "key_arn": KEY}, volume(MANAGED), managed=frozenset({MANAGED}))
    assert isinstance(refused, Refusal)
    assert "cannot be shared" in refused.reason
    assert "transfer_key_arn" in refused.remedy
    target = {"role": "other", "key_arn": KEY, "transfer_key_arn": TRANSFER}
    found = plan(target, volume(MANAGED), managed=frozenset({MANAGED}))
    assert isinstance(found, Copy)
    assert found.transfer_key_arn == TRANSFER


def test_a_transfer_key_is_not_used_where_nothing_needs_it():
    found = plan(
        {"key_arn": KEY, "transfer_key_arn": TRANSFER}, volume(MANAGED), managed=frozenset({MANAGED})
    )
    assert isinstance(found, Copy)
    assert found.transfer_key_arn == ""


def test_within_an_account_a_snapshot_under_the_default_key_is_simply_copied():
    found = plan({"key_arn": KEY}, volume(MANAGED), managed=frozenset({MANAGED}))
    assert isinstance(found, Copy)
    assert not found.share


def test_a_region_without_a_target_is_a_warning_with_a_remedy():
    refused = plan({}, volume(), region="eu-central-1")
    assert isinstance(refused, Refusal)
    assert (refused.state, "eu-central-1" in refused.reason) == (State.WARNING, True)


def test_a_plain_volume_has_no_default_key():
    assert not is_default_key(volume(), frozenset({""}))


def test_only_failed_instances_of_scheduled_sessions_are_tried_again():
    outcomes = {"c": State.FAILED, "a": State.FAILED, "b": State.WARNING, "d": State.STOPPED}
    assert to_retry(outcomes, 0, 3) == ("a", "c")
    assert to_retry(outcomes, 3, 3) == ()
    assert to_retry(outcomes, 0, 3, manual=True) == ()
    assert to_retry(outcomes, 0, 3, stopped=True) == ()


def test_results_are_told_as_configured():
    mailing = Mailing(on_success=False, on_warning=True, on_failure=True)
    assert [is_told(mailing, state, last=True) for state in (State.SUCCESS, State.WARNING, State.FAILED)] == [
        False,
        True,
        True,
    ]
    assert not is_told(mailing, State.FAILED, last=False)
    assert is_told(mailing.model_copy(update={"last_retry_only": False}), State.FAILED, last=False)


def test_an_address_in_both_lists_gets_one_mail_by_the_settings_of_the_policy():
    of_policy = Mailing(recipients=("Ops@example.com",))
    everywhere = Mailing(recipients=("ops@example.com", "all@example.com"))
    found = recipients(of_policy, everywhere)
    assert found == (("Ops@example.com", of_policy), ("all@example.com", everywhere))
    assert recipients(None, everywhere) == (("ops@example.com", everywhere), ("all@example.com", everywhere))


def test_whoever_is_in_both_settings_is_told_once_by_those_of_the_policy():
    of_policy = Mailing(recipients=("Ops@example.com",), on_success=False)
    everywhere = Mailing(sender="us@example.com", recipients=("ops@example.com", "all@example.com"))
    special, general = mailings(of_policy, everywhere, "own-topic")
    assert (special.recipients, special.sender, special.topic_arn) == (
        ("Ops@example.com",),
        "us@example.com",
        "",
    )
    assert (general.recipients, general.topic_arn) == (("all@example.com",), "own-topic")
    assert mailings(None, everywhere, "own-topic")[0].recipients == everywhere.recipients
    named = everywhere.model_copy(update={"topic_arn": "theirs"})
    assert [one.topic_arn for one in mailings(of_policy, named, "own-topic")] == ["", "theirs"]
    same = of_policy.model_copy(update={"topic_arn": "theirs"})
    assert [one.topic_arn for one in mailings(same, named, "own-topic")] == ["theirs", ""]


def test_a_health_check_waits_for_success_or_the_last_retry_and_runs_once_a_day():
    check = policy(health_check={"run_on": {"ordinal": "last", "weekday": "sun"}}).health_check
    due = date(2026, 1, 25)
    assert health_check_due(check, due, [], State.WARNING, last=False)
    assert not health_check_due(check, due, [], State.FAILED, last=False)
    assert health_check_due(check, due, [], State.FAILED, last=True)
    assert not health_check_due(check, due, [due], State.SUCCESS, last=True)
    assert not health_check_due(check, date(2026, 1, 24), [], State.SUCCESS, last=True)
    assert not health_check_due(None, due, [], State.SUCCESS, last=True)


def test_the_first_backup_opens_a_generation_and_inherits_nothing():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = lock(start, Keep.model_validate("1 month"), Flag.DAILY, None, ZoneInfo("UTC"))
    assert (found.generation.number, found.extend_inherited) == (1, False)
    assert found.until == datetime(2026, 2, 26, tzinfo=UTC)


def test_a_lock_is_only_ever_extended():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert extended(None, now) == now
    assert extended(now, now) is None
    assert extended(now, now + timedelta(days=1)) == now + timedelta(days=1)


def test_removing_a_point_in_the_middle_changes_no_other():
    chain = [
        Link(1, True, {0: "a1", 1: "b1"}),
        Link(2, False, {0: "a2"}),
        Link(3, False, {1: "b3"}),
    ]
    left, dropped = remove(chain, {2})
    assert contents(left) == {1: {0: "a1", 1: "b1"}, 3: {0: "a2", 1: "b3"}}
    assert dropped == frozenset()
    assert remove(chain, {1, 2, 3}) == ((), frozenset({"a1", "b1", "a2", "b3"}))
