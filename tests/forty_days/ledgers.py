"""The two ledgers in the model: what an SLA-based policy owed and made on a day, and where instances stand.

The truth is asked, not what sessions saw: who was in the scope at every slot, and what was made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from tests.forty_days.model import Ended, Model
from tests.forty_days.rules import DAY, KINDS, Document, slots


@dataclass(frozen=True, slots=True)
class Owed:
    """One instance on one day of one product."""

    policy: str
    kind: str
    day: date
    machine: str
    expected: int
    made: int
    credited: int
    removed: bool

    @property
    def ratio(self) -> Fraction:
        """0 to 1."""
        return min(Fraction(self.made + self.credited, self.expected), Fraction(1))


@dataclass(frozen=True, slots=True)
class Stands:
    """Where one instance stood on one day."""

    day: date
    machine: str
    standing: str
    policy: str


@dataclass
class Ledgers:
    """What was written down; nothing of it ever changes. ``new``: accounts that a day saw first."""

    owed: list[Owed] = field(default_factory=list)
    stands: list[Stands] = field(default_factory=list)
    unreachable: dict[date, list[str]] = field(default_factory=dict)
    new: dict[date, list[str]] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)

    def close_day(self, model: Model, policy: Document, day: date) -> None:
        """Write the ledger of every product of a day of an SLA-based policy."""
        name, template = policy["name"], model.template(policy)
        before, stay = self.members.get(name, set()), set[str]()
        for machine in model.machines.values():
            looks = [
                one
                for one in model.sessions
                if (one.policy, one.region) == (name, machine.region) and day in one.days.values()
            ]
            inside = [one for one in looks if machine.name in one.owned]
            if not inside:
                continue
            if inside[-1] is looks[-1]:
                stay.add(machine.name)
            joined = inside[0].slot if machine.name not in before else looks[0].slot
            for kind in [one for one in KINDS if f"{one}s" in template]:
                due, ran = len(slots(template, kind, day)), [one for one in looks if kind in one.days]
                made = sum(machine.name in one.made for one in ran)
                # What was over before the instance was there is credited, or before the policy was.
                over = sum(one.slot < joined for one in ran)
                over += due - len(ran) if machine.name not in before else 0
                if due:
                    removed = machine.name not in stay
                    self.owed.append(Owed(name, kind, day, machine.name, due, made, over, removed))
        self.members[name] = stay

    def mean(self, policy: str, kind: str, day: date) -> Fraction | None:
        """The mean ratio of instances that were not removed."""
        wanted = (policy, kind, day)
        found = [one.ratio for one in self.owed if (one.policy, one.kind, one.day) == wanted]
        left = [one.ratio for one in self.owed if (one.policy, one.kind, one.day) == wanted and one.removed]
        count = len(found) - len(left)
        return (sum(found, Fraction(0)) - sum(left, Fraction(0))) / count if count else None

    def record_coverage(self, model: Model) -> None:
        """At 04:00, where every instance stood on the day that has ended."""
        zone = ZoneInfo(model.document["service_time_zone"])
        day = model.now.astimezone(zone).date() - DAY
        today = [one for one in model.sessions if one.slot.astimezone(zone).date() == day]
        before = {one.machine: one.standing for one in self.stands if one.day == day - timedelta(days=1)}
        policies = [*model.document["sla_policies"], *model.document["policies"]]
        for machine in model.machines.values():
            if not machine.alive:
                continue
            entered = [one for one in policies if model.enters(one, machine.account)]
            owner = model.owner(machine)
            if machine.account in model.locked and entered:
                standing, owner = "unreachable", ""
            elif not owner:
                excluded = any(model.excludes(one, machine) for one in entered)
                standing = "excluded" if excluded else "not selected"
            else:
                standing = _standing(machine.name, machine.region, owner, day, today, before, model)
            self.stands.append(Stands(day, machine.name, standing, owner))
        accounts = {one for one in model.accounts() if any(model.enters(two, one) for two in policies)}
        self.unreachable[day] = sorted(accounts & model.locked)
        everyone = set(model.accounts())
        self.new[day] = sorted(everyone - self.accounts) if self.accounts else []
        self.accounts |= everyone


def _standing(
    name: str,
    region: str,
    owner: str,
    day: date,
    today: list[Ended],
    before: dict[str, str],
    model: Model,
) -> str:
    """Where an instance stands that a policy owns and that can be reached."""
    tried = [one for one in today if name in one.owned]
    if tried:
        return "protected" if name in tried[-1].made else "failed"
    due = [one for one in today if one.policy == owner and one.region in ("", region)]
    if due:
        return "not selected"
    if before.get(name) in ("protected", "failed"):
        return before[name]
    zone = ZoneInfo(model.document["service_time_zone"])
    over = [one for one in model.points if one.machine == name and one.at.astimezone(zone).date() <= day]
    return "protected" if over else "not selected"
