"""The coverage ledger: every instance that exists is exactly one of protected, failed, excluded, not selected
or unreachable, each day.

The sum of a day equals its inventory; that is checked where the day is made, because a report that lost an
instance would hide precisely what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from holdfast.errors import IntegrityError
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.inventory import Instance
from holdfast.model.scope import Account
from holdfast.planning.ownership import opinions, uncovered
from holdfast.planning.selection import enters, precedence
from holdfast.planning.standing import Judged, Standing

Judge = Callable[[Instance, AnyPolicy], Judged]
"""Where an instance stands that a policy owns; `standing.Record.standing_of`."""
Places = Mapping[tuple[str, str], str]
"""By account and Region, why it could not be looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """One instance on one day."""

    account: str
    region: str
    instance_id: str
    standing: Standing
    reason: str
    policy: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One account on one day.

    ``in_scope``: some enabled policy enters it. ``reachable``: it could be looked at in every Region. ``new``
    accounts were not known before.
    """

    account: str
    name: str
    instances: int
    reachable: bool
    reason: str = ""
    new: bool = False
    in_scope: bool = True
    protected: int = 0

    @property
    def label(self) -> str:
        return f"{self.account} ({self.name})" if self.name else self.account


@dataclass(frozen=True, slots=True)
class Day:
    """The ledger of one day, ordered by account, Region and instance.

    ``unread`` names Organizations that could not be read, and why: their accounts are those known before.
    """

    on: date
    lines: tuple[Line, ...]
    accounts: tuple[AccountLine, ...]
    unread: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[Standing, int]:
        """Instances by standing, zero included."""
        found = dict.fromkeys(Standing, 0)
        for line in self.lines:
            found[line.standing] += 1
        return found

    @property
    def failures(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.standing is Standing.FAILED)

    @property
    def unreachable(self) -> tuple[AccountLine, ...]:
        """Accounts of a policy's scope that could not be looked at, or not everywhere."""
        return tuple(each for each in self.accounts if each.in_scope and not each.reachable)

    @property
    def new(self) -> tuple[AccountLine, ...]:
        return tuple(each for each in self.accounts if each.new)

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person should look at: failures, what could not be looked at, new accounts."""
        return (
            *(f"{line.instance_id} in account {line.account}: {line.reason}" for line in self.failures),
            *(f"Organization {name} could not be read: {why}" for name, why in sorted(self.unread.items())),
            *(f"account {each.label} is unreachable: {each.reason}" for each in self.unreachable),
            *(
                f"account {each.label} is new: {each.protected} of {each.instances} instances protected"
                for each in self.new
            ),
        )


def _line(configuration: Configuration, instance: Instance, place: Account, judge: Judge) -> Line:
    found = opinions(configuration, instance, place)
    where = (instance.account, instance.region, instance.instance_id)
    name = next((each.policy for each in found if each.owns), "")
    owner = configuration.policy(name) if name else None
    if owner is None:
        coverage, reason = uncovered(found)
        return Line(*where, Standing(coverage.value), reason, name=instance.name)
    judged = judge(instance, owner)
    return Line(*where, judged.standing, judged.reason, owner.name, instance.name)


def in_scope(configuration: Configuration, place: Account) -> bool:
    """Whether some enabled policy enters the account."""
    return any(each.enabled and enters(configuration, each, place) for each in precedence(configuration))


def _why_closed(account: str, unreachable: Places) -> str:
    """Why an account could not be looked at, with the Regions where the reason is not that of all."""
    told: dict[str, list[str]] = {}
    for (number, region), reason in sorted(unreachable.items()):
        if number == account:
            told.setdefault(reason, []).append(region)
    return "; ".join(f"{reason} (in {', '.join(regions)})" for reason, regions in told.items())


def day(
    configuration: Configuration,
    on: date,
    instances: Iterable[Instance],
    accounts: Iterable[Account],
    *,
    judge: Judge,
    unreachable: Places | None = None,
    known: Collection[str] | None = None,
    unread: Mapping[str, str] | None = None,
) -> Day:
    """The ledger of ``on``.

    ``instances`` is the whole inventory: of an account and Region in ``unreachable``, what was last known of
    it. ``judge`` tells where an instance stands that a policy owns. ``known`` are the accounts known before;
    None: nothing was, so that none is new. Raises IntegrityError when the lines do not add up to the
    inventory.
    """
    closed = unreachable or {}
    places = {each.account: each for each in accounts}
    entered = {account: in_scope(configuration, place) for account, place in places.items()}
    lines, seen = [], set()
    for instance in sorted(instances, key=lambda each: (each.account, each.region, each.instance_id)):
        where = (instance.account, instance.region, instance.instance_id)
        seen.add(where)
        why = closed.get(where[:2])
        if why and entered.get(instance.account, True):
            lines.append(Line(*where, Standing.UNREACHABLE, why, name=instance.name))
        else:
            place = places.get(instance.account, Account(account=instance.account))
            lines.append(_line(configuration, instance, place, judge))
    if len(lines) != len(seen):
        raise IntegrityError("An instance stands twice in the inventory.", resource=str(on))
    totals: dict[str, int] = dict.fromkeys(sorted({*places, *(account for account, _ in closed)}), 0)
    protected: dict[str, int] = {}
    for line in lines:
        totals[line.account] = totals.get(line.account, 0) + 1
        covered = line.standing is Standing.PROTECTED
        protected[line.account] = protected.get(line.account, 0) + covered
    entries = (
        AccountLine(
            account,
            places[account].name if account in places else "",
            count,
            not (reason := _why_closed(account, closed)),
            reason,
            known is not None and account not in known,
            entered.get(account, True),
            protected.get(account, 0),
        )
        for account, count in sorted(totals.items())
    )
    return Day(on, tuple(lines), tuple(entries), dict(unread or {}))
