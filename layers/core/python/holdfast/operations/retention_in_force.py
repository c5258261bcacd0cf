"""The retention that judges restore points: what the configuration says, and what was in force before.

The catalog remembers for every policy and kind what was last in force. A longer retention applies, and is
remembered, at once; a shorter one waits until a person confirms exactly it (`holdfast policy confirm`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_NEVER: Final = datetime(9000, 1, 1, tzinfo=UTC)


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
    return f"policy/{policy}/{kind.value}"


def policy_in_force(policy: AnyPolicy, kind: Kind, region: str, services: Services) -> InForce:
    """What judges restore points of this kind; a retention that keeps as much as before is remembered."""
    wanted = of_rule(rule_of(services.configuration, policy, kind, region))
    return _noted(part_of(policy.name, kind), wanted, (wanted,), services)


def obsolete_in_force(services: Services) -> InForce:
    """What judges obsolete snapshots. Before the first confirmation none is ever removed."""
    wanted = of_obsolete(services.configuration.obsolete_snapshots)
    return _noted(OBSOLETE, wanted, (Retention(),), services)


def read_in_force(part: str, catalog: Catalog) -> tuple[Retention, ...]:
    """What was last in force by one part; nothing when it was never judged by."""
    return _held(catalog.read_part(IN_FORCE, part))


def waiting_parts(policy: str, catalog: Catalog) -> Iterator[tuple[str, tuple[Retention, ...]]]:
    """The parts of a policy with what was last in force."""
    for part, body in catalog.parts(IN_FORCE, f"policy/{policy}/"):
        yield part, _held(body)


def confirm(part: str, wanted: Retention, by: str, at: datetime, catalog: Catalog) -> None:
    """Let exactly ``wanted`` be in force from now on: a configuration that says less has to wait again."""
    wanted = wanted_after(_held(catalog.read_part(IN_FORCE, part)), wanted)
    _write(part, (wanted,), {"confirmed_by": by, "confirmed_at": at.isoformat()}, catalog)


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
    body = services.catalog.read_part(IN_FORCE, part)
    before = _held(body) or first
    held = in_force(before, wanted)
    if body is None or held != before:
        _write(part, held, {"since": services.clock.now().isoformat()}, services.catalog)
    return InForce(wanted, held)


def _held(body: dict[str, Any] | None) -> tuple[Retention, ...]:
    return tuple(Retention.model_validate(one) for one in body["held"]) if body else ()


def _write(part: str, held: Sequence[Retention], noted: dict[str, str], catalog: Catalog) -> None:
    body = {"held": [one.model_dump(mode="json") for one in held], **noted}
    catalog.write_part(IN_FORCE, part, body, at=_NEVER)
