"""What Task states do: invoke functions, start executions, call AWS APIs, wait for task tokens.

Every call is made as the state machine's role (or the role of ``Credentials``), takes the simulator's one
way for requests, and fails under the error name that the service reports. A name that differs breaks retry
rules unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from moto.core.exceptions import JsonRESTError

from simulator.asl import Frame, Json, State, iso
from simulator.calls import Call, error_answer
from simulator.engine import Engine
from simulator.failures import StateFailure
from simulator.faults import SimulatedCrash

_RESOURCE = re.compile(r"arn:aws:states:::(aws-sdk:)?([a-z0-9]+):([A-Za-z0-9]+)(\.[A-Za-z]+(?::2)?)?")

# Names of the Java SDK, which Step Functions speaks, where they differ from boto3's.
_BOTO_NAMES = {
    "sfn": "stepfunctions",
    "cloudwatchlogs": "logs",
    "eventbridge": "events",
    "sfnservice": "stepfunctions",
}
_ERROR_PREFIXES = {"dynamodb": "DynamoDb", "eventbridge": "EventBridge", "secretsmanager": "SecretsManager"}
_OPTIMIZED_PREFIXES = {"dynamodb": "DynamoDB", "sns": "SNS", "sqs": "SQS", "events": "EventBridge"}
_PROGRAM_FAULTS = (BotoCoreError, KeyError, TypeError, ValueError)


class Invoker(Protocol):
    """Runs functions."""

    def invoke(self, name: str, payload: bytes, *, account: str, region: str) -> tuple[bytes, str]:
        """The function's answer and, when it failed, the kind of failure ("Unhandled")."""
        ...


@dataclass(slots=True)
class Callback:
    """A task that waits for somebody to send its token."""

    answered: asyncio.Future[Json]
    heartbeat: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Callbacks:
    """Tasks that wait for their tokens, in one Region of one account."""

    waiting: dict[str, Callback] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    machines: dict[str, str] = field(default_factory=dict)


