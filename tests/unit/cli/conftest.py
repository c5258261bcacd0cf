"""A command line whose catalog, functions and state machines are in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.cli.context import CommandContext
from holdfast.cli.main import run
from tests.restore_world import RestoreWorld

ANNA = "arn:aws:iam::999999999999:user/anna"


class CommandWorld(RestoreWorld):
    """What commands talk to: functions give `answers`, executions end with `outputs`; errors are raised."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.invoked: list[tuple[str, Mapping[str, Any], str]] = []
        self.started: list[tuple[str, str, Mapping[str, Any], str]] = []

    def invoke(self, function: str, event: Mapping[str, Any], *, region: str = "") -> Any:
        self.invoked.append((function, event, region))
        return self._or_raise(self.answers[function])

    def start(self, machine: str, event: Mapping[str, Any], *, name: str, region: str = "") -> str:
        self.started.append((machine, name, event, region))
        return f"arn:aws:states:{region}:999999999999:execution:holdfast-{machine}:{name}"

    def wait(self, execution: str, *, say: Callable[[], str], region: str = "") -> Any:
        machine = execution.split(":")[6].removeprefix("holdfast-")
        assert say()
        return self._or_raise(self.outputs[machine])

    def _or_raise(self, answer: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> CommandWorld:
    """What commands find instead of AWS."""
    world = CommandWorld()
    parts = {"services": world, "configuration": world.configuration, "caller": ANNA}
    calls = {name: staticmethod(getattr(world, name)) for name in ("invoke", "start", "wait")}
    for name, part in {**parts, **calls}.items():
        monkeypatch.setattr(CommandContext, name, part)
    return world


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def holdfast(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line."""

    def command(*words: str) -> Ended:
        code = run(list(words))
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Ended(code, shown.out, shown.err)

    return command
