"""Step Functions: state machines and executions behind moto's API, run by our own interpreter.

moto keeps machines, tags and names; executions live here. The interpreter that moto embeds knows neither
JSONata, batches, tolerated failures nor virtual time, and holds a thread per branch; see ``asl`` for the
one used.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.stepfunctions.exceptions import InvalidArn
from moto.stepfunctions.models import StateMachine, StepFunctionBackend
from moto.stepfunctions.parser.models import stepfunctions_parser_backends
from moto.stepfunctions.responses import StepFunctionResponse

from simulator import definitions
from simulator.asl import Frame, Interpreter, Json, State, iso
from simulator.engine import Engine
from simulator.expressions import Evaluator
from simulator.failures import StateFailure
from simulator.identities import Identity, session_for
from simulator.integrations import Callbacks, Tasks
from simulator.maps import MapRun, MapWork
from simulator.patches import Patches

if TYPE_CHECKING:
    from simulator.simulator import Simulator

_HISTORY_EVENTS = 25_000  # the service's quota; an execution that needs more fails there
_RENEW_BEFORE = timedelta(hours=1)


class InvalidDefinition(ServiceException):
    """A definition that the service would not run."""

    code = "InvalidDefinition"


class InvalidToken(ServiceException):
    """A task token that no task of this Region has."""

    code = "InvalidToken"


class TaskTimedOut(ServiceException):
    """A task token whose task has ended."""

    code = "TaskTimedOut"


@dataclass
class Execution:
    """One run of a state machine, as the API shows it."""

    execution_arn: str
    name: str
    state_machine_arn: str
    role_arn: str
    account_id: str
    region_name: str
    execution_input: str
    start_date: datetime
    definition: dict[str, Any]
    status: str = "RUNNING"
    stop_date: datetime | None = None
    output: str | None = None
    output_details: dict[str, bool] | None = None
    error: str | None = None
    cause: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def get_execution_history(self, role_arn: str) -> list[dict[str, Any]]:
        """The events so far; moto's response asks for them under this name."""
        return self.history

    def stop(self, stop_date: datetime, error: str = "", cause: str = "") -> None:
        """Mark as ended by somebody."""
        self.status, self.stop_date, self.error, self.cause = (
            "ABORTED",
            stop_date,
            error or None,
            cause or None,
        )


