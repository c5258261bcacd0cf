"""Wires the control plane of a simulated world: deployments, functions, machines, schedules, identities.

Everything is attached to the simulator before its world is populated, and taken off when it closes.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from simulator import (
    cloudformation,
    guest,
    iam,
    lambdas,
    mail,
    organizations,
    schedules,
    shortcuts,
    stepfunctions,
)
from simulator.deploy import Deployer
from simulator.engine import Engine
from simulator.guest import Guests
from simulator.identities import Identity
from simulator.lambdas import Lambdas
from simulator.organizations import Organizations
from simulator.patches import Patches
from simulator.permissions import Recorder
from simulator.schedules import Schedules
from simulator.stepfunctions import Executions

if TYPE_CHECKING:
    from simulator.simulator import Simulator

# Nothing is lost between the operator and the simulator, so checksums of assets would only take time.
_CONFIG = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")


class Control:
    """The control plane of one world; ``simulator.control``. ``refused``: why roles could not be assumed."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._sessions: dict[tuple[str, str], Any] = {}
        self._services: dict[str, Identity] = {}
        self._lock = threading.Lock()
        self.patches = Patches()
        self.refused: list[str] = []
        self.engine = Engine(simulator.clock, simulator.clock.set)
        self.organizations = Organizations(simulator)
        self.deployer = Deployer(self.client, simulator.world.backup_account, simulator.world.regions[0])

    def client(self, service: str, account: str, region: str) -> Any:
        """A client of an account's operator."""
        key = (service, account, region)
        with self._lock:
            if key not in self._clients:
                if (account, region) not in self._sessions:
                    self._sessions[account, region] = self._simulator.session(account, region)
                self._clients[key] = self._sessions[account, region].client(service, config=_CONFIG)
            return self._clients[key]

    def assume_for_service(self, role_arn: str, service: str, source_arn: str) -> Identity:
        """The session that an AWS service gets for a role it was given. Raises PermissionError."""
        role = iam.find_role(role_arn)
        account = source_arn.split(":")[4]
        context = {"aws:sourcearn": [source_arn], "aws:sourceaccount": [account]}
        reason = iam.refusal(role, role_arn, service, "", context)
        if reason:
            self.refused.append(reason)
            raise PermissionError(reason)
        with self._lock:
            identity = self._services.get(role_arn)
            if identity is None or self._simulator.identities.is_expired(identity):
                identity = self._simulator.identities.assume(
                    role_arn.split(":")[4], role_arn, name=service.split(".")[0]
                )
                self._services[role_arn] = identity
        return identity

    def close(self) -> None:
        """Stop what runs and take the patches off."""
        self._simulator.lambdas.close()
        self.engine.close()
        self.patches.undo()
        organizations.uninstall()


def install(simulator: Simulator) -> None:
    """Attach the control plane to a simulator."""
    control = simulator.control = Control(simulator)
    engine = control.engine
    simulator.organizations = control.organizations
    simulator.engine = engine
    simulator.lambdas = Lambdas(simulator, engine)
    simulator.executions = Executions(simulator, engine)
    simulator.schedules = Schedules(simulator, engine)
    simulator.recorder = Recorder(simulator)
    simulator.guards.append(simulator.recorder.guard)
    simulator.guests = Guests(simulator, simulator.kept.setdefault("commands", []))
    simulator.mail = mail.Mailbox()
    simulator.topics = mail.Topics()
    simulator.deploy = control.deployer.deploy
    simulator.destroy = control.deployer.destroy

    def run_until(instant: datetime) -> None:
        engine.settle(instant)

    simulator.clock.driver = run_until
    simulator.run_schedules = simulator.clock.advance_to
    cloudformation.install(control.patches)
    stepfunctions.install(simulator, control.patches)
    lambdas.install(simulator, control.patches)
    schedules.install(simulator, control.patches)
    iam.install(simulator, control.patches)
    organizations.install(simulator, control.patches)
    mail.install(control.patches)
    guest.install(simulator, control.patches)
    shortcuts.install(control.patches)
    simulator.schedules.arm_all()


def uninstall(simulator: Simulator) -> None:
    """Detach it."""
    simulator.clock.driver = None
    control = simulator.__dict__.pop("control", None)
    if control is not None:
        control.close()
