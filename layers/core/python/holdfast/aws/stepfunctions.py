"""Starting state machines and answering the tasks that wait for us."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from holdfast.aws.faults import translating
from holdfast.errors import ConflictError


class StepFunctions:
    """`ports.Executions` in the Region of the client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def start(self, machine_arn: str, name: str, event: Mapping[str, Any]) -> bool:
        try:
            with translating("states:StartExecution", resource=machine_arn):
                self._client.start_execution(
                    stateMachineArn=machine_arn, name=name, input=json.dumps(event, separators=(",", ":"))
                )
        except ConflictError:
            return False
        return True

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        with _waiting("states:SendTaskSuccess", self._client):
            self._client.send_task_success(taskToken=token, output=json.dumps(output))


@contextmanager
def _waiting(action: str, client: Any) -> Iterator[None]:
    """Raise ConflictError when the task of a token has ended, or the token is of another time."""
    over = (
        client.exceptions.TaskTimedOut,
        client.exceptions.TaskDoesNotExist,
        client.exceptions.InvalidToken,
    )
    with translating(action):
        try:
            yield
        except over as error:
            raise ConflictError(
                "Nobody waits for this answer any more.", remedy="Nothing is to be done."
            ) from error
