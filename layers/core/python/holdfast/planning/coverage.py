"""The coverage ledger.

Every instance that exists is exactly one of protected, failed, excluded, not selected or
unreachable, each day.

The sum of a day equals its inventory; that is checked where the day is made, because a report that lost an
instance would hide precisely what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from holdfast.errors import IntegrityError
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import Instance
from holdfast.model.scope import Account
from holdfast.planning.ownership import opinions, uncovered


class Standing(StrEnum):
    """Where an instance stands on one day."""

    PROTECTED = "protected"
    FAILED = "failed"
    EXCLUDED = "excluded"
    NOT_SELECTED = "not selected"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Line:
    """One instance on one day."""

    account: str
    region: str
    instance_id: str
    standing: Standing
    reason: str
    policy: str = ""


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One account on one day. ``new`` accounts were not in the ledger of the day before."""

    account: str
    name: str
    instances: int
    reachable: bool
    reason: str = ""
    new: bool = False


@dataclass(frozen=True, slots=True)
class Day:
    """The ledger of one day, ordered by account, Region and instance."""

    on: date
    lines: tuple[Line, ...]
    accounts: tuple[AccountLine, ...]

    def counts(self) -> dict[Standing, int]:
        """Instances by standing, zero included."""
        found = dict.fromkeys(Standing, 0)
        for line in self.lines:
            found[line.standing] += 1
        return found

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person should look at: failures, unreachable accounts, new accounts without protection."""
        covered = {line.account for line in self.lines if line.standing is Standing.PROTECTED}
        return (
            *(
                f"{line.instance_id}: {line.reason}"
                for line in self.lines
                if line.standing is Standing.FAILED
            ),
            *(f"account {each.account}: {each.reason}" for each in self.accounts if not each.reachable),
            *(
                f"account {each.account} is new and has no protected instance"
                for each in self.accounts
                if each.new and each.reachable and each.instances and each.account not in covered
            ),
        )


def _line(
    configuration: Configuration, instance: Instance, place: Account, failed: Mapping[str, str]
) -> Line:
    found = opinions(configuration, instance, place)
    where = (instance.account, instance.region, instance.instance_id)
    owner = next((each for each in found if each.owns), None)
    if owner is None:
        coverage, reason = uncovered(found)
        return Line(*where, Standing(coverage.value), reason)
    if instance.instance_id in failed:
        return Line(*where, Standing.FAILED, failed[instance.instance_id], owner.policy)
    return Line(*where, Standing.PROTECTED, owner.reason, owner.policy)


def day(
    configuration: Configuration,
    on: date,
    instances: Iterable[Instance],
    accounts: Iterable[Account],
    *,
    failed: Mapping[str, str] | None = None,
    unreachable: Mapping[str, str] | None = None,
    before: Day | None = None,
) -> Day:
    """The ledger of ``on``.

    ``instances`` is the whole inventory: of an account that cannot be reached, what was last known of it.
    ``failed`` gives, per instance id, why its last session made no restore point; ``unreachable``, per
    account id, why it could not be entered. Raises IntegrityError when the lines do not add up to the
    inventory.
    """
    closed, broken = unreachable or {}, failed or {}
    places = {each.account: each for each in accounts}
    lines, seen = [], set()
    for instance in sorted(instances, key=lambda each: (each.account, each.region, each.instance_id)):
        seen.add((instance.account, instance.region, instance.instance_id))
        if instance.account in closed:
            where = (instance.account, instance.region, instance.instance_id)
            lines.append(Line(*where, Standing.UNREACHABLE, closed[instance.account]))
        else:
            place = places.get(instance.account, Account(account=instance.account))
            lines.append(_line(configuration, instance, place, broken))
    if len(lines) != len(seen):
        raise IntegrityError("An instance stands twice in the inventory.", resource=str(on))
    known = {each.account for each in before.accounts} if before else None
    per_account: dict[str, int] = dict.fromkeys(sorted({*places, *closed}), 0)
    for line in lines:
        per_account[line.account] = per_account.get(line.account, 0) + 1
    entries = (
        AccountLine(
            account,
            places[account].name if account in places else "",
            count,
            account not in closed,
            closed.get(account, ""),
            known is not None and account not in known,
        )
        for account, count in sorted(per_account.items())
    )
    return Day(on, tuple(lines), tuple(entries))
