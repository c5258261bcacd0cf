"""The state machines of a session as files: valid, and with the promises that no run would show missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint_all

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "state_machines"
FILES = sorted(path.name for path in FOLDER.glob("*.asl.json"))
REPEATED = {
    "TransientError",
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.Unknown",
    "Runtime.ExitError",  # the sandbox died
    "Runtime.OutOfMemory",
    "Sandbox.Timedout",
}
OURS = ["cell.asl.json", "close_window.asl.json", "retention.asl.json", "session.asl.json"]
NOTES = [
    "NoteProblem",
    "ReadProblem",
]  # calls of S3 itself: a note that fails never hides the failure it is about
UNDONE = {"AbandonReplica": "ReplicateSnapshots"}
"""States in which a function takes back what it did."""


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def tasks(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(state_name, state) for state_name, state in states(load(name)) if state["Type"] == "Task"]


def maps(name: str) -> dict[str, dict[str, Any]]:
    return {state_name: state for state_name, state in states(load(name)) if state["Type"] == "Map"}


@pytest.mark.parametrize("name", FILES)
def test_the_definition_is_valid(name: str):
    definition = re.sub(
        r"\$\{\w+\}", "arn:aws:lambda:eu-central-1:111122223333:function:f", (FOLDER / name).read_text()
    )
    template = {
        "Resources": {
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "RoleArn": "arn:aws:iam::111122223333:role/machine",
                    "DefinitionString": definition,
                },
            }
        }
    }
    found = [str(match) for match in lint_all(json.dumps(template)) if match.rule.id.startswith("E")]
    assert found == []


@pytest.mark.parametrize("name", OURS)
def test_every_task_calls_the_function_of_its_name_and_repeats_what_is_transient(name: str):
    for state_name, task in tasks(name):
        if state_name in NOTES:
            continue
        function, done_by = task["Arguments"]["FunctionName"], UNDONE.get(state_name, state_name)
        assert function == f"${{{done_by}FunctionArn}}"
        verb = re.sub(r"(?<!^)(?=[A-Z])", "_", done_by).lower()
        assert (ROOT / "functions" / f"{verb}.py").is_file()
        retried = {error for rule in task["Retry"] for error in rule["ErrorEquals"]}
        assert retried >= REPEATED
        assert retried.isdisjoint({"PermanentError", "IntegrityError", "States.ALL"})
        for rule in task["Retry"]:
            assert rule["JitterStrategy"] == "FULL"
            assert rule["BackoffRate"] > 1
            assert rule["MaxDelaySeconds"] <= 300
        assert task["TimeoutSeconds"] > 0


def test_every_failure_inside_an_instance_ends_in_its_conclusion():
    inner = maps("cell.asl.json")["ProtectInstances"]["ItemProcessor"]["States"]
    caught = {
        name: state.get("Catch", []) for name, state in inner.items() if state["Type"] in ("Task", "Map")
    }
    conclusion = caught.pop("ConcludeInstance")
    assert conclusion == []
    (segments,) = caught.pop("MoveSegments")
    assert (segments["ErrorEquals"], segments["Next"]) == (["States.ALL"], "ReadProblem")
    assert inner["ReadProblem"]["Next"] == "ReplicaDue"
    backup = {"PlanBackup", "ReadProblem", "CommitBackup"}
    after = {"ReplicateSnapshots": "AbandonReplica", **dict.fromkeys(backup, "ReplicaDue")}
    for name, rules in caught.items():
        told = [(rule["ErrorEquals"], rule["Next"]) for rule in rules]
        assert told == [(["States.ALL"], after.get(name, "ConcludeInstance"))], name


def test_a_replica_follows_whatever_became_of_the_backup_and_its_failure_undoes_nothing():
    inner = maps("cell.asl.json")["ProtectInstances"]["ItemProcessor"]["States"]
    assert inner["SnapshotsPending"]["Default"] == inner["CommitBackup"]["Next"] == "ReplicaDue"
    assert inner["ReplicaDue"]["Default"] == inner["AbandonReplica"]["Next"] == "ConcludeInstance"
    (caught,) = inner["ReplicateSnapshots"]["Catch"]
    assert caught["Assign"] == {"replica_error": "{% $states.errorOutput %}"}


def test_a_failed_instance_stops_no_other_and_a_failed_segment_fails_its_backup():
    found = maps("cell.asl.json")
    assert found["ProtectInstances"]["ToleratedFailurePercentage"] == 100
    assert found["MoveSegments"]["ToleratedFailurePercentage"] == 0
    for state in found.values():
        assert state["MaxConcurrency"] > 0
        assert state["ItemProcessor"]["ProcessorConfig"] == {
            "Mode": "DISTRIBUTED",
            "ExecutionType": "STANDARD",
        }
        assert state["ItemReader"]["Arguments"]["Bucket"] == "${WorkBucket}"


def test_why_a_segment_failed_is_read_where_it_was_noted():
    found = dict(states(load("cell.asl.json")))
    noted, read = (found[name]["Arguments"]["Key"] for name in NOTES)
    assert noted.replace("$segment.", "$item.") == read
    (rule,) = found["MoveSegment"]["Catch"]
    assert (rule["ErrorEquals"], rule["Next"]) == (["States.ALL"], "NoteProblem")
    assert [state["Next"] for state in (found["NoteProblem"], *found["NoteProblem"]["Catch"])] == [
        "SegmentFailed"
    ] * 2


def test_a_failed_region_stops_no_other():
    (region,) = maps("session.asl.json").values()
    (rule,) = region["ItemProcessor"]["States"]["StartCell"]["Catch"]
    assert (rule["ErrorEquals"], rule["Next"]) == (["States.ALL"], "RegionFailed")


def test_a_cell_ends_before_its_hub_gives_it_up():
    (region,) = maps("session.asl.json").values()
    waited = region["ItemProcessor"]["States"]["StartCell"]["TimeoutSeconds"]
    assert waited - 3600 <= load("cell.asl.json")["TimeoutSeconds"] < waited


def test_the_cell_always_reports():
    outer = load("cell.asl.json")["States"]
    assert {
        name for name, state in outer.items() if state.get("End") or state["Type"] in ("Succeed", "Fail")
    } == {"ReportCell"}
    for name in ("DiscoverInstances", "ProtectInstances"):
        assert [rule["Next"] for rule in outer[name]["Catch"]] == ["ReportCell"]


def test_retries_of_a_session_are_a_minute_apart():
    assert load("session.asl.json")["States"]["WaitBeforeRetry"]["Seconds"] == 60


@pytest.mark.parametrize("name", OURS)
def test_waits_are_states_and_everything_is_jsonata(name: str):
    machine = load(name)
    assert machine["QueryLanguage"] == "JSONata"
    for _, state in states(machine):
        assert not {"InputPath", "ResultPath", "OutputPath", "Parameters", "ItemsPath"} & state.keys()


def test_a_place_that_fails_stops_no_other_and_its_failure_is_written_down_once():
    (places,) = maps("retention.asl.json").values()
    assert places["ToleratedFailurePercentage"] == 100
    inner = places["ItemProcessor"]["States"]
    (rule,) = inner["RetainSnapshots"]["Catch"]
    assert (rule["ErrorEquals"], rule["Next"]) == (["States.ALL"], "PlaceDone")
    assert "$error != null" in rule["Output"]
    assert "'error': $error" in inner["RetainSnapshots"]["Arguments"]["Payload"]


def test_a_pass_always_leaves_a_record():
    outer = load("retention.asl.json")["States"]
    ways = {
        name: [rule["Next"] for rule in state["Catch"]] for name, state in outer.items() if "Catch" in state
    }
    assert ways == {
        "PlanRetention": ["ConcludeRetention"],
        "RetainPlaces": ["BackupsToo"],
        "ExpireBackups": ["ConcludeRetention"],
    }
    assert outer["BackupsToo"]["Default"] == "ConcludeRetention"
