"""Commands that restore, take snapshots, run policies and list what there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, NotFoundError
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Outcome, Session, State
from tests.session_world import ACCOUNT, REGION, START

INSTANCE = "i-0123456789abcdef0"
Command = Callable[..., Any]


def add(aws: Any, point_id: str, kind: Kind = Kind.BACKUP, *, hours: int = 0, **changes: Any) -> RestorePoint:
    point = RestorePoint(
        point_id=point_id,
        kind=kind,
        account=ACCOUNT,
        region=REGION,
        instance_id=INSTANCE,
        taken_at=START + timedelta(hours=hours),
        repository="main" if kind is Kind.BACKUP else "",
    ).model_copy(update=changes)
    aws.catalog.add_point(point)
    return point


def volume(*words: str) -> tuple[str, ...]:
    return ("restore", "volume", "--instance", INSTANCE, "--availability-zone", f"{REGION}a", *words)


def request(aws: Any) -> Any:
    ((_, _, event, _),) = aws.started
    return event


def test_points_are_listed_oldest_first_with_everything_a_restore_asks_for(
    holdfast: Command, aws: Any
) -> None:
    add(aws, "p2", hours=1, flags=frozenset({Flag.WEEKLY, Flag.DAILY}), keep_until=START)
    add(aws, "p1", Kind.SNAPSHOT)
    listed = holdfast("points", "list", "--instance", INSTANCE).result
    assert [(point["point_id"], point["kind"], point["flags"]) for point in listed] == [
        ("p1", "snapshot", ""),
        ("p2", "backup", "DW"),
    ]
    only = holdfast("points", "list", "--instance", INSTANCE, "--kind", "backup", "--query", "[].point_id")
    assert only.result == ["p2"]


def test_the_latest_point_is_restored_without_a_wish(holdfast: Command, aws: Any) -> None:
    aws.outputs["restore"] = {"finished": True}
    add(aws, "p1")
    add(aws, "p2", hours=1)
    ended = holdfast(*volume("--yes", "--reason", "drill"))
    assert (ended.code, ended.result) == (0, {"finished": True})
    ((machine, name, event, region),) = aws.started
    assert (machine, region) == ("restore", REGION)
    assert event == {
        "restore_id": name,
        "kind": "volume",
        "instance_id": INSTANCE,
        "point_id": "p2",
        "repository": "main",
        "source_account": ACCOUNT,
        "volume_ids": [],
        "reason": "drill",
        "target": {
            "account": ACCOUNT,
            "region": REGION,
            "availability_zone": f"{REGION}a",
            "kms_key_arn": "",
            "tags": {},
        },
    }


def test_of_one_instant_the_backup_is_taken_before_the_snapshot(holdfast: Command, aws: Any) -> None:
    aws.outputs["restore"] = {}
    add(aws, "p1", Kind.SNAPSHOT)
    add(aws, "p1")
    holdfast(*volume("--yes"))
    assert request(aws)["repository"] == "main"


def test_a_point_that_is_incomplete_is_not_offered(holdfast: Command, aws: Any) -> None:
    add(aws, "p1", complete=False)
    ended = holdfast(*volume("--yes"))
    assert (ended.code, aws.started) == (4, [])


@pytest.mark.parametrize("point", [(), ("--point", "p9")])
def test_a_point_that_is_not_there_is_exit_code_4_and_how_to_find_one(
    holdfast: Command, aws: Any, point: tuple[str, ...]
) -> None:
    ended = holdfast(*volume("--yes", *point))
    assert (ended.code, "holdfast points list" in ended.err) == (4, True)


def test_in_another_region_the_copy_there_is_used_not_the_snapshot_here(holdfast: Command, aws: Any) -> None:
    aws.outputs["restore"] = {}
    add(aws, "p1", Kind.REPLICA, region="eu-west-1")
    add(aws, "p2", Kind.SNAPSHOT, hours=1)
    holdfast(*volume("--yes", "--region", "eu-west-1"))
    assert (request(aws)["point_id"], request(aws)["target"]["region"]) == ("p1", "eu-west-1")


def test_a_dry_run_shows_the_request_and_starts_nothing(holdfast: Command, aws: Any) -> None:
    add(aws, "p1")
    ended = holdfast(*volume("--dry-run", "--volume", "vol-1", "--volume", "vol-2", "--tag", "a=b=c"))
    assert ended.result["would_restore"]["volume_ids"] == ["vol-1", "vol-2"]
    assert ended.result["would_restore"]["target"]["tags"] == {"a": "b=c"}
    assert aws.started == []


@pytest.mark.parametrize("word", ["owner", "=web", ""])
def test_a_tag_is_key_and_value(holdfast: Command, aws: Any, word: str) -> None:
    ended = holdfast(*volume("--yes", "--tag", word))
    assert (ended.code, "KEY=VALUE" in ended.err) == (1, True)


def test_nothing_is_restored_unasked(holdfast: Command, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    add(aws, "p1")
    assert (holdfast(*volume()).code, aws.started) == (2, [])


@pytest.mark.parametrize(
    "words,encrypted,key",
    [(("--encrypted",), True, ""), (("--kms-key", "arn:k"), True, "arn:k"), ((), None, "")],
)
def test_encryption_is_as_the_source_was_unless_asked(
    holdfast: Command, aws: Any, words: tuple[str, ...], encrypted: bool | None, key: str
) -> None:
    aws.outputs["restore"] = {}
    add(aws, "p1")
    holdfast(*volume("--yes", *words))
    target = request(aws)["target"]
    assert (target.get("encrypted"), target["kms_key_arn"]) == (encrypted, key)


def test_a_restore_that_failed_is_told_as_its_function_did(holdfast: Command, aws: Any) -> None:
    aws.outputs["restore"] = AccessDeniedError(
        "ec2:CreateVolume was denied.", resource="role/HoldfastRestore"
    )
    add(aws, "p1")
    ended = holdfast(*volume("--yes"))
    assert (ended.code, "role/HoldfastRestore: ec2:CreateVolume was denied." in ended.err) == (1, True)


def test_an_interrupted_wait_tells_what_goes_on(holdfast: Command, aws: Any) -> None:
    aws.outputs["restore"] = KeyboardInterrupt()
    add(aws, "p1")
    ended = holdfast(*volume("--yes"))
    assert (ended.code, "goes on in AWS: arn:aws:states:" in ended.err) == (130, True)


@pytest.mark.parametrize(
    "profile,arn,none",
    [("arn:aws:iam::1:instance-profile/p",) * 2 + (False,), ("none", "", True), ("", "", False)],
)
def test_an_instance_is_restored_with_the_settings_given(
    holdfast: Command, aws: Any, profile: str, arn: str, none: bool
) -> None:
    aws.outputs["restore"] = {}
    add(aws, "p1")
    ended = holdfast(
        "restore", "instance", "--instance", INSTANCE, "--name", "copy", "--instance-type", "m7i.large",
        "--subnet", "subnet-1", "--security-group", "sg-1", "--security-group", "sg-2", "--key-name", "admin",
        "--instance-profile", profile, "--encrypted", "--account", "444455556666", "--yes",
    )  # fmt: skip
    assert ended.code == 0
    assert request(aws)["instance"] == {
        "name": "copy",
        "instance_type": "m7i.large",
        "subnet_id": "subnet-1",
        "security_group_ids": ["sg-1", "sg-2"],
        "key_name": "admin",
        "instance_profile_arn": arn,
        "no_instance_profile": none,
    }
    assert request(aws)["target"]["account"] == "444455556666"


def test_a_manual_snapshot_is_asked_for_once(holdfast: Command, aws: Any) -> None:
    aws.answers["take-manual-snapshot"] = {"point_id": "p1", "copying": False}
    ended = holdfast("snapshot", INSTANCE, "--account", ACCOUNT, "--keep-days", "7", "--tag", "a=b")
    assert ended.code == 0
    ((function, event, region),) = aws.invoked
    assert (function, region) == ("take-manual-snapshot", REGION)
    assert len(event.pop("request_id")) == 12  # type: ignore[attr-defined]
    assert event == {
        "instance_id": INSTANCE,
        "account": ACCOUNT,
        "region": REGION,
        "role": "",
        "keep_days": 7,
        "tags": {"a": "b"},
    }


def test_a_copy_is_waited_for_when_asked(holdfast: Command, aws: Any) -> None:
    aws.answers["take-manual-snapshot"] = {"point_id": "p1", "copying": True}
    aws.outputs["manual-snapshot"] = {"done": True, "copies": {"vol-1": "snap-2"}}
    ended = holdfast("snapshot", INSTANCE, "--copy-region", "eu-west-1", "--wait")
    assert ended.result["copies"] == {"vol-1": "snap-2"}
    assert aws.invoked[0][1]["copy_to"] == {
        "region": "eu-west-1",
        "account": "",
        "role": "",
        "kms_key_arn": "",
    }


def test_a_snapshot_is_waited_for_when_asked(holdfast: Command, aws: Any) -> None:
    aws.answers["take-manual-snapshot"] = {"point_id": "p1", "copying": False, "state": "pending"}
    aws.outputs["manual-snapshot"] = {"done": True, "copies": {}}
    ended = holdfast("snapshot", INSTANCE, "--wait")
    assert ended.result == {"point_id": "p1", "copying": False, "state": "complete"}


def test_a_key_for_no_copy_is_wrong_usage(holdfast: Command, aws: Any) -> None:
    assert (holdfast("snapshot", INSTANCE, "--copy-kms-key", "arn:k").code, aws.invoked) == (2, [])


def session(aws: Any, state: State) -> str:
    made = Session(session_id="s1", policy="daily", slot=START, started_at=START, ended_at=START, state=state)
    aws.catalog.write_session(made)
    outcome = Outcome(account=ACCOUNT, region=REGION, instance_id=INSTANCE, state=state)
    aws.catalog.write_part("s1", "outcome/x", {"outcome": outcome.model_dump(mode="json")}, at=START)
    return made.session_id


@pytest.mark.parametrize(
    "state,code", [(State.SUCCESS, 0), (State.WARNING, 3), (State.FAILED, 1), (State.RUNNING, 0)]
)
def test_a_session_is_shown_with_every_instance_and_its_state_as_exit_code(
    holdfast: Command, aws: Any, state: State, code: int
) -> None:
    ended = holdfast("session", "show", session(aws, state))
    assert (ended.code, ended.result["state"]) == (code, state.value)
    assert [outcome["instance_id"] for outcome in ended.result["instances"]] == [INSTANCE]


def test_an_unknown_session_is_exit_code_4(holdfast: Command, aws: Any) -> None:
    assert holdfast("session", "show", "nothing").code == 4


def test_sessions_are_listed_as_far_back_as_asked(holdfast: Command, aws: Any) -> None:
    session(aws, State.SUCCESS)
    aws.clock.advance(timedelta(days=3))
    assert [one["session_id"] for one in holdfast("session", "list").result] == ["s1"]
    assert holdfast("session", "list", "--days", "2").result == []


def test_policies_are_listed_with_their_next_slot(holdfast: Command, aws: Any) -> None:
    (listed,) = holdfast("policy", "list").result
    assert (listed["name"], listed["scope"], listed["repository"]) == ("daily", "production", "main")
    slots = holdfast("policy", "slots", "daily", "--count", "3").result
    assert [slot["at"] for slot in slots] == sorted(slot["at"] for slot in slots)
    assert (len(slots), listed["next"]) == (3, slots[0]["at"])


def test_a_policy_is_started_without_waiting(holdfast: Command, aws: Any) -> None:
    aws.answers["start-session"] = {"started": True, "session_id": "s1"}
    ended = holdfast("policy", "start", "daily")
    assert ended.result == {"started": True, "session_id": "s1"}
    assert aws.invoked == [("start-session", {"policy": "daily", "manual": True}, REGION)]


@pytest.mark.parametrize("state,code", [(State.SUCCESS, 0), (State.WARNING, 3), (State.FAILED, 1)])
def test_a_policy_that_is_waited_for_ends_as_its_session_did(
    holdfast: Command, aws: Any, state: State, code: int
) -> None:
    aws.answers["start-session"] = {"started": True, "session_id": session(aws, state)}
    aws.outputs["session"] = {}
    ended = holdfast("policy", "start", "daily", "--wait")
    assert (ended.code, ended.result["state"]) == (code, state.value)


def test_an_unknown_policy_is_exit_code_4_with_those_there_are(holdfast: Command, aws: Any) -> None:
    ended = holdfast("policy", "start", "weekly")
    assert (ended.code, "The configuration has: daily." in ended.err) == (4, True)


def test_a_function_that_failed_is_told_as_it_said(holdfast: Command, aws: Any) -> None:
    aws.answers["start-session"] = NotFoundError("There is no such policy.")
    assert holdfast("policy", "start", "daily").code == 4
