"""How a state of a state machine fails, and which retry or catch clause answers.

The names are the service's own: a clause matches them exactly, so a name invented here would make tests of
retry rules worthless.
"""

from __future__ import annotations

from collections.abc import Sequence

# Never matched by States.ALL: the service fails the execution at once.
_FINAL = frozenset({"States.DataLimitExceeded", "States.Runtime"})


class StateFailure(Exception):
    """A state ended with an error name and a cause, both as text."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


def matches(error: str, clause: Sequence[str]) -> bool:
    """Whether ``ErrorEquals`` covers an error name.

    Source: "Error names" of the Step Functions developer guide.
    """
    if error in clause:
        return True
    if error == "States.HeartbeatTimeout" and "States.Timeout" in clause:
        return True
    if error in _FINAL:
        return False
    if "States.TaskFailed" in clause and error not in {"States.Timeout", "States.HeartbeatTimeout"}:
        return True
    return "States.ALL" in clause
