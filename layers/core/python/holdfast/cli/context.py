"""What every command is given: identity, Region, configuration, output, functions and state machines.

With ``--simulate DIR`` the same commands talk to the simulated AWS of that directory; nothing else differs.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from holdfast.cli.output import Format, Progress, printable, render
from holdfast.errors import ConfigurationError, HoldfastError

if TYPE_CHECKING:
    import boto3

    from holdfast.bootstrap import Services, World
    from holdfast.model.configuration import Configuration
    from simulator.simulator import Simulator


class CommandContext:
    """One command line's view of the world; a context manager, because a simulation is saved at its end."""

    def __init__(
        self,
        *,
        profile: str,
        region_option: str,
        output: Format,
        query: str,
        simulate: str,
        configuration_directory: str,
        installation_option: str,
        quiet: bool,
        verbose: bool,
    ) -> None:
        self._profile = profile
        self._region = region_option
        self._output = output
        self._query = query
        self._simulate = simulate
        self.configuration_directory = Path(configuration_directory)
        self._installation = installation_option
        self.progress = Progress(quiet=quiet)
        if verbose:
            logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    def __enter__(self) -> CommandContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "simulator" in self.__dict__ and self.simulator is not None:
            self.simulator.close()

    @cached_property
    def simulator(self) -> Simulator | None:
        """The opened simulation, or None outside ``--simulate``."""
        if not self._simulate:
            return None
        try:
            from simulator.simulator import Simulator
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "The simulator comes with the source tree, not with an installation.",
                remedy="Run from a clone of the project, after `make prepare`.",
            ) from error
        return Simulator(Path(self._simulate))

    def require_simulator(self) -> Simulator:
        """The simulation. Raises ConfigurationError without ``--simulate``."""
        if self.simulator is None:
            raise ConfigurationError("This command works on a simulation.", remedy="Add --simulate DIR.")
        return self.simulator

    @cached_property
    def configuration(self) -> Configuration:
        """The operator's configuration; in a simulation the one that was deployed there."""
        from holdfast.configuration import load

        deployed = Path(self._simulate) / "config" if self._simulate else None
        return load(deployed if deployed and deployed.is_dir() else self.configuration_directory)

    @property
    def _is_configured(self) -> bool:
        return bool(self._simulate) or self.configuration_directory.is_dir()

    @property
    def installation(self) -> str:
        return self._installation or self.configuration.installation

    @property
    def region(self) -> str:
        """--region, else the hub Region; empty where nothing says (boto3 then asks its own configuration)."""
        return self._region or (self.configuration.hub_region if self._is_configured else "")

    def target_region(self, region: str) -> str:
        """The Region that a command works in: --region, else where its subject is."""
        return self._region or region

    def new_id(self) -> str:
        """A short random id for a request of this person."""
        return self.world.ids.random_bytes(6).hex()

    def session(self, region: str = "") -> boto3.Session:
        """The operator's identity in the backup account."""
        import boto3

        region = region or self.region
        made: boto3.Session
        if self.simulator is not None:
            made = self.simulator.session(self.configuration.backup_account, region)
        else:
            made = boto3.Session(profile_name=self._profile or None, region_name=region or None)
        return made

    @cached_property
    def caller(self) -> str:
        """The ARN of the person or program at the command line, for the record."""
        told = self.session().client("sts").get_caller_identity()
        return str(told["Arn"])

    @cached_property
    def world(self) -> World:
        """The world of operations that run in this process."""
        from holdfast.bootstrap import SystemClock, SystemIds, World
        from holdfast.settings import Settings

        settings = Settings()
        if self._is_configured:
            settings = Settings(
                installation=self.installation,
                hub_region=self.configuration.hub_region,
                table_name=f"{self.installation}-catalog",
            )
        simulated = self.simulator
        return World(
            environment=settings.render(),
            clock=simulated.clock if simulated else SystemClock(),
            ids=SystemIds(),
            session=self.session,
            endpoints=simulated.endpoints if simulated else {},
        )

    @cached_property
    def services(self) -> Services:
        """The adapters that operations work with, under the operator's identity and configuration."""
        from holdfast.bootstrap import Services
        from holdfast.bundle import dump_bundle

        if self._is_configured:
            self.world.once("configuration", lambda: self.configuration)
            self.world.once("bundle", lambda: json.loads(dump_bundle(self.configuration)))
        return Services(self.world)

    def emit(
        self, result: Any, shown: Callable[[Format], str] | None = None, rows: list[Any] | None = None
    ) -> None:
        """Print the result on standard output.

        ``shown`` is how a person reads it as table or text, ``rows`` what a spreadsheet gets of it.
        """
        if rows is not None and not self._query and self._output is Format.CSV:
            result = rows
        if shown is not None and not self._query and self._output in (Format.TABLE, Format.TEXT):
            typer.echo(shown(self._output))
        else:
            typer.echo(render(result, self._output, self._query))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when a person says so. Raises ConfigurationError; BadParameter when nobody is there."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"Nobody is there to answer: {question} Add --yes.")
        if not typer.confirm(printable(question), err=True):
            raise ConfigurationError("Nothing was done.", remedy="Add --yes to go ahead without being asked.")

    def invoke(self, function: str, event: Mapping[str, Any], *, region: str = "") -> Any:
        """Call a function of the installation and return its answer. Raises the function's HoldfastError."""
        from botocore.config import Config

        # A function may take its fifteen minutes; asking again would run it twice.
        patient = Config(read_timeout=905, retries={"total_max_attempts": 1})
        client = self.session(region).client("lambda", config=patient)
        answer = client.invoke(
            FunctionName=f"{self.installation}-{function}", Payload=json.dumps(event).encode()
        )
        payload = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            raise remote_error(str(payload.get("errorType", "Error")), str(payload.get("errorMessage", "")))
        return payload

    def execution_arn(self, machine: str, name: str, *, region: str = "") -> str:
        """The ARN of an execution of a state machine of the installation."""
        return f"{self._machine_arn(machine, region or self.region, 'execution')}:{name}"

    def _machine_arn(self, machine: str, region: str, kind: str = "stateMachine") -> str:
        from holdfast.model.regions import partition

        account = self.configuration.backup_account
        return f"arn:{partition(region)}:states:{region}:{account}:{kind}:{self.installation}-{machine}"

    def start(self, machine: str, event: Mapping[str, Any], *, name: str, region: str = "") -> str:
        """Start an execution of a state machine and return its ARN. The same name starts once."""
        region = region or self.region
        client = self.session(region).client("stepfunctions")
        started = client.start_execution(
            stateMachineArn=self._machine_arn(machine, region), name=name, input=json.dumps(event)
        )
        return str(started["executionArn"])

    def wait(self, execution: str, *, say: Callable[[], str], region: str = "") -> Any:
        """Wait for an execution and return its output; ``say`` is shown meanwhile. Raises HoldfastError."""
        client = self.session(region).client("stepfunctions")
        while (found := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            self.progress.update(say())
            time.sleep(0.05 if self.simulator is not None else 5)
        if found["status"] != "SUCCEEDED":
            raise remote_error(str(found.get("error", found["status"])), str(found.get("cause", "")))
        return json.loads(found.get("output") or "null")


def remote_error(kind: str, cause: str) -> HoldfastError:
    """The error that a function reported (``edge`` writes the cause as JSON), as its own class again."""
    try:
        told = json.loads(cause)
        if isinstance(told.get("errorMessage"), str):
            told = json.loads(told["errorMessage"])
        message, code = str(told["message"]), str(told.get("code", ""))
        resource, remedy = str(told.get("resource", "")), str(told.get("remedy", ""))
    except (ValueError, KeyError, AttributeError, TypeError):
        return HoldfastError(f"{kind}: {cause}" if cause else kind)
    return _class_of(code)(message, resource=resource, remedy=remedy)


def _class_of(code: str) -> type[HoldfastError]:
    """The class of errors with this code, else the base of all."""
    found, families = HoldfastError, [HoldfastError]
    while families:
        family = families.pop()
        if family.code == code:
            found = family
        families += family.__subclasses__()
    return found