class Tasks:
    """Task integrations of one world."""

    def __init__(self, simulator: Any, engine: Engine, executions: Any) -> None:
        self._simulator = simulator
        self._engine = engine
        self._executions = executions
        self.callbacks: dict[tuple[str, str], Callbacks] = {}

    def callbacks_in(self, account: str, region: str) -> Callbacks:
        """The waiting tasks of one Region."""
        return self.callbacks.setdefault((account, region), Callbacks())

    def machine_of_token(self, token: str) -> str:
        """The state machine whose task a token answers; ``*`` when nobody gave the token out."""
        return next(
            (known.machines[token] for known in self.callbacks.values() if token in known.machines), "*"
        )

    async def run(self, state: State, arguments: Json, frame: Frame) -> Json:
        """The result of a Task state. Raises StateFailure."""
        resource = state["Resource"]
        if resource.startswith("arn:aws:lambda:"):
            return (await self._invoke({"FunctionName": resource, "Payload": arguments}, frame))["Payload"]
        found = _RESOURCE.fullmatch(resource)
        if found is None:
            raise StateFailure("States.Runtime", f"unknown integration {resource}")
        sdk, service, action, pattern = found.groups()
        if pattern == ".waitForTaskToken":
            return await self._with_token(
                state, frame, self._start(service, action, bool(sdk), arguments, frame)
            )
        if (service, action) == ("states", "startExecution") and pattern:
            return await self._nested(arguments, frame, parse=pattern.endswith(":2"))
        return await self._start(service, action, bool(sdk), arguments, frame)

    async def _start(self, service: str, action: str, sdk: bool, arguments: Json, frame: Frame) -> Json:
        if (service, action, sdk) == ("lambda", "invoke", False):
            return await self._invoke(arguments, frame)
        if service == "states":
            arguments = {**arguments, "Input": _text(arguments.get("Input", {}))}
            return await self._call_api("sfn", "startExecution", arguments, frame, "StepFunctions")
        if service == "sns" and not sdk and "Message" in arguments:
            arguments = {**arguments, "Message": _text(arguments["Message"])}
        if service == "sqs" and not sdk:
            arguments = {**arguments, "MessageBody": _text(arguments["MessageBody"])}
        prefix = (
            _ERROR_PREFIXES.get(service, service.capitalize())
            if sdk
            else _OPTIMIZED_PREFIXES.get(service, service)
        )
        return await self._call_api(service, action, arguments, frame, prefix)

    async def _invoke(self, arguments: Json, frame: Frame) -> Json:
        execution = frame.execution
        payload = json.dumps(arguments.get("Payload", {})).encode()
        name = arguments["FunctionName"]
        client_identity = self._executions.identity(execution)
        arn = (
            name
            if name.startswith("arn:")
            else f"arn:aws:lambda:{execution.region_name}:{execution.account_id}:function:{name}"
        )
        region, account = arn.split(":")[3:5]
        call = Call(
            service="lambda",
            operation="Invoke",
            account=execution.account_id,
            region=execution.region_name,
            access_key=client_identity.access_key,
            method="POST",
            url=f"https://lambda.{region}.amazonaws.com/2015-03-31/functions/{arn}/invocations",
            body=payload,
        )
        kind = ""

        def work() -> tuple[int, dict[str, str], bytes]:
            nonlocal kind
            try:
                body, kind = self._simulator.lambdas.invoke(arn, payload, account=account, region=region)
            except JsonRESTError as refused:
                return error_answer("lambda", refused.error_type, refused.message, 400)
            return 200, {}, body

        def attempt() -> tuple[int, bytes]:
            try:
                status, headers, body = self._simulator.answer(call, work, "application/json")
            except ConnectionResetError as error:
                raise StateFailure("Lambda.SdkClientException", f"connection lost: {error}") from error
            except SimulatedCrash as crash:
                self._simulator.crashed.discard(self._simulator.identities.root(call.access_key))
                raise StateFailure("Lambda.Unknown", f"The cause could not be determined: {crash}") from crash
            if status >= 400:
                raise StateFailure(
                    f"Lambda.{headers.get('x-amzn-errortype', 'AWSLambdaException')}", body.decode()
                )
            return status, body

        status, body = await self._engine.call(attempt)
        result = json.loads(body) if body else None
        if kind:
            detail = result if isinstance(result, dict) else {}
            raise StateFailure(detail.get("errorType", "Lambda.Unknown"), json.dumps(result))
        return {"ExecutedVersion": "$LATEST", "Payload": result, "StatusCode": status}

    async def _nested(self, arguments: Json, frame: Frame, *, parse: bool) -> Json:
        started = await self._start("states", "startExecution", False, arguments, frame)
        arn = started["ExecutionArn"]
        try:
            child = await self._executions.ended(arn)
        except asyncio.CancelledError:
            self._executions.stop(arn, "States.Aborted", "the parent execution was stopped")
            raise
        described = {
            "ExecutionArn": arn,
            "Input": json.loads(child.execution_input) if parse else child.execution_input,
            "Name": child.name,
            "StartDate": int(child.start_date.timestamp() * 1000),
            "StateMachineArn": child.state_machine_arn,
            "Status": child.status,
            "StopDate": int(child.stop_date.timestamp() * 1000),
        }
        if child.status != "SUCCEEDED":
            failed = described | {"Error": child.error, "Cause": child.cause}
            raise StateFailure("States.TaskFailed", json.dumps(failed))
        return described | {"Output": json.loads(child.output) if parse else child.output}

    async def _with_token(self, state: State, frame: Frame, started: Any) -> Json:
        execution = frame.execution
        token = frame.context["Task"]["Token"]
        callbacks = self.callbacks_in(execution.account_id, execution.region_name)
        callbacks.machines[token] = execution.state_machine_arn
        callback = callbacks.waiting[token] = Callback(asyncio.get_running_loop().create_future())
        try:
            await started
            if "HeartbeatSeconds" not in state:
                return await callback.answered
            return await self._with_heartbeat(callback, state["HeartbeatSeconds"])
        finally:
            callbacks.waiting.pop(token, None)
            callbacks.spent.add(token)
            started.close()

    async def _with_heartbeat(self, callback: Callback, seconds: float) -> Json:
        beaten = asyncio.Event()
        callback.heartbeat = beaten.set

        async def next_sign() -> None:
            beat = asyncio.ensure_future(beaten.wait())
            try:
                await asyncio.wait({beat, callback.answered}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                beat.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beat

        while not callback.answered.done():
            try:
                await self._engine.within(seconds, next_sign())
            except TimeoutError as late:
                raise StateFailure(
                    "States.HeartbeatTimeout", f"no heartbeat within {seconds} seconds"
                ) from late
            beaten.clear()
        return callback.answered.result()

    async def _call_api(self, service: str, action: str, arguments: Json, frame: Frame, prefix: str) -> Json:
        client = self._executions.client(_BOTO_NAMES.get(service, service), frame)
        operation = action[0].upper() + action[1:]
        try:
            method = next(name for name, api in client.meta.method_to_api_mapping.items() if api == operation)
        except StopIteration:
            raise StateFailure("States.Runtime", f"{service} has no operation {operation}") from None
        model = client.meta.service_model.operation_model(operation)

        def attempt() -> Json:
            try:
                return getattr(client, method)(**_as_api(arguments, model.input_shape))
            except ParamValidationError as error:
                raise StateFailure("States.Runtime", str(error)) from error
            except ClientError as error:
                code = error.response["Error"]["Code"].rsplit(".", 1)[-1]
                known = {shape.name for shape in model.error_shapes}
                names = [name for name in (code, f"{code}Exception") if name in known]
                name = names[0] if names else _unmodelled(prefix, code)
                raise StateFailure(f"{prefix}.{name}", str(error)) from error
            except _PROGRAM_FAULTS as error:
                raise StateFailure(f"{prefix}.SdkClientException", repr(error)) from error

        return _as_states(await self._engine.call(attempt))


def _unmodelled(prefix: str, code: str) -> str:
    """The name of an error that the API's model does not list: the service's general one."""
    return code if code.endswith("Exception") else f"{prefix}Exception"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_api(value: Json, shape: Any) -> Json:
    """Parameters under the names of the API's model; definitions write them in PascalCase."""
    if shape is None or value is None:
        return value or {}
    if shape.type_name == "structure" and isinstance(value, Mapping):
        names = {member.lower(): member for member in shape.members}
        converted = {}
        for key, item in value.items():
            name = names.get(key.lower(), key)
            converted[name] = _as_api(item, shape.members.get(name)) if name in shape.members else item
        return converted
    if shape.type_name == "list" and isinstance(value, list):
        return [_as_api(item, shape.member) for item in value]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {key: _as_api(item, shape.value) for key, item in value.items()}
    if shape.type_name == "timestamp" and isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    return value


def _as_states(value: Json) -> Json:
    """A boto3 answer as a state sees it: PascalCase keys, ISO instants, text for bodies."""
    if isinstance(value, Mapping):
        return {
            key[:1].upper() + key[1:]: _as_states(item)
            for key, item in value.items()
            if key != "ResponseMetadata"
        }
    if isinstance(value, list | tuple):
        return [_as_states(item) for item in value]
    if isinstance(value, datetime.datetime):
        return iso(value.astimezone(datetime.UTC))
    if isinstance(value, bytes):
        return value.decode()
    return value.read().decode() if hasattr(value, "read") else value
