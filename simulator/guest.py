"""Systems Manager: commands run against model guests that succeed, fail, hang, or lack what is asked of them.

A guest is described in the world file under ``guests``; an instance without one has no agent. What a
command does is decided when it is sent, and shows as virtual time passes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.ssm.responses import SimpleSystemManagerResponse
from pydantic import BaseModel, ConfigDict, Field

from simulator.patches import Patches

if TYPE_CHECKING:
    from simulator.simulator import Simulator

_SCRIPTS = {"AWS-RunShellScript", "AWS-RunPowerShellScript"}
_VSS = "AWSEC2-CreateVssSnapshot"
_DELIVERY_SECONDS = 3_600  # default of SendCommand's TimeoutSeconds
_EXECUTION_SECONDS = 3_600  # default of the documents' executionTimeout


class Script(BaseModel):
    """What happens when a script whose text matches ``matches`` (wildcards) runs; ``seconds`` are virtual."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    matches: str
    exit: int = 0
    output: str = ""
    error: str = ""
    seconds: float = Field(default=1, ge=0)
    hangs: bool = False


class Guest(BaseModel):
    """The operating system of an instance as Systems Manager meets it.

    ``agent``: ``offline`` takes commands that time out; ``missing`` is not known at all. A script that none
    of ``scripts`` matches is not there. ``vss``: the components for application-aware snapshots on Windows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: Literal["online", "offline", "missing"] = "online"
    version: str = "3.3.0.0"
    scripts: tuple[Script, ...] = ()
    vss: Literal["installed", "missing", "failing"] = "missing"


@dataclass
class Invocation:
    """A command on one instance."""

    command_id: str
    instance_id: str
    document: str
    parameters: dict[str, list[str]]
    account: str
    region: str
    sent_at: datetime
    ends_at: datetime
    result: str
    exit: int = 0
    output: str = ""
    error: str = ""
    cancelled_at: datetime | None = None
    comment: str = ""

    def status(self, now: datetime) -> str:
        """The status that the service shows at an instant."""
        if self.cancelled_at is not None and self.cancelled_at < self.ends_at:
            return "Cancelled"
        if now >= self.ends_at:
            return self.result
        return "Pending" if self.result == "DeliveryTimedOut" else "InProgress"


@dataclass
class Guests:
    """The guests of the world; ``simulator.guests``. ``ran``: every invocation, in the order sent."""

    simulator: Simulator
    ran: list[Invocation] = field(default_factory=list)

    def of(self, account: str, region: str, instance_id: str) -> Guest | None:
        """The guest of an instance that runs; None without an agent."""
        instance = ec2_backends[account][region].get_instance(instance_id)
        if instance is None or instance.state != "running":
            return None
        name = next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), "")
        for described in self.simulator.world.instances:
            same_place = (described.account, described.region) == (account, region)
            named = name == described.name or name.rpartition("-")[0] == described.name
            if same_place and described.guest and (described.id == instance_id or named):
                guest = Guest.model_validate(self.simulator.world.guests[described.guest])
                return None if guest.agent == "missing" else guest
        return None

    def send(self, response: SimpleSystemManagerResponse) -> dict[str, Any]:
        """Start a command on its instances."""
        account, region = response.current_account, response.region
        now = self.simulator.clock.now()
        document = response._get_param("DocumentName")
        parameters = response._get_param("Parameters", {}) or {}
        instances = response._get_param("InstanceIds", []) or self._targets(response)
        guests = {one: self.of(account, region, one) for one in instances}
        unknown = [one for one, guest in guests.items() if guest is None]
        if unknown and response._get_param("InstanceIds", []):
            raise InvalidInstanceId(f"[{', '.join(unknown)}] are not in a valid state for account {account}")
        chance = Random(f"{self.simulator.world.seed}/commands/{len(self.ran)}")
        command_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        delivery = response._get_int_param("TimeoutSeconds") or _DELIVERY_SECONDS
        for instance_id, guest in guests.items():
            if guest is None:
                continue
            invocation = Invocation(
                command_id, instance_id, document, parameters, account, region, now, now, "Success"
            )
            self._decide(guest, invocation, delivery)
            self.ran.append(invocation)
        return self._describe_command([one for one in self.ran if one.command_id == command_id])

    def _targets(self, response: SimpleSystemManagerResponse) -> list[str]:
        backend = ec2_backends[response.current_account][response.region]
        filters = {}
        for target in response._get_param("Targets", []):
            if target["Key"] == "InstanceIds":
                return list(target["Values"])
            filters[target["Key"]] = target["Values"]
        return [one.id for group in backend.all_reservations(filters=filters) for one in group.instances]

    def _decide(self, guest: Guest, invocation: Invocation, delivery: float) -> None:
        """What will become of an invocation."""
        if guest.agent == "offline":
            invocation.result, invocation.exit = "DeliveryTimedOut", -1
            invocation.ends_at += timedelta(seconds=delivery)
            return
        if invocation.document == _VSS:
            self._shadow_copy(guest, invocation)
            return
        if invocation.document not in _SCRIPTS:
            raise InvalidDocument(f"document {invocation.document} does not exist")
        limit = float((invocation.parameters.get("executionTimeout") or [_EXECUTION_SECONDS])[0])
        for line in invocation.parameters.get("commands", []):
            script = next((one for one in guest.scripts if fnmatchcase(line, one.matches)), None)
            if script is None:
                invocation.result, invocation.exit = "Failed", 127
                invocation.error += f"{line.split()[0] if line.split() else ''}: not found\n"
                return
            if script.hangs or script.seconds > limit:
                invocation.result, invocation.exit = "TimedOut", -1
                invocation.ends_at += timedelta(seconds=limit)
                return
            limit -= script.seconds
            invocation.ends_at += timedelta(seconds=script.seconds)
            invocation.output += script.output
            invocation.error += script.error
            if script.exit:
                invocation.result, invocation.exit = "Failed", script.exit
                return

    def _shadow_copy(self, guest: Guest, invocation: Invocation) -> None:
        """The snapshots that the instance makes of itself; without the components, the failure."""
        invocation.ends_at += timedelta(seconds=10)
        if guest.vss != "installed":
            invocation.result, invocation.exit = "Failed", 1
            invocation.error = (
                "VSS components are not installed" if guest.vss == "missing" else "VSS writer timed out"
            )
            return
        given = invocation.parameters
        client = self.simulator.control.client("ec2", invocation.account, invocation.region)
        tags = [
            {"Key": key, "Value": value}
            for text in given.get("tags", [])
            for key, value in [part.removeprefix("Key=").split(",Value=") for part in text.split(";") if part]
        ]
        made = client.create_snapshots(
            InstanceSpecification={
                "InstanceId": invocation.instance_id,
                "ExcludeBootVolume": given.get("ExcludeBootVolume", ["False"])[0] == "True",
            },
            Description=given.get("description", [""])[0],
            TagSpecifications=[
                {"ResourceType": "snapshot", "Tags": [*tags, {"Key": "AppConsistent", "Value": "True"}]}
            ],
        )["Snapshots"]
        invocation.output = "\n".join(snapshot["SnapshotId"] for snapshot in made)

    def cancel(self, command_id: str, instances: list[str]) -> None:
        """Stop a command where it still runs."""
        for one in self.ran:
            if one.command_id == command_id and (not instances or one.instance_id in instances):
                one.cancelled_at = one.cancelled_at or self.simulator.clock.now()

    def find(self, command_id: str = "", instance_id: str = "") -> list[Invocation]:
        """Invocations of a command, on an instance."""
        return [
            one
            for one in self.ran
            if command_id in ("", one.command_id) and instance_id in ("", one.instance_id)
        ]

    def describe(self, one: Invocation) -> dict[str, Any]:
        """An invocation as GetCommandInvocation shows it."""
        now = self.simulator.clock.now()
        status = one.status(now)
        ended = status not in {"Pending", "InProgress"}
        return {
            "CommandId": one.command_id,
            "InstanceId": one.instance_id,
            "DocumentName": one.document,
            "PluginName": "aws:runPowerShellScript" if "PowerShell" in one.document else "aws:runShellScript",
            "ResponseCode": one.exit if ended and status != "Cancelled" else -1,
            "Status": status,
            "StatusDetails": status,
            "StandardOutputContent": one.output[:24_000] if ended else "",
            "StandardErrorContent": one.error[:24_000] if ended else "",
            "ExecutionStartDateTime": one.sent_at.isoformat(),
            "ExecutionEndDateTime": one.ends_at.isoformat() if ended else "",
        }

    def _describe_command(self, invocations: list[Invocation]) -> dict[str, Any]:
        first, now = invocations[0], self.simulator.clock.now()
        statuses = {one.status(now) for one in invocations}
        running = statuses & {"Pending", "InProgress"}
        return {
            "CommandId": first.command_id,
            "DocumentName": first.document,
            "Parameters": first.parameters,
            "InstanceIds": [one.instance_id for one in invocations],
            "RequestedDateTime": first.sent_at,
            "Status": "InProgress" if running else "Success" if statuses == {"Success"} else "Failed",
            "TargetCount": len(invocations),
        }


class InvalidInstanceId(ServiceException):
    """An instance that Systems Manager does not manage."""

    code = "InvalidInstanceId"


class InvalidDocument(ServiceException):
    """A document that model guests do not run."""

    code = "InvalidDocument"


class InvocationDoesNotExist(ServiceException):
    """No such command on this instance."""

    code = "InvocationDoesNotExist"


def install(simulator: Simulator, patches: Patches) -> None:
    """Put model guests behind moto's Systems Manager."""
    guests: Guests = simulator.guests

    def send_command(response: SimpleSystemManagerResponse) -> ActionResult:
        return ActionResult({"Command": guests.send(response)})

    def get_command_invocation(response: SimpleSystemManagerResponse) -> ActionResult:
        found = guests.find(response._get_param("CommandId"), response._get_param("InstanceId"))
        if not found:
            raise InvocationDoesNotExist("there is no such invocation")
        return ActionResult(guests.describe(found[0]))

    def list_command_invocations(response: SimpleSystemManagerResponse) -> ActionResult:
        found = guests.find(
            response._get_param("CommandId", "") or "", response._get_param("InstanceId", "") or ""
        )
        shown = ("CommandId", "InstanceId", "DocumentName", "Status", "StatusDetails")
        listed = [
            {name: value for name, value in guests.describe(one).items() if name in shown} for one in found
        ]
        return ActionResult({"CommandInvocations": listed})

    def cancel_command(response: SimpleSystemManagerResponse) -> EmptyResult:
        guests.cancel(response._get_param("CommandId"), response._get_param("InstanceIds", []) or [])
        return EmptyResult()

    def describe_instance_information(response: SimpleSystemManagerResponse) -> ActionResult:
        account, region = response.current_account, response.region
        wanted = [value for one in response._get_param("Filters", []) or [] for value in one["Values"]]
        listed = []
        for group in ec2_backends[account][region].all_reservations():
            for instance in group.instances:
                guest = guests.of(account, region, instance.id)
                if guest is not None and (not wanted or instance.id in wanted):
                    status = "Online" if guest.agent == "online" else "ConnectionLost"
                    listed.append(
                        {"InstanceId": instance.id, "PingStatus": status, "AgentVersion": guest.version}
                    )
        return ActionResult({"InstanceInformationList": listed})

    for function in (
        send_command,
        get_command_invocation,
        list_command_invocations,
        cancel_command,
        describe_instance_information,
    ):
        patches.set(SimpleSystemManagerResponse, function.__name__, function)
