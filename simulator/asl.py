"""The Amazon States Language in its JSONata form: what each state does with its input.

States run as activities of the engine, so every wait is virtual and a Map of any width costs no threads. A
field that the service knows and this module does not is refused when the machine is created, never skipped.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from simulator.engine import Engine
from simulator.expressions import Evaluator
from simulator.failures import StateFailure, matches

Json = Any
State = Mapping[str, Any]

_STATE_BYTES = 256 * 1024  # the service's quota for the input or output of a state


class Work(Protocol):
    """What a state machine does to the outside."""

    async def task(self, state: State, arguments: Json, frame: Frame) -> Json:
        """Run a Task state's integration. Raises StateFailure."""
        ...

    async def map(self, state: State, value: Json, frame: Frame, interpreter: Interpreter) -> Json:
        """Run a Map state. Raises StateFailure."""
        ...

    def token(self, frame: Frame) -> str:
        """A fresh task token."""
        ...

    def record(self, frame: Frame, event: str, **details: Json) -> None:
        """Append to the history of the execution."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a state runs: its execution, its context object and the variables it sees."""

    execution: Any
    context: Mapping[str, Any]
    outer: Mapping[str, Json] = field(default_factory=dict)
    variables: dict[str, Json] = field(default_factory=dict)

    def bindings(self, **states: Json) -> dict[str, Json]:
        """Variables, and ``$states`` with the given parts."""
        return {**self.outer, **self.variables, "states": {"context": self.context, **states}}

    def child(self, **context: Json) -> Frame:
        """A frame for a branch or iteration: reads the variables of this one, assigns its own."""
        return replace(
            self, context={**self.context, **context}, outer={**self.outer, **self.variables}, variables={}
        )


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Runs state machines for one world."""

    engine: Engine
    evaluator: Evaluator
    work: Work
    chance: random.Random

    async def run(self, machine: Mapping[str, Any], value: Json, frame: Frame) -> Json:
        """Walk a machine, branch or item processor from its first state to its end. Raises StateFailure."""
        name: str | None = machine["StartAt"]
        while name is not None:
            name, value = await self._enter(name, machine["States"][name], value, frame)
        return value

    async def _enter(self, name: str, state: State, value: Json, frame: Frame) -> tuple[str | None, Json]:
        entered = {"Name": name, "EnteredTime": iso(self.engine.clock.now()), "RetryCount": 0}
        here = replace(frame, context={**frame.context, "State": entered})
        self.work.record(here, f"{state['Type']}StateEntered", name=name, input=value)
        try:
            following, output, assigned = await self._with_retries(state, value, here)
        except StateFailure as failure:
            following, output, assigned = self._caught(state, value, here, failure)
        _limit(output, name)
        frame.variables.update(assigned)
        self.work.record(here, f"{state['Type']}StateExited", name=name, output=output)
        return following, output

    async def _with_retries(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        attempts = [0] * len(state.get("Retry", ()))
        while True:
            try:
                return await getattr(self, f"_{state['Type'].lower()}")(state, value, frame)
            except StateFailure as failure:
                delay = self._retry_delay(state, attempts, failure)
                if delay is None:
                    raise
            await self.engine.sleep(delay)
            entered = dict(frame.context["State"])
            entered["RetryCount"] += 1
            frame = replace(frame, context={**frame.context, "State": entered})

    def _retry_delay(self, state: State, attempts: list[int], failure: StateFailure) -> float | None:
        """Seconds to wait before the next attempt, or None when no retrier takes the error."""
        for index, retrier in enumerate(state.get("Retry", ())):
            if not matches(failure.error, retrier["ErrorEquals"]):
                continue
            if attempts[index] >= retrier.get("MaxAttempts", 3):
                return None
            delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** attempts[index]
            delay = min(delay, retrier.get("MaxDelaySeconds", delay))
            attempts[index] += 1
            return self.chance.uniform(0, delay) if retrier.get("JitterStrategy") == "FULL" else delay
        return None

    def _caught(
        self, state: State, value: Json, frame: Frame, failure: StateFailure
    ) -> tuple[str | None, Json, dict[str, Json]]:
        for catcher in state.get("Catch", ()):
            if matches(failure.error, catcher["ErrorEquals"]):
                error = {"Error": failure.error, "Cause": failure.cause}
                bindings = frame.bindings(input=value, errorOutput=error)
                output = self.evaluator.render(catcher["Output"], bindings) if "Output" in catcher else error
                return catcher["Next"], output, self.evaluator.render(catcher.get("Assign", {}), bindings)
        raise failure

    def _leave(
        self, state: State, value: Json, frame: Frame, **states: Json
    ) -> tuple[str | None, Json, dict[str, Json]]:
        """Output and variables of a state that succeeded, and where to go."""
        bindings = frame.bindings(input=value, **states)
        output = states.get("result", value)
        if "Output" in state:
            output = self.evaluator.render(state["Output"], bindings)
        return state.get("Next"), output, self.evaluator.render(state.get("Assign", {}), bindings)

    async def _pass(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        return self._leave(state, value, frame)

    async def _succeed(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        return self._leave(state, value, frame)

    async def _fail(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        bindings = frame.bindings(input=value)
        error = self.evaluator.render(state.get("Error", ""), bindings)
        raise StateFailure(error, self.evaluator.render(state.get("Cause", ""), bindings))

    async def _choice(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        bindings = frame.bindings(input=value)
        for rule in state["Choices"]:
            verdict = self.evaluator.render(rule["Condition"], bindings)
            if not isinstance(verdict, bool):
                raise StateFailure(
                    "States.QueryEvaluationError", f"{rule['Condition']} is {verdict!r}, not a boolean"
                )
            if verdict:
                return self._leave(rule, value, frame)
        if "Default" not in state:
            raise StateFailure("States.NoChoiceMatched", "No choice rule matched and there is no Default.")
        return self._leave({**state, "Next": state["Default"]}, value, frame)

    async def _wait(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        bindings = frame.bindings(input=value)
        if "Seconds" in state:
            seconds = self.number(state["Seconds"], bindings, "Seconds")
            await self.engine.sleep(seconds)
        else:
            instant = self.evaluator.render(state["Timestamp"], bindings)
            await self.engine.sleep_until(datetime.fromisoformat(instant))
        return self._leave(state, value, frame)

    async def _parallel(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        passed = value
        if "Arguments" in state:
            passed = self.evaluator.render(state["Arguments"], frame.bindings(input=value))
        branches = [
            lambda branch=branch: self.run(branch, passed, frame.child()) for branch in state["Branches"]
        ]
        return self._leave(state, value, frame, result=await all_of(branches))

    async def _task(
        self, state: State, value: Json, frame: Frame
    ) -> tuple[str | None, Json, dict[str, Json]]:
        if state["Resource"].endswith(".waitForTaskToken"):
            frame = replace(frame, context={**frame.context, "Task": {"Token": self.work.token(frame)}})
        bindings = frame.bindings(input=value)
        arguments = self.evaluator.render(state["Arguments"], bindings) if "Arguments" in state else value
        limit = state.get("TimeoutSeconds")
        seconds = None if limit is None else self.number(limit, bindings, "TimeoutSeconds")
        try:
            result = await self.engine.within(seconds, self.work.task(state, arguments, frame))
        except TimeoutError as late:
            raise StateFailure("States.Timeout", f"The task took longer than {seconds} seconds.") from late
        return self._leave(state, value, frame, result=result)

    async def _map(self, state: State, value: Json, frame: Frame) -> tuple[str | None, Json, dict[str, Json]]:
        return self._leave(state, value, frame, result=await self.work.map(state, value, frame, self))

    def number(self, template: Json, bindings: Mapping[str, Json], name: str) -> float:
        """A number of a definition, given as such or as an expression. Raises StateFailure otherwise."""
        value = self.evaluator.render(template, bindings)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise StateFailure(
                "States.QueryEvaluationError", f"{name} is {value!r}, not a number of 0 or more"
            )
        return value


async def all_of(activities: list[Callable[[], Awaitable[Json]]], *, at_once: int = 0) -> list[Json]:
    """Results of all activities in order, ``at_once`` at a time (0: all). A failure ends the others."""
    results: list[Json] = [None] * len(activities)
    waiting = iter(enumerate(activities))

    async def lane() -> None:
        for index, activity in waiting:
            results[index] = await activity()

    lanes = [asyncio.ensure_future(lane()) for _ in range(min(at_once or len(activities), len(activities)))]
    try:
        await asyncio.gather(*lanes)
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    return results


def iso(instant: datetime) -> str:
    """An instant as the service writes it."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _limit(output: Json, name: str) -> None:
    if len(json.dumps(output, ensure_ascii=False).encode()) > _STATE_BYTES:
        raise StateFailure(
            "States.DataLimitExceeded",
            f"The state '{name}' returned a result larger than the {_STATE_BYTES} bytes allowed.",
        )