class Executions:
    """Every execution of the world; ``simulator.executions``."""

    def __init__(self, simulator: Simulator, engine: Engine) -> None:
        self._simulator = simulator
        self.engine = engine
        self._chance = random.Random(f"{simulator.world.seed}/executions")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, Future[Execution]] = {}
        self._identities: dict[str, Identity] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._checked_machines: set[tuple[str, str, str]] = set()
        self.map_runs: dict[str, MapRun] = {}
        self.tasks = Tasks(simulator, engine, self)
        self._maps = MapWork(self.client, self.new_id, self._note_map_run, self.record)
        self._interpreter = Interpreter(
            engine, Evaluator(simulator.clock.now, self._chance), self, self._chance
        )

    # What people ask

    def wait(self, execution_arn: str, *, timeout: float | None = 120) -> Execution:
        """Let the world run until an execution has ended, and return it.

        Raises TimeoutError when the world comes to rest and the execution still waits for something.
        """
        end = self._ends.get(execution_arn)
        if end is None:
            return self.find(execution_arn)
        return self.engine.await_future(end, timeout=timeout)

    def find(self, execution_arn: str) -> Execution:
        """The execution with an ARN. Raises ExecutionDoesNotExist."""
        region, account = execution_arn.split(":")[3:5]
        found: Execution = stepfunctions_parser_backends[account][region].describe_execution(execution_arn)
        return found

    def all(self) -> list[Execution]:
        """Every execution, oldest first."""
        found = [
            execution
            for regions in stepfunctions_parser_backends.values()
            for backend in regions.values()
            for machine in backend.state_machines
            for execution in machine.executions
        ]
        return sorted(found, key=lambda execution: execution.start_date)

    def abandon_unfinished(self) -> None:
        """End executions that were running when the world was last closed: nobody runs them any more."""
        for execution in self.all():
            if execution.status == "RUNNING":
                execution.stop(self._simulator.clock.now(), "States.Aborted", "the simulation was closed")

    # Life of an execution

    def begin(self, execution: Execution) -> None:
        """Start running; returns at once."""
        self._ends[execution.execution_arn] = end = Future[Execution]()
        running = self.engine.start(self._run(execution))

        def ended(outcome: Future[None]) -> None:
            self._running.pop(execution.execution_arn, None)
            if execution.status == "RUNNING":
                error = None if outcome.cancelled() else outcome.exception()
                self._conclude(execution, "FAILED", error="States.Runtime", cause=repr(error))
            end.set_result(execution)

        running.add_done_callback(ended)

    async def ended(self, execution_arn: str) -> Execution:
        """Wait, as an activity, for an execution to end."""
        return await asyncio.wrap_future(self._ends[execution_arn])

    def stop(self, execution_arn: str, error: str = "", cause: str = "") -> Execution:
        """End an execution and what it runs. One that has ended stays as it is."""
        execution = self.find(execution_arn)
        if execution.status == "RUNNING":
            execution.stop(self._simulator.clock.now(), error, cause)
            self.engine.post(lambda: self._cancel(execution_arn))
        return execution

    def _cancel(self, execution_arn: str) -> None:
        task = self._running.get(execution_arn)
        if task is not None:
            task.cancel()

    async def _run(self, execution: Execution) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running[execution.execution_arn] = task
        if execution.status != "RUNNING":
            return
        machine = execution.definition
        context = {
            "Execution": {
                "Id": execution.execution_arn,
                "Input": json.loads(execution.execution_input),
                "Name": execution.name,
                "RoleArn": execution.role_arn,
                "StartTime": iso(execution.start_date),
                "RedriveCount": 0,
            },
            "StateMachine": {
                "Id": execution.state_machine_arn,
                "Name": execution.state_machine_arn.rsplit(":", 1)[-1],
            },
        }
        frame = Frame(execution, context)
        self.record(
            frame, "ExecutionStarted", input=context["Execution"]["Input"], roleArn=execution.role_arn
        )
        try:
            activity = self._interpreter.run(machine, json.loads(execution.execution_input), frame)
            output = await self.engine.within(machine.get("TimeoutSeconds"), activity)
        except TimeoutError:
            self._conclude(
                execution, "TIMED_OUT", error="States.Timeout", cause="the execution took too long"
            )
        except StateFailure as failure:
            self.record(frame, "ExecutionFailed", error=failure.error, cause=failure.cause)
            self._conclude(execution, "FAILED", error=failure.error, cause=failure.cause)
        else:
            self.record(frame, "ExecutionSucceeded", output=output)
            self._conclude(execution, "SUCCEEDED", output=json.dumps(output))

    def _conclude(
        self, execution: Execution, status: str, *, output: str = "", error: str = "", cause: str = ""
    ) -> None:
        if execution.status != "RUNNING":
            return
        execution.status, execution.stop_date = status, self._simulator.clock.now()
        if status == "SUCCEEDED":
            execution.output, execution.output_details = output, {"included": True}
        else:
            execution.error, execution.cause = error, cause

    # What the interpreter asks (asl.Work)

    async def task(self, state: State, arguments: Json, frame: Frame) -> Json:
        """Run a Task state's integration."""
        return await self.tasks.run(state, arguments, frame)

    async def map(self, state: State, value: Json, frame: Frame, interpreter: Interpreter) -> Json:
        """Run a Map state."""
        return await self._maps.run(state, value, frame, interpreter)

    def token(self, frame: Frame) -> str:
        """A fresh task token."""
        return f"{self.new_id()}{self.new_id()}".replace("-", "")

    def record(self, frame: Frame, event: str, **details: Json) -> None:
        """Append to the history. Raises StateFailure when it is longer than the service allows."""
        history = frame.execution.history
        if len(history) >= _HISTORY_EVENTS:
            raise StateFailure(
                "States.Runtime", f"the execution's history has reached {_HISTORY_EVENTS} events"
            )
        history.append(_event(len(history) + 1, self._simulator.clock.now(), event, details))

    def new_id(self) -> str:
        """A seeded UUID."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def note_machine(self, machine: StateMachine) -> None:
        """Check once what the platform needs of a machine's role."""
        key = (machine.arn, machine.definition, json.dumps(machine.loggingConfiguration))
        if key not in self._checked_machines:
            self._checked_machines.add(key)
            self._simulator.recorder.executes(machine)

    def _note_map_run(self, run: MapRun, frame: Frame) -> None:
        """Keep a Map run that the role may run. Source: "IAM policies for using Distributed Map states"."""
        self.map_runs[run.arn] = run
        execution = frame.execution
        key = self.identity(execution).access_key
        child = f"{run.machine_arn.replace(':stateMachine:', ':execution:')}:*"
        for action, resource in (
            ("states:StartExecution", execution.state_machine_arn),
            ("states:DescribeExecution", child),
            ("states:StopExecution", child),
        ):
            if reason := self._simulator.recorder.authorize(key, action, resource):
                raise StateFailure("States.Permissions", reason)

    # Identity

    def identity(self, execution: Execution) -> Identity:
        """The execution role's current session."""
        known = self._identities.get(execution.role_arn)
        deadline = self._simulator.clock.now() + _RENEW_BEFORE
        if known is None or (known.expires_at is not None and known.expires_at <= deadline):
            name = execution.state_machine_arn.rsplit(":", 1)[-1][:64]
            account = execution.role_arn.split(":")[4]
            known = self._simulator.identities.assume(account, execution.role_arn, name=name)
            self._identities[execution.role_arn] = known
        return known

    def client(self, service: str, frame: Frame) -> Any:
        """A boto3 client as the execution's role, in its Region."""
        execution = frame.execution
        identity = self.identity(execution)
        key = (identity.access_key, execution.region_name, service)
        if key not in self._clients:
            self._clients[key] = session_for(identity, execution.region_name).client(service)
        return self._clients[key]


