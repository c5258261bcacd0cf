"""What every handler wears: parsing, error names, logs without secrets, the deadline."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from holdfast import errors
from holdfast.bootstrap import Services, World, installed, world
from holdfast.edge import IntegrityError, PermanentError, TransientError, entrypoint
from holdfast.operations.steps import StateError
from tests.repository_builders import FixedClock, SeededIds


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 42_000


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policy: str
    count: int = 0


@dataclass(frozen=True)
class Lean:
    segment: list[int]
    cursor: int = 0


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    token = installed.set(World({}, FixedClock(), SeededIds(), lambda: None, log=stream))
    yield stream
    installed.reset(token)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def call(request: Any, operation: Any, event: dict[str, Any]) -> dict[str, Any]:
    return entrypoint(request, operation)(event, Context())


def raising(error: Exception) -> Any:
    def operation(request: Wanted, services: Services) -> dict[str, Any]:
        raise error

    return operation


@pytest.mark.parametrize(
    "error, family, code",
    [
        (errors.ThrottledError("slow", resource="arn"), TransientError, "Throttled"),
        (errors.UnavailableError("no answer"), TransientError, "Unavailable"),
        (errors.AccessDeniedError("denied", remedy="Allow it."), PermanentError, "AccessDenied"),
        (errors.SourceGoneError("gone"), PermanentError, "SourceGone"),
        (errors.DamagedError("damaged"), IntegrityError, "Damaged"),
        (errors.HoldfastError("plain"), PermanentError, "Error"),
        (RuntimeError("a defect"), PermanentError, "Unexpected"),
    ],
)
def test_errors_leave_as_one_of_three_names_with_json_inside(
    error: Exception, family: type[Exception], code: str, log: io.StringIO
):
    with pytest.raises(Exception, match="code") as caught:
        call(Wanted, raising(error), {"policy": "daily"})
    assert type(caught.value) is family
    assert type(caught.value).__name__ in ("TransientError", "PermanentError", "IntegrityError")
    told = json.loads(str(caught.value))
    assert told["code"] == code
    assert set(told) == {"code", "message", "resource", "remedy"}


def test_what_a_handler_raises_is_what_an_outcome_tells(log: io.StringIO):
    error = errors.KeyUnavailableError("The key is disabled.", resource="arn:key", remedy="Enable it.")
    with pytest.raises(PermanentError) as caught:
        call(Wanted, raising(error), {"policy": "daily"})
    cause = json.dumps({"errorMessage": str(caught.value), "errorType": "PermanentError", "stackTrace": []})
    problem = StateError(Error="PermanentError", Cause=cause).problem(resource="i-1")
    assert (problem.code, problem.message, problem.resource, problem.remedy) == (
        "KeyUnavailable",
        "The key is disabled.",
        "arn:key",
        "Enable it.",
    )


@pytest.mark.parametrize(
    "error, cause, code",
    [
        ("Sandbox.Timedout", '{"errorMessage": "Task timed out after 900.00 seconds"}', "Timedout"),
        ("States.Timeout", "", "Timeout"),
        ("States.ItemReaderFailed", "Access denied", "ItemReaderFailed"),
        ("Lambda.Unknown", "The cause is not JSON: {", "Unknown"),
        ("Lambda.Unknown", "[1, 2]", "Unknown"),
    ],
)
def test_what_services_say_by_themselves_is_told_too(error: str, cause: str, code: str):
    problem = StateError(Error=error, Cause=cause).problem(resource="i-1")
    assert (problem.code, problem.resource) == (code, "i-1")
    assert problem.message


def test_an_event_that_is_wrong_names_the_field_and_not_its_value(log: io.StringIO):
    with pytest.raises(PermanentError) as caught:
        call(Wanted, raising(RuntimeError()), {"policy": "daily", "count": "hunter2", "more": "hunter3"})
    told = json.loads(str(caught.value))
    assert told["code"] == "Configuration"
    assert "count" in told["message"]
    assert "more" in told["message"]
    assert "hunter" not in told["message"]
    assert "hunter" not in log.getvalue()


def test_a_dataclass_takes_the_keys_that_it_names(log: io.StringIO):
    answer = call(
        Lean, lambda request, services: {"cursor": request.cursor}, {"segment": [0], "cursor": 7, "x": 1}
    )
    assert answer == {"cursor": 7}


def test_a_dataclass_without_a_key_that_it_needs_is_a_configuration_error(log: io.StringIO):
    with pytest.raises(PermanentError, match="segment"):
        call(Lean, lambda request, services: {}, {"cursor": 7})


def test_the_operation_knows_how_much_time_is_left(log: io.StringIO):
    answer = call(Wanted, lambda request, services: {"left": services.remaining()}, {"policy": "daily"})
    assert answer == {"left": 42.0}


def test_log_lines_carry_session_and_policy_and_end_with_the_call(log: io.StringIO):
    event = {"policy": "daily", "session_id": "20261122T070000Z-daily-1"}

    class Session(BaseModel):
        policy: str

    with pytest.raises(TransientError):
        call(Session, raising(errors.ThrottledError("slow")), event)
    with pytest.raises(PermanentError):
        call(Wanted, raising(errors.SourceGoneError("gone")), {"policy": "weekly"})
    first, second = lines(log)
    assert (first["correlation_id"], first["policy"], first["level"]) == (
        "20261122T070000Z-daily-1",
        "daily",
        "WARNING",
    )
    assert (second.get("correlation_id"), second["policy"], second["level"]) == (None, "weekly", "ERROR")


def test_a_defect_is_logged_with_its_trace(log: io.StringIO):
    with pytest.raises(PermanentError):
        call(Wanted, raising(ZeroDivisionError("x")), {"policy": "daily"})
    (line,) = lines(log)
    assert (line["reason"], "test_edge.py" in line["trace"]) == ("ZeroDivisionError: x", True)


def test_a_value_that_a_validation_refuses_inside_is_neither_told_nor_logged(log: io.StringIO):
    secret = "hunter" + str(2)

    def operation(request: Wanted, services: Services) -> dict[str, Any]:
        return {"never": Wanted.model_validate({"policy": [secret]})}

    with pytest.raises(PermanentError) as caught:
        call(Wanted, operation, {"policy": "daily"})
    assert "policy: Input should be a valid string" in str(caught.value)
    assert secret not in str(caught.value) + log.getvalue()


def test_lines_of_the_library_carry_the_session_too(log: io.StringIO):
    class Session(BaseModel):
        session_id: str

    def operation(request: Session, services: Services) -> dict[str, Any]:
        logging.getLogger("holdfast.operations.somewhere").info("a step of %s", "i-1")
        return {}

    call(Session, operation, {"session_id": "20261122T070000Z-daily-1"})
    (line,) = lines(log)
    assert (line["message"], line["correlation_id"]) == ("a step of i-1", "20261122T070000Z-daily-1")


def test_neither_events_nor_answers_are_logged(log: io.StringIO):
    call(Wanted, lambda request, services: {"answer": "hunter2"}, {"policy": "hunter3"})
    assert log.getvalue() == ""


def test_a_handler_keeps_the_name_of_its_operation():
    assert entrypoint(Wanted, raising(RuntimeError())).__name__ == "operation"


def test_an_installed_world_is_the_world_around_the_call(log: io.StringIO):
    assert world().log is log
