"""The retention that judges restore points: what the configuration says, and what was in force before.

The catalog remembers for every policy and kind what was last in force. A longer retention applies, and is
remembered, at once; a shorter one waits until a person confirms exactly it (`holdfast policy confirm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.model.configuration import AnyPolicy
from holdfast.model.restore_point import Kind
from holdfast.model.session import Problem, State
from holdfast.operations.services import Services
from holdfast.planning.confirmation import (
    Retention,
    in_force,
    is_waiting,
    of_obsolete,
    of_rule,
    wanted_after,
)
from holdfast.planning.protection import rule_of
from holdfast.planning.retention import Rule
from holdfast.ports import Catalog

IN_FORCE: Final = "retention-in-force"
"""The session whose parts remember what is in force."""
OBSOLETE: Final = "obsolete"
"""The part about obsolete snapshots; those of policies are ``policy/<name>/<kind>``."""
FOR_GOOD: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Parts expire some time after their date; these must outlive every policy."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What judges one kind of a policy's restore points; ``wanted`` is what the configuration says.

    ``waiting``: ``wanted`` is shorter, so that what every one of ``held`` and it remove is removed.
    """

    wanted: Retention
    held: tuple[Retention, ...]

    @property
    def waiting(self) -> bool:
        return is_waiting(self.held, self.wanted)

    def rules(self, wanted: Rule) -> tuple[Rule, ...]:
        """The rule of the configuration, and those that have to agree with it."""
        return (wanted, *(one.rule(wanted.zone) for one in self.held)) if self.waiting else (wanted,)


def part_of(policy: str, kind: Kind) -> str:
    """The part that remembers the retention of a policy's restore points of one kind."""
    return f"{prefix_of(policy)}{kind.value}"


def prefix_of(policy: str) -> str:
    """The beginning of the names of a policy's parts."""
    return f"policy/{policy}/"


def policy_in_force(policy: AnyPolicy, kind: Kind, region: str, services: Services) -> InForce:
    """What judges restore points of this kind; a retention that keeps as much as before is remembered."""
    wanted = of_rule(rule_of(services.configuration, policy, kind, region))
    return _noted(part_of(policy.name, kind), wanted, (wanted,), services)


def obsolete_in_force(services: Services) -> InForce:
    """What judges obsolete snapshots. Before the first confirmation none is ever removed."""
    wanted = of_obsolete(services.configuration.obsolete_snapshots)
    return _noted(OBSOLETE, wanted, (Retention(),), services)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A retention that the deployed configuration wants, and that keeps less than what is in force."""

    part: str
    wanted: Retention
    held: tuple[Retention, ...]


def waiting(prefix: str, catalog: Catalog) -> Iterator[Waiting]:
    """What waits for a confirmation, as the functions last saw it, in parts that begin with ``prefix``."""
    for part, body in catalog.parts(IN_FORCE, prefix):
        nested = "/" in part.removeprefix(prefix)  # The name of another policy goes on with a slash.
        if body["wanted"] is not None and not nested:
            yield Waiting(part, Retention.model_validate(body["wanted"]), _held(body))


def confirm(found: Waiting, by: str, at: datetime, catalog: Catalog) -> None:
    """Let exactly this be in force from now on: a configuration that says less has to wait again."""
    wanted = wanted_after(found.held, found.wanted)
    noted = {"confirmed_by": by, "confirmed_at": at.isoformat()}
    _write(found.part, InForce(found.wanted, (wanted,)), noted, catalog)


def shortened(policy: str, count: int) -> Problem:
    """What a person hears of a retention that waits; ``policy`` empty: that of obsolete snapshots."""
    what, option = (f"policy {policy}", f"'{policy}'") if policy else ("obsolete snapshots", "--obsolete")
    return Problem(
        code="RetentionShortened",
        message=f"Retention was shortened for {what}: {count} restore points would go.",
        resource=policy or "obsolete_snapshots",
        remedy=f"`holdfast policy confirm {option}` applies it; until then the longer one goes on.",
        severity=State.WARNING,
    )


def _noted(part: str, wanted: Retention, first: tuple[Retention, ...], services: Services) -> InForce:
    """What is in force now; written down when it, or what waits to be, has changed."""
    body = services.catalog.read_part(IN_FORCE, part)
    found = InForce(wanted, in_force(_held(body) or first, wanted))
    if body is None or (body["held"], body["wanted"]) != _written(found):
        _write(part, found, {"since": services.clock.now().isoformat()}, services.catalog)
    return found


def _held(body: dict[str, Any] | None) -> tuple[Retention, ...]:
    return tuple(Retention.model_validate(one) for one in body["held"]) if body else ()


def _written(found: InForce) -> tuple[list[Any], Any]:
    held = [one.model_dump(mode="json") for one in found.held]
    return held, found.wanted.model_dump(mode="json") if found.waiting else None


def _write(part: str, found: InForce, noted: dict[str, str], catalog: Catalog) -> None:
    held, wanted = _written(found)
    catalog.write_part(IN_FORCE, part, {"held": held, "wanted": wanted, **noted}, at=FOR_GOOD)
