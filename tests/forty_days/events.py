"""What happens to the company, and when: told to the simulated AWS and to the model alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.models import iam_backends

from holdfast.bootstrap import Services
from holdfast.model.configuration import Configuration
from holdfast.operations.retention.retention_in_force import OBSOLETE, confirm, waiting
from infra.synth import synthesize
from simulator.faults import Fault
from simulator.populate import add_account, add_instance, derived_id
from simulator.simulator import Simulator
from simulator.world import Account, Instance
from tests.forty_days import world
from tests.forty_days.model import Machine, Model
from tests.forty_days.rules import Document


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at an instant."""

    at: datetime
    what: str
    in_aws: Callable[[Simulator, Services], None]
    in_model: Callable[[Model], None]


def instance_id(account: str, region: str, name: str) -> str:
    """The id that the simulator gives an instance of the world file."""
    return derived_id("i", account, region, name)


def _on(month: int, day: int, hour: int = 11, minute: int = 30) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def _id_of(name: str) -> tuple[str, str, str]:
    account, region, _ = world.INSTANCES[name]
    return account, region, instance_id(account, region, name)


def _retag(at: datetime, name: str, tags: dict[str, str]) -> Event:
    """An instance gets exactly these tags, besides its name."""
    account, region, one = _id_of(name)

    def in_aws(sim: Simulator, services: Services) -> None:
        ec2 = sim.session(account, region).client("ec2")
        found = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [one]}])["Tags"]
        gone = [{"Key": tag["Key"]} for tag in found if tag["Key"] != "Name"]
        if gone:
            ec2.delete_tags(Resources=[one], Tags=gone)
        if tags:
            ec2.create_tags(Resources=[one], Tags=[{"Key": key, "Value": tags[key]} for key in tags])

    def in_model(model: Model) -> None:
        model.machines[name].tags = dict(tags)

    return Event(at, f"{name} is retagged to {tags}", in_aws, in_model)


def _terminate(at: datetime, name: str) -> Event:
    account, region, one = _id_of(name)

    def in_aws(sim: Simulator, services: Services) -> None:
        sim.session(account, region).client("ec2").terminate_instances(InstanceIds=[one])

    def in_model(model: Model) -> None:
        model.machines[name].alive = False

    return Event(at, f"{name} is terminated", in_aws, in_model)


def _appear(at: datetime, account: str, unit: str, name: str, region: str, tags: dict[str, str]) -> Event:
    """A new account with one instance."""

    def in_aws(sim: Simulator, services: Services) -> None:
        add_account(sim, Account(id=account, name="newcomer", unit=unit))
        add_instance(sim, Instance.model_validate(world.instance_document(name, account, region, tags)))

    def in_model(model: Model) -> None:
        model.places[account] = unit
        model.machines[name] = Machine(name, account, region, dict(tags))

    return Event(at, f"the account {account} appears", in_aws, in_model)


def _move(at: datetime, account: str, unit: str) -> Event:
    """An account moves to another unit."""

    def in_aws(sim: Simulator, services: Services) -> None:
        client = sim.session(world.MANAGEMENT, world.FRANKFURT).client("organizations")
        (parent,) = client.list_parents(ChildId=account)["Parents"]
        client.move_account(
            AccountId=account, SourceParentId=parent["Id"], DestinationParentId=world.UNITS[unit]
        )

    def in_model(model: Model) -> None:
        model.places[account] = unit

    return Event(at, f"{account} moves to {unit}", in_aws, in_model)


def _lock(at: datetime, account: str, *, until: datetime) -> tuple[Event, Event]:
    """An account has no role for a while, as when somebody deletes it."""
    taken: dict[str, Any] = {}

    def lose(sim: Simulator, services: Services) -> None:
        roles = iam_backends[account]["aws"].roles
        taken.update({one: roles.pop(one) for one in list(roles) if roles[one].name == "HoldfastBackup"})
        assert taken, f"{account} has no role to lose"

    def regain(sim: Simulator, services: Services) -> None:
        iam_backends[account]["aws"].roles.update(taken)

    return (
        Event(at, f"{account} loses its role", lose, lambda model: model.locked.add(account)),
        Event(until, f"{account} has its role again", regain, lambda model: model.locked.discard(account)),
    )