def _event(number: int, at: datetime, event: str, details: dict[str, Json]) -> dict[str, Any]:
    kind = (
        "stateEntered"
        if event.endswith("StateEntered")
        else "stateExited"
        if event.endswith("StateExited")
        else ""
    )
    name = f"{kind or event[0].lower() + event[1:]}EventDetails"
    shown = {
        key: json.dumps(value) if key in {"input", "output"} else value for key, value in details.items()
    }
    return {"timestamp": at, "type": event, "id": number, "previousEventId": number - 1, name: shown}


class _Backend(StepFunctionBackend):
    """moto's backend with executions that run. Its methods stand in for those of moto's interpreter."""

    executions: Executions

    def create_state_machine(self, name: str, definition: str, roleArn: str, **more: Any) -> StateMachine:  # noqa: N803
        _checked(definition)
        return super().create_state_machine(name, definition, roleArn, **more)

    def update_state_machine(self, arn: str, definition: str | None = None, **more: Any) -> StateMachine:
        if definition is not None:
            _checked(definition)
        return super().update_state_machine(arn, definition, **more)

    def start_execution(
        self, state_machine_arn: str, name: str | None = None, execution_input: str = "{}"
    ) -> Any:
        if name:
            self._validate_name(name)
        machine = self.describe_state_machine(state_machine_arn)
        machine._validate_execution_input(execution_input)
        name = name or self.executions.new_id()
        existing = machine._handle_name_input_idempotency(name, execution_input)
        if existing is not None:
            return existing
        prefix = machine.arn.replace(":stateMachine:", ":execution:")
        execution = Execution(
            execution_arn=f"{prefix}:{name}",
            name=name,
            state_machine_arn=machine.arn,
            role_arn=machine.roleArn,
            account_id=self.account_id,
            region_name=self.region_name,
            execution_input=execution_input,
            start_date=self.executions.engine.clock.now(),
            definition=definitions.load(machine.definition),
        )
        machine.executions.append(execution)
        self.executions.note_machine(machine)
        self.executions.begin(execution)
        return execution

    def stop_execution(self, execution_arn: str) -> Execution:
        self._validate_execution_arn(execution_arn)
        return self.executions.stop(execution_arn)

    def send_task_success(self, task_token: str, outcome: str) -> None:
        answer = json.loads(outcome)
        self._answer(task_token, lambda future: future.set_result(answer))

    def send_task_failure(self, task_token: str, error: str | None = None, cause: str | None = None) -> None:
        failure = StateFailure(error or "States.TaskFailed", cause or "")
        self._answer(task_token, lambda future: future.set_exception(failure))

    def send_task_heartbeat(self, task_token: str) -> None:
        callbacks = self._callbacks(task_token)
        self.executions.engine.post(callbacks.waiting[task_token].heartbeat)

    def _callbacks(self, task_token: str) -> Callbacks:
        callbacks = self.executions.tasks.callbacks_in(self.account_id, self.region_name)
        if task_token in callbacks.spent:
            raise TaskTimedOut("the task has ended")
        if task_token not in callbacks.waiting:
            raise InvalidToken(f"no task of {self.account_id} in {self.region_name} waits for this token")
        return callbacks

    def _answer(self, task_token: str, give: Callable[[asyncio.Future[Json]], None]) -> None:
        callbacks = self._callbacks(task_token)
        callback = callbacks.waiting.pop(task_token)
        callbacks.spent.add(task_token)

        def deliver() -> None:
            if not callback.answered.done():
                give(callback.answered)

        self.executions.engine.post(deliver)

    def describe_map_run(self, map_run_arn: str) -> dict[str, Any]:
        run = self.executions.map_runs.get(map_run_arn)
        if run is None:
            raise InvalidArn(f"there is no Map run {map_run_arn}")
        counts = {
            status.lower(): sum(child.items for child in run.children if child.status == status)
            for status in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "ABORTED")
        }
        counted = {**counts, "timedOut": 0, "total": run.total_items(), "resultsWritten": 0}
        return {
            "mapRunArn": run.arn,
            "executionArn": run.execution_arn,
            "status": run.status,
            "startDate": datetime.fromisoformat(run.started_at),
            "stopDate": datetime.fromisoformat(run.stopped_at) if run.stopped_at else None,
            "maxConcurrency": run.max_concurrency,
            "toleratedFailureCount": run.tolerated_count or 0,
            "toleratedFailurePercentage": run.tolerated_percentage or 0.0,
            "itemCounts": counted,
            "executionCounts": counted,
        }

    def list_map_runs(self, execution_arn: str) -> dict[str, Any]:
        runs = [run for run in self.executions.map_runs.values() if run.execution_arn == execution_arn]
        return {
            "mapRuns": [
                {"executionArn": run.execution_arn, "mapRunArn": run.arn, "stateMachineArn": run.machine_arn}
                | {"startDate": datetime.fromisoformat(run.started_at)}
                for run in runs
            ]
        }


