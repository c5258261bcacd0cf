"""Lambda: runs the functions of the deployed templates in this process, each under its own World and role.

Nothing of one invocation may reach another except through a warm sandbox, exactly as in AWS: the process's
environment is never touched, the World travels in a context variable, and a crash throws its sandbox away.
"""

from __future__ import annotations

import contextvars
import importlib
import io
import json
import random
import threading
import time
import traceback
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction
from moto.awslambda.utils import get_backend
from moto.awslambda_simple.models import LambdaSimpleBackend

from holdfast.bootstrap import World, installed
from simulator.engine import Engine
from simulator.faults import SimulatedCrash
from simulator.identities import Identity, session_for
from simulator.patches import Patches

if TYPE_CHECKING:
    from simulator.simulator import Simulator

_SYNCHRONOUS_BYTES = 6 * 1024 * 1024  # quota for request and response of a synchronous invocation
_ASYNCHRONOUS_BYTES = 1024 * 1024  # quota for the event of an asynchronous one
_SESSION_SECONDS = 10 * 365 * 86_400  # the platform renews the credentials of a sandbox as long as it lives

Remaining = Callable[[], float]


def after_calls(count: int) -> Remaining:
    """A remaining time that is ample for ``count`` questions, then used up: the same in every run."""
    left = [count]

    def remaining() -> float:
        left[0] -= 1
        return 900.0 if left[0] >= 0 else 0.0

    return remaining


@dataclass(frozen=True, slots=True)
class Context:
    """The context object of a handler."""

    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    aws_request_id: str
    log_group_name: str
    log_stream_name: str
    remaining: Remaining
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform would stop this invocation."""
        return max(0, int(1000 * self.remaining()))


class SeededIds:
    """Reproducible random bytes; a sandbox has its own sequence."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def random_bytes(self, count: int) -> bytes:
        """``count`` bytes that the seed alone decides."""
        with self._lock:
            return self._chance.randbytes(count)


class _Log(io.TextIOBase):
    """Appends the lines of one function to its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            return file.write(text)


@dataclass(slots=True)
class Sandbox:
    """One execution environment: serves one invocation at a time and stays warm between them."""

    identity: Identity
    world: World


@dataclass(slots=True)
class _Deployed:
    """What the current version of a function's code and configuration needs to run."""

    key: tuple[Any, ...]
    idle: list[Sandbox] = field(default_factory=list)
    handler: Callable[[Any, Any], Any] | None = None


class ConcurrencyExceededError(LambdaClientError):
    """More invocations at once than the function has reserved."""

    code = 429

    def __init__(self, name: str) -> None:
        super().__init__("TooManyRequestsException", f"Rate exceeded: {name} has no concurrency left")


