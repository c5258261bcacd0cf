"""Checks a state machine's definition when it is created.

What passes here can run: every state type, field and integration is known, every name leads somewhere, every
expression parses. The service's schema is the one that cfn-lint ships.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import jsonschema

from simulator.expressions import check, is_expression

_COMMON = {"Type", "Comment", "QueryLanguage", "Output"}
_FIELDS = {
    "Pass": _COMMON | {"Next", "End", "Assign"},
    "Succeed": _COMMON,
    "Fail": {"Type", "Comment", "QueryLanguage", "Error", "Cause"},
    "Choice": _COMMON | {"Choices", "Default", "Assign"},
    "Wait": _COMMON | {"Next", "End", "Assign", "Seconds", "Timestamp"},
    "Parallel": _COMMON | {"Next", "End", "Assign", "Branches", "Arguments", "Retry", "Catch"},
    "Task": _COMMON
    | {
        "Next",
        "End",
        "Assign",
        "Resource",
        "Arguments",
        "Retry",
        "Catch",
        "TimeoutSeconds",
        "HeartbeatSeconds",
    },
    "Map": _COMMON
    | {
        "Next",
        "End",
        "Assign",
        "Retry",
        "Catch",
        "Items",
        "ItemReader",
        "ItemSelector",
        "ItemBatcher",
        "ItemProcessor",
    }
    | {"ResultWriter", "MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage", "Label"},
}
_INTEGRATIONS = re.compile(
    r"arn:aws:states:::("
    r"lambda:invoke(\.waitForTaskToken)?"
    r"|states:startExecution(\.sync(:2)?|\.waitForTaskToken)?"
    r"|(sns:publish|sqs:sendMessage|events:putEvents)(\.waitForTaskToken)?"
    r"|dynamodb:(getItem|putItem|updateItem|deleteItem)"
    r"|aws-sdk:[a-z0-9]+:[a-zA-Z0-9]+(\.waitForTaskToken)?)"
    r"|arn:aws:lambda:[a-z0-9-]+:\d{12}:function:[\w-]+(:[\w$-]+)?"
)
_READERS = ("arn:aws:states:::s3:getObject", "arn:aws:states:::s3:listObjectsV2")
_WRITER = "arn:aws:states:::s3:putObject"


@functools.lru_cache(maxsize=256)
def load(text: str) -> dict[str, Any]:
    """Parse and check a definition; the result is shared and never changed.

    Raises ValueError naming the state and what is wrong with it.
    """
    try:
        machine: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the definition is not JSON: {error}") from error
    if machine.get("QueryLanguage") != "JSONata":
        raise ValueError("QueryLanguage must be JSONata; JSONPath definitions are not run here")
    _check_fields(machine, "")
    for error in _schema().iter_errors(_spelled_out(machine)):
        raise ValueError(f"{'/'.join(str(part) for part in error.absolute_path)}: {error.message}")
    _check_machine(machine, "")
    return machine


def _spelled_out(machine: Any) -> Any:
    """The machine with its query language in every state, where the schema looks for it."""
    if isinstance(machine, list):
        return [_spelled_out(item) for item in machine]
    if not isinstance(machine, dict):
        return machine
    spelled = {
        key: value if key in {"Arguments", "Output", "Assign"} else _spelled_out(value)
        for key, value in machine.items()
    }
    for state in spelled.get("States", {}).values():
        if state.get("Type") not in {"Succeed", "Fail"}:
            state["QueryLanguage"] = "JSONata"
    return spelled


@functools.cache
def _schema() -> jsonschema.Draft7Validator:
    source = resources.files("cfnlint.data.schemas.other.step_functions").joinpath("statemachine.json")
    return jsonschema.Draft7Validator(json.loads(source.read_text()))


def _check_fields(machine: Mapping[str, Any], where: str) -> None:
    for name, state in machine.get("States", {}).items():
        known = _FIELDS.get(state.get("Type"))
        if known is None:
            raise ValueError(f"state {where}{name}: there is no type {state.get('Type')!r}")
        if unknown := set(state) - known:
            raise ValueError(
                f"state {where}{name}: a JSONata {state['Type']} state has no field {sorted(unknown)}"
            )
        for inner in (state.get("ItemProcessor", {}), *state.get("Branches", ())):
            _check_fields(inner, f"{where}{name}/")


def _check_machine(machine: Mapping[str, Any], where: str) -> None:
    states = machine["States"]
    for name, state in states.items():
        place = f"{where}{name}"
        for target in _targets(state):
            if target not in states:
                raise ValueError(f"state {place}: there is no state {target!r} to go to")
        ends = state["Type"] in {"Succeed", "Fail", "Choice"} or state.get("End") is True or "Next" in state
        if not ends:
            raise ValueError(f"state {place}: has neither Next nor End")
        if state["Type"] == "Task" and not _INTEGRATIONS.fullmatch(state["Resource"]):
            raise ValueError(f"state {place}: the integration {state['Resource']} is not run here")
        if state["Type"] == "Map":
            _check_map(state, place)
        inner = [state["ItemProcessor"]] if state["Type"] == "Map" else state.get("Branches", [])
        for text in _strings(
            {key: value for key, value in state.items() if key not in {"ItemProcessor", "Branches"}}
        ):
            if is_expression(text):
                try:
                    check(text)
                except ValueError as error:
                    raise ValueError(f"state {place}: {error}") from error
        for branch in inner:
            _check_machine(branch, f"{place}/")
    if machine["StartAt"] not in states:
        raise ValueError(f"{where or 'machine'}: StartAt names {machine['StartAt']!r}, which is no state")


def _check_map(state: Mapping[str, Any], place: str) -> None:
    """Refuse what the service can read, run or write in a Map and the simulator cannot."""
    reader, writer = state.get("ItemReader", {}), state.get("ResultWriter", {})
    resource = reader.get("Resource", _READERS[0])
    kind = reader.get("ReaderConfig", {}).get("InputType", "JSON")
    config = state["ItemProcessor"].get("ProcessorConfig", {})
    for is_known, what in (
        (resource in _READERS, f"ItemReader {resource}"),
        (kind in {"JSON", "JSONL"}, f"InputType {kind}"),
        (config.get("ExecutionType", "STANDARD") == "STANDARD", "ExecutionType EXPRESS"),
        (writer.get("Resource", _WRITER) == _WRITER, f"ResultWriter {writer.get('Resource')}"),
        ("Resource" in writer or "ResultWriter" not in state, "ResultWriter without a Resource"),
    ):
        if not is_known:
            raise ValueError(f"state {place}: {what} is not run here")


def _targets(state: Mapping[str, Any]) -> Iterator[str]:
    for holder in (state, *state.get("Choices", ()), *state.get("Catch", ())):
        if "Next" in holder:
            yield holder["Next"]
    if "Default" in state:
        yield state["Default"]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
