"""What every handler wears: parsing, logs, the deadline, and errors that a state machine can read.

Step Functions matches error names exactly, so an invocation fails with TransientError, PermanentError or
IntegrityError and nothing else; the message is JSON with code, message, resource and remedy. Neither events
nor responses are logged: they may carry names and user data of protected machines.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol, TypeVar

from aws_lambda_powertools import Logger

from holdfast import errors
from holdfast.bootstrap import Services, installed, world

R = TypeVar("R")
Event = Mapping[str, Any]
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


class TransientError(Exception):
    """What Step Functions retries."""


class PermanentError(Exception):
    """What Step Functions hands to the outcome of the instance, account or Region concerned."""


class IntegrityError(Exception):
    """Bytes were not what they should be; handed on like a permanent error."""


class Context(Protocol):
    """The part of the Lambda context that handlers use."""

    def get_remaining_time_in_millis(self) -> int: ...


class _Stream:
    """Where log lines of this World go; resolved at each line, because a World is installed per call."""

    def write(self, text: str) -> int:
        around = installed.get()
        return (around.log if around and around.log else sys.stdout).write(text)

    def flush(self) -> None:
        """Lines are written whole; the real streams flush themselves."""


@cache
def _logger() -> Logger:
    return Logger(service="holdfast", stream=_Stream(), utc=True, use_rfc3339=True)  # type: ignore[arg-type]


def raised(error: Exception) -> Exception:
    """The error by which an invocation fails, for any error an operation raised."""
    if not isinstance(error, errors.HoldfastError):
        body = {
            "code": "Unexpected",
            "message": _shown(error),
            "resource": "",
            "remedy": "This is a defect of Holdfast: report it with the log of this invocation.",
        }
        return PermanentError(json.dumps(body))
    body = {"code": error.code, "message": error.message, "resource": error.resource, "remedy": error.remedy}
    if isinstance(error, errors.TransientError):
        return TransientError(json.dumps(body))
    if isinstance(error, errors.IntegrityError):
        return IntegrityError(json.dumps(body))
    return PermanentError(json.dumps(body))


def parse(request: Callable[..., R], event: Event) -> R:
    """The event as a request: a pydantic model, or a dataclass whose fields are the event's keys.

    A dataclass ignores keys that it does not name, so that a state machine may pass more than a step needs.
    Raises ConfigurationError naming the fields, without their values.
    """
    validate = getattr(request, "model_validate", None)
    name = getattr(request, "__name__", "request")
    try:
        if validate is not None:
            return validate(event)  # type: ignore[no-any-return]
        fields = getattr(request, "__dataclass_fields__", None)
        return (
            request(event) if fields is None else request(**{k: v for k, v in event.items() if k in fields})
        )
    except (ValueError, TypeError, KeyError) as error:
        raise errors.ConfigurationError(
            f"The event is not a valid {name}: {_shown(error)}.",
            remedy="The docstring of the function shows a valid event.",
        ) from error


def _shown(error: Exception) -> str:
    """An error in one line; what a validation refuses is named by its place, never by its value."""
    found = getattr(error, "errors", None)
    if not callable(found):
        return f"{type(error).__name__}: {str(error)[:500]}"
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'event'}: {one['msg']}"
        for one in found(include_url=False, include_input=False, include_context=False)
    )


def entrypoint(request: Callable[..., R], operation: Callable[[R, Services], Mapping[str, Any]]) -> Handler:
    """A Lambda handler that parses its event into ``request`` and answers with what ``operation`` returns."""
    name = getattr(operation, "__name__", "operation")

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        log = _logger()
        keys = {"operation": name, "correlation_id": event.get("session_id"), "policy": event.get("policy")}
        log.thread_safe_append_keys(**keys)
        try:
            services = Services(world(), remaining=lambda: context.get_remaining_time_in_millis() / 1000)
            return dict(operation(parse(request, event), services))
        except Exception as error:
            _report(log, error)
            raise raised(error) from error
        finally:
            log.thread_safe_clear_keys()

    handler.__name__ = name
    handler.__doc__ = operation.__doc__
    return handler


def _report(log: Logger, error: Exception) -> None:
    """One line for a foreseen error, a traceback for a defect."""
    if isinstance(error, errors.TransientError):
        log.warning("will be retried", extra={"code": error.code, "reason": str(error)})
    elif isinstance(error, errors.HoldfastError):
        log.error("failed", extra={"code": error.code, "reason": str(error)})
    else:
        trace = "".join(traceback.format_tb(error.__traceback__))
        log.error("defect", extra={"reason": _shown(error), "trace": trace})