class Lambdas:
    """The functions of the world; ``simulator.lambdas``.

    - ``package``: where handlers are imported from; ``counts``: invocations by function name.
    - ``time_limit``: asked with a name before each invocation; what it returns tells the seconds left.
    - ``runner``: when set, runs an invocation instead of this process (see :meth:`isolate`).
    """

    def __init__(self, simulator: Simulator, engine: Engine) -> None:
        # Ids are random in AWS: they must not come back when the world is opened again.
        self._opening = simulator.kept["openings"] = simulator.kept.get("openings", 0) + 1
        self._simulator = simulator
        self._engine = engine
        self._deployed: dict[str, _Deployed] = {}
        self._lock = threading.RLock()
        self._sandboxes = 0
        self._requests = random.Random(f"{simulator.world.seed}/requests")
        self._running: Counter[str] = Counter()
        self._layers = simulator.directory / "layers"
        self._logs = simulator.directory / "logs"
        self._log_of: dict[str, _Log] = {}
        self.package = "functions"
        self.counts: Counter[str] = Counter()
        self.errors: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.time_limit: Callable[[str], Remaining | None] | None = None
        self.runner: Callable[[LambdaFunction, bytes, str], tuple[bytes, str]] | None = None

    def invoke(self, name: str, payload: bytes, *, account: str, region: str) -> tuple[bytes, str]:
        """Invoke a function by name or ARN: its answer, and "Unhandled" when that describes an error.

        Raises moto's UnknownFunctionException, ConcurrencyExceededError.
        """
        if name.startswith("arn:"):
            region, account = name.split(":")[3:5]
        function = get_backend(account, region).get_function(name)
        return self.run(function, payload)

    def run(self, function: LambdaFunction, payload: bytes) -> tuple[bytes, str]:
        """Run one synchronous invocation."""
        limit = function.reserved_concurrency
        with self._lock:
            if limit is not None and self._running[function.function_arn] >= int(limit):
                raise ConcurrencyExceededError(function.function_name)
            self._running[function.function_arn] += 1
            self.counts[function.function_name] += 1
            request_id = f"{self._requests.getrandbits(128):032x}"
        try:
            with self._engine.busy():
                return self._bounded(function, payload, request_id)
        finally:
            with self._lock:
                self._running[function.function_arn] -= 1

    def isolate(self) -> None:
        """Run every function in a process of its own from now on."""
        from simulator.runtime import Processes

        self.runner = Processes(self._simulator)

    def close(self) -> None:
        """End the processes of functions."""
        if self.runner is not None and hasattr(self.runner, "close"):
            self.runner.close()

    def log(self, name: str) -> str:
        """Everything a function has logged."""
        path = self._logs / f"{name}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def _bounded(self, function: LambdaFunction, payload: bytes, request_id: str) -> tuple[bytes, str]:
        if len(payload) > _SYNCHRONOUS_BYTES:
            return self._failed(function, "RequestTooLargeException", "the request exceeds 6291456 bytes")
        if self.runner is not None:
            body, kind = self.runner(function, payload, request_id)
            if kind:
                self.errors[function.function_name].append(json.loads(body))
            return body, kind
        try:
            answer = json.dumps(self._run_handler(function, payload, request_id)).encode()
        except SimulatedCrash as crash:
            return self._failed(
                function, "Runtime.ExitError", f"RequestId: {request_id} Error: the sandbox ended ({crash})"
            )
        except _HandlerMissingError as error:
            return self._failed(function, "Runtime.ImportModuleError", str(error))
        except _HandlerError as raised:
            cause = raised.error
            return self._failed(
                function, type(cause).__name__, str(cause), traceback.format_tb(cause.__traceback__)
            )
        except (TypeError, ValueError) as error:
            return self._failed(function, "Runtime.MarshalError", f"Unable to marshal response: {error}")
        if len(answer) > _SYNCHRONOUS_BYTES:
            return self._failed(
                function, "Function.ResponseSizeTooLarge", "the response exceeds 6291456 bytes"
            )
        return answer, ""

    def _failed(
        self, function: LambdaFunction, kind: str, message: str, trace: list[str] | None = None
    ) -> tuple[bytes, str]:
        error = {"errorType": kind, "errorMessage": message, **({"stackTrace": trace} if trace else {})}
        self.errors[function.function_name].append(error)
        return json.dumps(error).encode(), "Unhandled"

    def _run_handler(self, function: LambdaFunction, payload: bytes, request_id: str) -> Any:
        deployed = self._current(function)
        if deployed.handler is None:
            deployed.handler = self._import(function)
        sandbox = self._take(function, deployed)
        context = Context(
            function_name=function.function_name,
            function_version="$LATEST",
            invoked_function_arn=function.function_arn,
            memory_limit_in_mb=int(function.memory_size),
            aws_request_id=request_id,
            log_group_name=f"/aws/lambda/{function.function_name}",
            log_stream_name=sandbox.identity.access_key,
            remaining=self._remaining(function),
        )

        def call() -> Any:
            installed.set(sandbox.world)
            return deployed.handler(json.loads(payload or b"null"), context)

        try:
            result = contextvars.copy_context().run(call)
        except SimulatedCrash:
            raise  # the sandbox is not put back: nothing of it is ever used again
        except Exception as error:
            if self._has_died(sandbox):  # A thread of it met the crash; what the rest said nobody hears.
                raise SimulatedCrash(function.function_name) from error
            deployed.idle.append(sandbox)
            raise _HandlerError(error) from error
        if self._has_died(sandbox):
            raise SimulatedCrash(function.function_name)
        deployed.idle.append(sandbox)
        return result

    def _has_died(self, sandbox: Sandbox) -> bool:
        key = sandbox.identity.access_key
        return self._simulator.identities.root(key) in self._simulator.crashed

    def _remaining(self, function: LambdaFunction) -> Remaining:
        injected = self.time_limit(function.function_name) if self.time_limit else None
        if injected is not None:
            return injected
        deadline = time.monotonic() + float(function.timeout)
        return lambda: deadline - time.monotonic()

    def _current(self, function: LambdaFunction) -> _Deployed:
        """The deployment record; a changed function begins with cold sandboxes, as in AWS."""
        layers = tuple(layer["Arn"] for layer in function.layers)
        variables = json.dumps(function.environment_vars, sort_keys=True)
        key = (function.code_sha_256, layers, variables, function.role, function.handler, self.package)
        with self._lock:
            deployed = self._deployed.get(function.function_arn)
            if deployed is None or deployed.key != key:
                deployed = self._deployed[function.function_arn] = _Deployed(key)
            return deployed

    def _import(self, function: LambdaFunction) -> Callable[[Any, Any], Any]:
        module, _, attribute = str(function.handler).rpartition(".")
        with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as code:
            if f"{module.replace('.', '/')}.py" not in code.namelist():
                raise _HandlerMissingError(
                    f"Unable to import module '{module}': it is not in the function's asset"
                )
        try:
            imported = importlib.import_module(f"{self.package}.{module}")
            found: Callable[[Any, Any], Any] = getattr(imported, attribute)
        except (ImportError, AttributeError) as error:
            raise _HandlerMissingError(f"Unable to import module '{module}': {error}") from error
        return found

    def _take(self, function: LambdaFunction, deployed: _Deployed) -> Sandbox:
        with self._lock:
            if deployed.idle:
                return deployed.idle.pop()
            self._sandboxes += 1
            number = self._sandboxes
        identity = self.new_identity(function)
        world = World(
            environment=self.environment(function),
            clock=self._simulator.clock,
            ids=SeededIds(f"{self._simulator.world.seed}/{self._opening}/{function.function_arn}/{number}"),
            session=_once(lambda: session_for(identity, function.region)),
            endpoints=self._simulator.endpoints,
            log=self._log(function.function_name),  # type: ignore[arg-type]
        )
        return Sandbox(identity, world)

    def new_identity(self, function: LambdaFunction) -> Identity:
        """The session of a function's role for one more sandbox."""
        self._simulator.recorder.runs(function)
        return self._simulator.identities.assume(
            function.role.split(":")[4],
            function.role,
            name=function.function_name[:64],
            seconds=_SESSION_SECONDS,
        )

    def log_file(self, name: str) -> Path:
        """The file that holds what a function logs."""
        self._logs.mkdir(exist_ok=True)
        return self._logs / f"{name}.log"

    def _log(self, name: str) -> _Log:
        with self._lock:
            if name not in self._log_of:
                self._log_of[name] = _Log(self.log_file(name))
            return self._log_of[name]

    def environment(self, function: LambdaFunction, *, opt: Path | None = None) -> Mapping[str, str]:
        """The template's variables and those of AWS; ``/opt/...`` points to the extracted layers."""
        variables = {key: str(value) for key, value in function.environment_vars.items()}
        rewritten = {
            key: str(self._in_layers(function, value)) if value.startswith("/opt/") else value
            for key, value in variables.items()
        }
        return rewritten | {
            "AWS_DEFAULT_REGION": function.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.function_name}",
            "AWS_REGION": function.region,
            "LAMBDA_TASK_ROOT": "/var/task",
            "TZ": ":UTC",
        }

    def layer_folders(self, function: LambdaFunction) -> list[Path]:
        """Extracted layers of a function, the one that wins first."""
        folders = []
        backend = get_backend(function.account_id, function.region)
        for layer in reversed(function.layers):
            version = backend.layers_versions_by_arn(layer["Arn"])
            folders.append(extracted(version.code_bytes, self._layers))
        return folders

    def _in_layers(self, function: LambdaFunction, path: str) -> Path:
        relative = path.removeprefix("/opt/")
        folders = self.layer_folders(function)
        found = [folder / relative for folder in folders if (folder / relative).exists()]
        return (found or [self._layers / "missing" / relative])[0]

    # Asynchronous invocations

    def accept(self, function: LambdaFunction, payload: bytes) -> None:
        """Queue an asynchronous invocation: retried twice, then sent to the failure destination."""
        if len(payload) > _ASYNCHRONOUS_BYTES:
            raise ValueError("the event of an asynchronous invocation exceeds 1048576 bytes")
        self._engine.start(self._deliver(function, payload))

    async def _deliver(self, function: LambdaFunction, payload: bytes) -> None:
        config = function.event_invoke_config[-1].response() if function.event_invoke_config else {}
        attempts = 1 + int(config.get("MaximumRetryAttempts", 2))
        for attempt in range(attempts):
            body, kind = await self._engine.call(lambda: self.run(function, payload))
            if not kind:
                return
            if attempt + 1 < attempts:
                await self._engine.sleep(60 * (attempt + 1))
        destination = config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        if destination:
            record = {
                "version": "1.0",
                "requestContext": {"functionArn": function.function_arn, "condition": "RetriesExhausted"},
                "requestPayload": json.loads(payload or b"null"),
                "responsePayload": json.loads(body),
            }
            await self._engine.call(lambda: self._send(function, destination, json.dumps(record)))

    def _send(self, function: LambdaFunction, destination: str, message: str) -> None:
        service, region = destination.split(":")[2:4]
        session = self._simulator.session(function.account_id, region)
        if service == "sns":
            session.client("sns").publish(TopicArn=destination, Message=message)
        elif service == "sqs":
            client = session.client("sqs")
            url = client.get_queue_url(QueueName=destination.rsplit(":", 1)[-1])["QueueUrl"]
            client.send_message(QueueUrl=url, MessageBody=message)
        elif service == "lambda":
            session.client("lambda").invoke(
                FunctionName=destination, InvocationType="Event", Payload=message.encode()
            )
        else:
            raise ValueError(f"{destination} is no destination of asynchronous invocations")


