"""The log of a session: products, tasks, and files for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.cli.output import Format, render
from holdfast.model.session import Outcome, Problem, Session, State
from tests.session_world import ACCOUNT, REGION, START
from tests.unit.cli.conftest import CommandWorld

Command = Callable[..., Any]


@pytest.fixture
def logged(aws: CommandWorld) -> str:
    """A session in which one instance did well and the backup of another failed."""
    made = Session(session_id="s1", policy="daily", slot=START, started_at=START, state=State.FAILED)
    aws.catalog.write_session(made)
    common = {"account": ACCOUNT, "region": REGION, "due": ("snapshot", "backup")}
    good = Outcome(instance_id="i-1", state=State.SUCCESS, kinds=("snapshot", "backup"), **common)
    problem = Problem(code="KeyUnavailable", message="The key is, well, disabled.", remedy="Enable it.")
    bad = Outcome(
        instance_id="i-2",
        instance_name="=cmd|' /C calc'!A0",
        state=State.FAILED,
        kinds=("snapshot",),
        problems=(problem,),
        **common,
    )
    for outcome in (good, bad):
        body = {"attempt": 0, "outcome": outcome.model_dump(mode="json")}
        aws.catalog.write_part("s1", f"outcome/{REGION}/{ACCOUNT}/{outcome.instance_id}", body, at=START)
    return "s1"


def test_a_session_shows_how_each_product_ended(holdfast: Command, logged: str) -> None:
    assert holdfast("session", "show", logged).result["products"] == {
        "snapshot": "Success",
        "backup": "Failed",
    }


def test_tasks_are_listed_with_the_reason_of_what_failed(holdfast: Command, logged: str) -> None:
    listed = holdfast("session", "tasks", logged).result
    assert [(one["instance_id"], one["task"], one["state"]) for one in listed] == [
        ("i-1", "snapshot", "Success"),
        ("i-1", "backup", "Success"),
        ("i-2", "snapshot", "Success"),
        ("i-2", "backup", "Failed"),
    ]
    assert [one["reason"] for one in listed] == ["", "", "", "KeyUnavailable: The key is, well, disabled."]
    assert listed[-1]["remedy"] == "Enable it."


def test_tasks_are_exported_as_a_file_that_runs_nothing_in_a_spreadsheet(
    holdfast: Command, logged: str
) -> None:
    ended = holdfast("session", "tasks", logged, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["task"] for row in rows] == ["snapshot", "backup"] * 2
    assert rows[-1]["reason"] == "KeyUnavailable: The key is, well, disabled."
    assert rows[-1]["instance_name"] == "'=cmd|' /C calc'!A0"


def test_tasks_of_an_unknown_session_are_exit_code_4(holdfast: Command, aws: CommandWorld) -> None:
    assert holdfast("session", "tasks", "nobody").code == 4


def test_what_was_neither_due_nor_made_is_no_task() -> None:
    stopped = Outcome(
        account=ACCOUNT, region=REGION, instance_id="i-1", state=State.STOPPED, due=("snapshot", "replica")
    )
    assert stopped.products == {"snapshot": State.STOPPED, "replica": State.STOPPED}
    assert stopped.model_copy(update={"due": ()}).products == {}


def test_values_that_are_not_rows_are_a_file_of_one_column() -> None:
    assert render(["a", "b"], Format.CSV) == "value\na\nb"
    assert render([], Format.CSV) == ""