def _checked(definition: str) -> None:
    try:
        definitions.load(definition)
    except ValueError as error:
        raise InvalidDefinition(f"Invalid State Machine Definition: '{error}'") from error


def install(simulator: Simulator, patches: Patches) -> None:
    """Put our executions behind moto's API."""
    patches.set(_Backend, "executions", simulator.executions)
    patches.set(stepfunctions_parser_backends, "backend", _Backend)
    patches.set(StepFunctionResponse, "send_task_failure", _send_task_failure)
    patches.set(StepFunctionResponse, "stop_execution", _stop_execution)
    simulator.executions.abandon_unfinished()


def _send_task_failure(response: StepFunctionResponse) -> EmptyResult:
    """As moto's, with the cause."""
    token, error, cause = (response._get_param(name) for name in ("taskToken", "error", "cause"))
    response.stepfunction_backend.send_task_failure(token, error=error, cause=cause)
    return EmptyResult()


def _stop_execution(response: StepFunctionResponse) -> ActionResult:
    """As moto's, with error and cause."""
    arn, error, cause = (response._get_param(name) for name in ("executionArn", "error", "cause"))
    stopped = response.stepfunction_backend.executions.stop(arn, error or "", cause or "")
    return ActionResult({"stopDate": stopped.stop_date})