class _HandlerMissingError(Exception):
    """The function's handler cannot be imported."""


class _HandlerError(Exception):
    """The handler raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []
    lock = threading.Lock()

    def get() -> Any:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def extracted(archive: bytes, folder: Path) -> Path:
    """The folder below ``folder`` with the content of a zip archive; extracted at its first use."""
    import hashlib

    target = folder / hashlib.sha256(archive).hexdigest()[:24]
    if not target.exists():
        partial = target.with_name(f"{target.name}.{threading.get_ident()}")
        partial.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(archive)) as content:
            content.extractall(partial)
        try:
            partial.rename(target)
        except OSError:  # another thread was faster; its content is the same
            import shutil

            shutil.rmtree(partial)
    return target


def install(simulator: Simulator, patches: Patches) -> None:
    """Make moto's Lambda run functions through ``simulator.lambdas``."""

    def invoke(
        backend: LambdaSimpleBackend,
        function_name: str,
        qualifier: str | None,
        body: Any,
        headers: Any,
        answer: Any,
    ) -> bytes:
        function = backend.get_function(function_name, qualifier)
        payload = body if isinstance(body, bytes) else (body or "").encode()
        kind = (
            headers.get("X-Amz-Invocation-Type") or headers.get("x-amz-invocation-type") or "RequestResponse"
        )
        if kind == "DryRun":
            return b""
        if kind == "Event":
            simulator.lambdas.accept(function, payload)
            return b""
        result, failure = simulator.lambdas.run(function, payload)
        if failure:
            answer["x-amz-function-error"] = failure
        answer["x-amz-executed-version"] = "$LATEST"
        return result

    patches.set(LambdaSimpleBackend, "invoke", invoke)