def _fail(slot: datetime, name: str, *, retried: bool = False) -> Event:
    """The snapshot of one slot is refused once; ``retried``: the policy tries again, and succeeds."""
    fault = Fault(
        call="ec2:CreateSnapshots",
        effect="error",
        code="UnauthorizedOperation",
        status=403,
        times=1,
        resource=_id_of(name)[2],
    )

    def in_model(model: Model) -> None:
        if not retried:
            model.failing.add((name, slot))

    return Event(
        slot - timedelta(minutes=20), f"{name} fails", lambda sim, _: sim.faults.add(fault), in_model
    )


def edited(document: Document) -> Document:
    """The configuration after the change: one snapshot a night is promised, and gold keeps more."""
    found = deepcopy(document)
    found["sla_templates"][0]["snapshots"]["daily"]["hours"] = 2
    found["policies"][1]["daily"]["snapshots"]["keep"] = 5
    return found


def _edit(at: datetime) -> Event:
    """An operator deploys another configuration."""

    def in_aws(sim: Simulator, services: Services) -> None:
        configured = Configuration.model_validate(edited(world.CONFIGURATION))
        assembly = synthesize(configured, sim.directory / "edited", bundling=False)
        client = sim.session(world.MANAGEMENT, world.FRANKFURT).client("organizations")
        sim.deploy(assembly, parameters={"OrganizationalUnitIds": client.list_roots()["Roots"][0]["Id"]})

    def in_model(model: Model) -> None:
        model.document = edited(model.document)

    return Event(at, "the configuration is edited", in_aws, in_model)


def _confirm_obsolete(at: datetime) -> Event:
    """An operator confirms that snapshots of instances in no policy may go; before, none ever does."""

    def in_aws(sim: Simulator, services: Services) -> None:
        (found,) = waiting(OBSOLETE, services.catalog)
        confirm(found, "operator", at, services.catalog)

    def in_model(model: Model) -> None:
        model.confirmed = True

    return Event(at, "the retention of obsolete snapshots is confirmed", in_aws, in_model)


FORTY_DAYS: tuple[Event, ...] = (
    _confirm_obsolete(_on(10, 18)),
    # Excluded for three days.
    _retag(_on(10, 6), "web-us", {"tier": "gold", "backup": "never"}),
    _retag(_on(10, 9), "web-us", {"tier": "gold"}),
    _appear(_on(10, 8), world.NEWCOMER, "Workloads/Staging", "newcomer", world.FRANKFURT, {"tier": "gold"}),
    # From gold to vault, from vault to the promise, out of everything.
    _retag(_on(10, 10, 6), "shop", {"vault": "yes"}),
    _retag(_on(10, 14, 6), "data", {"sla": "yes"}),
    _retag(_on(10, 16), "lab", {}),
    *_lock(_on(10, 12), world.FRAGILE, until=_on(10, 17)),
    # The first success of a Sunday carries the week's flag, that of the first day the month's.
    _fail(_on(10, 10, 14, 0), "web-promise"),
    _fail(_on(11, 1, 0, 0), "data-promise"),
    # A schedule's flag waits for nobody; what is retried is as if nothing had happened.
    _fail(_on(10, 11, 0, 0), "web"),
    _fail(_on(10, 12, 15, 0), "lab", retried=True),
    # Gone between the two slots of a night in Virginia; joined between those of a night in Frankfurt.
    _terminate(_on(10, 15, 5, 30), "shop-promise"),
    _retag(_on(10, 22, 23, 30), "web", {"sla": "yes"}),
    _move(_on(10, 19), world.MOVER, "Workloads/Staging/Legacy"),
    _terminate(_on(10, 20), "sandbox"),
    _edit(_on(10, 27)),
)


WEEKEND: tuple[Event, ...] = (
    *_lock(_on(10, 3), world.FRAGILE, until=_on(10, 4)),
    _retag(_on(10, 2, 15, 30), "data-promise", {"tier": "gold"}),
    _appear(_on(10, 3), world.NEWCOMER, "Workloads/Staging", "newcomer", world.FRANKFURT, {"tier": "gold"}),
    _fail(_on(10, 3, 15, 0), "web-promise"),
    _terminate(_on(10, 4, 5, 30), "shop-promise"),
    _move(_on(10, 4), world.MOVER, "Workloads/Staging/Legacy"),
)
"""The weekend on which Sydney's clocks jump."""


def between(script: tuple[Event, ...], start: datetime, end: datetime) -> Iterator[Event]:
    """The events in ``(start, end]``, in order."""
    yield from sorted((event for event in script if start < event.at <= end), key=lambda event: event.at)
