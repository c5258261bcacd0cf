"""Removing restore points from the command line: what is shown, what is asked, what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError
from holdfast.model.restore_point import Kind, RestorePoint
from tests.session_world import ACCOUNT, REGION, START
from tests.unit.cli.conftest import ANNA, CommandWorld

Command = Callable[..., Any]
ONE, TWO = "i-00000000000000001", "i-00000000000000002"


@pytest.fixture
def stored(aws: CommandWorld) -> CommandWorld:
    """Two instances, each with a snapshot and the backup that was made of it."""
    for instance_id in (ONE, TWO):
        for hours, kind in ((0, Kind.SNAPSHOT), (0, Kind.BACKUP), (1, Kind.SNAPSHOT)):
            point = RestorePoint(
                point_id=f"p{hours}",
                kind=kind,
                account=ACCOUNT,
                region=REGION,
                instance_id=instance_id,
                instance_name="web",
                taken_at=START + timedelta(hours=hours),
                snapshot_ids={"vol-1": f"snap-{hours}"},
                repository="main" if kind is Kind.BACKUP else "",
                size_bytes=1 << 30,
                stored_bytes=1000 if kind is Kind.BACKUP else 0,
            )
            aws.catalog.add_point(point)
    return aws


def answered(aws: CommandWorld, monkeypatch: pytest.MonkeyPatch, **by_instance: Any) -> list[dict[str, Any]]:
    """Let the function answer that all went, or what ``by_instance`` says; the events it got."""
    from holdfast.cli.context import CommandContext

    events: list[dict[str, Any]] = []

    def invoke(function: str, event: dict[str, Any], *, region: str) -> dict[str, Any]:
        assert (function, region) == ("remove-points", REGION)
        events.append(event)
        told = by_instance.get(event["instance_id"].replace("-", ""), {})
        if isinstance(told, list):
            told = told.pop(0)
        if isinstance(told, Exception):
            raise told
        return {"removed": event["points"], "noted": [], "kept": [], "left": {}, "more": [], **told}

    monkeypatch.setattr(CommandContext, "invoke", staticmethod(invoke))
    return events


def test_what_goes_is_shown_with_count_size_and_dates(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(stored, monkeypatch)
    ended = holdfast("data", "remove", ONE, "--scope", "everything", "--dry-run")
    (plan,) = ended.result
    assert (plan["points"], plan["snapshots"], plan["backups"]) == (3, 2, 1)
    assert (plan["size_bytes"], plan["stored_bytes"]) == (3 << 30, 1000)
    assert (plan["oldest"][11:16], plan["newest"][11:16]) == ("07:00", "08:00")
    assert [note.partition(":")[0] for note in plan["notes"]] == [
        "The next backup has nothing to compare with",
        "Backups are deleted by retention a day later; until then `holdfast data keep` keeps them.",
        "No restore point of this instance is left.",
    ]
    assert len(plan["would_remove"]) == 3
    assert events == []


def test_exactly_what_was_shown_is_asked_for(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(stored, monkeypatch)
    ended = holdfast("data", "remove", ONE, "--scope", "local-snapshots", "--yes")
    place = f"{ACCOUNT}:{REGION}"
    points = [f"snapshot/p0/{place}", f"snapshot/p1/{place}"]
    assert (ended.code, ended.result[0]["removed"]) == (0, points)
    assert events == [
        {"instance_id": ONE, "scope": "local-snapshots", "points": points, "by": ANNA, "take_back": False}
    ]
    assert "points: 2" in ended.err


def test_one_instance_that_fails_stops_no_other(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"i00000000000000001": AccessDeniedError("No role there.")}
    events = answered(stored, monkeypatch, **told)
    ended = holdfast("data", "remove", ONE, TWO, "--scope", "snapshots", "--yes")
    assert (ended.code, len(events)) == (3, 2)
    assert ended.result[0]["error"] == "No role there."
    assert len(ended.result[1]["removed"]) == 2


@pytest.mark.parametrize("removed,code", [([], 1), (["snapshot/p0/x"], 3)])
def test_what_stays_is_told_and_is_an_exit_code(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch, removed: list[str], code: int
) -> None:
    answered(
        stored, monkeypatch, i00000000000000001={"removed": removed, "left": {"snapshot/p1/x": "locked"}}
    )
    ended = holdfast("data", "remove", ONE, "--scope", "snapshots", "--yes")
    assert (ended.code, ended.result[0]["left"]) == (code, {"snapshot/p1/x": "locked"})


def test_what_one_call_has_no_time_for_is_asked_for_again(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(
        stored, monkeypatch, i00000000000000001=[{"removed": ["a"], "more": ["b"]}, {"removed": ["b"]}]
    )
    ended = holdfast("data", "remove", ONE, "--scope", "snapshots", "--yes")
    assert (ended.code, ended.result[0]["removed"], events[1]["points"]) == (0, ["a", "b"], ["b"])


def test_a_function_that_gets_nowhere_is_not_asked_for_ever(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = {"removed": [], "more": [f"snapshot/p{one}/{ACCOUNT}:{REGION}" for one in (0, 1)]}
    events = answered(stored, monkeypatch, i00000000000000001=stuck)
    ended = holdfast("data", "remove", ONE, "--scope", "snapshots", "--yes")
    assert (ended.code, len(events)) == (1, 1)
    assert "had no time" in ended.result[0]["error"]


def test_nothing_is_removed_when_nobody_confirms(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(stored, monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert holdfast("data", "remove", ONE, "--scope", "snapshots").code == 2
    assert events == []


@pytest.mark.parametrize("typed,code,calls", [(ONE, 0, 1), ("yes", 1, 0), (TWO, 1, 0)])
def test_a_person_types_the_id_of_the_instance(
    holdfast: Command,
    stored: CommandWorld,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    code: int,
    calls: int,
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self, *_: Any) -> str:
            return f"{typed}\n"

        def __iter__(self) -> Iterator[str]:
            return iter([f"{typed}\n"])

    events = answered(stored, monkeypatch)
    monkeypatch.setattr("sys.stdin", Terminal())
    assert (holdfast("data", "remove", ONE, "--scope", "snapshots").code, len(events)) == (code, calls)


def test_an_instance_without_such_points_is_done(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(stored, monkeypatch)
    ended = holdfast("data", "remove", ONE, "--scope", "replicas")
    assert (ended.code, events, ended.result[0]["removed"]) == (0, [], [])


def test_noted_backups_are_kept_after_all(
    holdfast: Command, stored: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = answered(stored, monkeypatch, i00000000000000001={"removed": [], "kept": ["backup/p0/main"]})
    ended = holdfast("data", "keep", ONE)
    assert (ended.code, ended.result[0]["kept"]) == (0, ["backup/p0/main"])
    assert events[0]["take_back"] is True


def test_a_scope_has_to_be_named(holdfast: Command, stored: CommandWorld) -> None:
    assert holdfast("data", "remove", ONE, "--yes").code == 2
    assert holdfast("data", "remove", ONE, "--scope", "all", "--yes").code == 2
