"""The company as it should be protected: the rules of the specification, written anew and naively.

Time passes minute by minute on the wall clock of every zone, every list is searched from end to end. The
truth of the world is known here; the product has to find it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.forty_days.rules import KINDS, ZONES, Document, closes, earned, scheduled, slots

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
GRACE = timedelta(minutes=5)
"""A day is closed so long after its last window."""
Flags = dict[str, set[str]]


@dataclass
class Machine:
    """An instance; its name is unique in the company."""

    name: str
    account: str
    region: str
    tags: dict[str, str]
    alive: bool = True


@dataclass(eq=False)
class Point:
    """A restore point of a slot. ``base``: a snapshot marked for the next comparison; ``day``: of an SLA
    window; ``noted_at``: when a backup was first found expired.
    """

    machine: str
    policy: str
    kind: str
    at: datetime
    flags: set[str]
    base: bool = False
    temporary: bool = False
    day: date | None = None
    noted_at: datetime | None = None


@dataclass
class Ended:
    """How a session ended. ``owned``: instances it should protect, ``made``: those it could."""

    policy: str
    slot: datetime
    region: str
    state: str
    unreachable: list[str]
    owned: list[str]
    made: list[str]
    days: dict[str, date]


@dataclass
class Model:
    """The company. ``now`` moves with :meth:`advance` alone; ``locked`` accounts have lost their role.

    ``confirmed``: an operator has let the rule for obsolete snapshots remove them.

    ``at_four`` and ``at_close`` are done at 04:00 of the service, and when the day of an SLA-based policy is
    closed.
    """

    document: Document
    units: dict[str, str]
    places: dict[str, str]
    machines: dict[str, Machine]
    now: datetime
    locked: set[str] = field(default_factory=set)
    failing: set[tuple[str, datetime]] = field(default_factory=set)
    confirmed: bool = False
    points: list[Point] = field(default_factory=list)
    sessions: list[Ended] = field(default_factory=list)
    clocks: dict[str, datetime] = field(default_factory=dict)
    closing: list[tuple[datetime, Document, date]] = field(default_factory=list)
    closed: set[tuple[str, date]] = field(default_factory=set)
    at_four: Callable[[Model], None] = lambda model: None
    at_close: Callable[[Model, Document, date], None] = lambda model, policy, day: None

    def __post_init__(self) -> None:
        policies = self.document["policies"]
        names = {self.document["service_time_zone"], *ZONES.values(), *(one["time_zone"] for one in policies)}
        self.clocks = {name: self._wall(name) for name in names}

    def advance(self, until: datetime) -> None:
        """Let every minute up to and including ``until`` happen."""
        while self.now < until:
            self.now += MINUTE
            fired = {name: self._passed(name) for name in self.clocks}
            if any((one.hour, one.minute) == (4, 0) for one in fired[self.document["service_time_zone"]]):
                self.at_four(self)
            for policy in self.document["sla_policies"]:
                for region in policy["regions"]:
                    self._run_promised(policy, region, fired[ZONES[region]])
                self._close_days(policy)
            for policy in self.document["policies"]:
                self._run_scheduled(policy, fired[policy["time_zone"]])

    def _wall(self, zone: str) -> datetime:
        return self.now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

    def _passed(self, zone: str) -> list[datetime]:
        """The minutes that the wall clock of a zone shows for the first time now.

        A clock that jumps forward shows all that it skipped; one that was put back shows nothing new.
        """
        shown, wall = [], self._wall(zone)
        while self.clocks[zone] < wall:
            self.clocks[zone] += MINUTE
            shown.append(self.clocks[zone])
        return shown

    # Whose an instance is.

    def policy(self, name: str) -> Document:
        """The policy of that name."""
        (found,) = (
            one for one in (*self.document["policies"], *self.document["sla_policies"]) if one["name"] == name
        )
        return dict(found)

    def template(self, policy: Document) -> Document:
        """The SLA template of a policy; nothing for one with schedules."""
        for one in self.document["sla_templates"]:
            if one["name"] == policy.get("sla_template"):
                return dict(one)
        return {}

    def accounts(self) -> list[str]:
        """Every account that some policy could mean."""
        return [*self.places, *(one["arn"].split(":")[4] for one in self.document["roles"])]

    def enters(self, policy: Document, account: str) -> bool:
        """Whether an account lies in the scope of a policy."""
        source = policy["source"]
        if "role" in source:
            (arn,) = (one["arn"] for one in self.document["roles"] if one["name"] == source["role"])
            return bool(arn.split(":")[4] == account)
        if account not in self.places or account in source.get("exclude_accounts", ()):
            return False
        path = self.places[account].split("/")
        above = [self.units["/".join(path[: depth + 1])] for depth in range(len(path))]
        if any(unit in source.get("exclude_units", ()) for unit in above):
            return False
        return not source.get("units") or any(unit in source["units"] for unit in above)

    def excludes(self, policy: Document, machine: Machine) -> bool:
        """Whether a policy that could have an instance leaves it out by a tag."""
        wanted = policy["selection"].get("exclude_tags", ())
        return machine.region in policy["regions"] and any(_has(machine, tag) for tag in wanted)

    def selects(self, policy: Document, machine: Machine) -> bool:
        """Whether a policy asks for an instance, whoever owns it."""
        selection = policy["selection"]
        if not machine.alive or machine.region not in policy["regions"] or self.excludes(policy, machine):
            return False
        return bool(selection.get("all")) or any(_has(machine, tag) for tag in selection.get("tags", ()))

    def owner(self, machine: Machine) -> str:
        """The name of the policy that owns an instance: SLA-based ones first, then by priority."""
        first = sorted(self.document["sla_policies"], key=lambda one: int(one.get("priority", 1000)))
        then = sorted(self.document["policies"], key=lambda one: int(one.get("priority", 1000)))
        for policy in [*first, *then]:
            if self.enters(policy, machine.account) and self.selects(policy, machine):
                return str(policy["name"])
        return ""

    def chain(self, name: str, kind: str, policy: str = "") -> list[Point]:
        """Restore points of one kind of an instance, oldest first; those that ``policy`` made, or any."""
        found = [p for p in self.points if (p.machine, p.kind) == (name, kind) and policy in ("", p.policy)]
        return sorted(found, key=lambda point: point.at)

    # Sessions.

    def _run_scheduled(self, policy: Document, walls: list[datetime]) -> None:
        """One session for everything that the schedules of a policy select now; then counts are kept."""
        flags: Flags = {}
        for wall in walls:
            for letter, kind in scheduled(policy, wall):
                flags.setdefault(kind, set()).add(letter)
                flags.setdefault("snapshot", set()).add(letter)
        if flags:
            ended = self._session(policy, "", {}, lambda name: flags)
            for name in ended.made:
                self._keep_counted(policy, name)

    def _run_promised(self, policy: Document, region: str, walls: list[datetime]) -> None:
        """One session of a Region for every product of the template that is due now."""
        template, days = self.template(policy), dict[str, date]()
        for wall in walls:
            for kind in KINDS:
                for day in (wall.date(), wall.date() - DAY):
                    if wall in slots(template, kind, day):
                        days.setdefault(kind, day)
        if days:
            ended = self._session(
                policy, region, days, lambda name: self._earned(policy["name"], template, name, days)
            )
            for name in ended.made:  # A temporary snapshot goes when the next backup has compared with it.
                for point in self.chain(name, "snapshot", policy["name"]):
                    if point.temporary and not point.base:
                        self.points.remove(point)

    def _earned(self, policy: str, template: Document, name: str, days: dict[str, date]) -> Flags:
        """Flags by product; the day's first success takes those of week and month."""
        flags: Flags = {}
        for kind, day in days.items():
            today = [point for point in self.chain(name, kind, policy) if point.day == day]
            flags[kind] = earned(template, kind, day, set().union(*(point.flags for point in today)))
        return flags

    def _session(
        self, policy: Document, region: str, days: dict[str, date], flags_of: Callable[[str], Flags]
    ) -> Ended:
        """Make the products of a slot of every instance that the policy owns and can reach."""
        closed = sorted(one for one in self.accounts() if one in self.locked and self.enters(policy, one))
        owned = [
            one.name
            for one in self.machines.values()
            if self.owner(one) == policy["name"] and region in ("", one.region)
        ]
        reached = [name for name in owned if self.machines[name].account not in closed]
        made = [name for name in reached if (name, self.now) not in self.failing]
        for name in made:
            self._make(policy, name, flags_of(name), days)
        state = "Failed" if len(made) < len(reached) else "Warning" if closed or not made else "Success"
        ended = Ended(policy["name"], self.now, region, state, closed, owned, made, days)
        self.sessions.append(ended)
        return ended

    def _make(self, policy: Document, name: str, flags: Flags, days: dict[str, date]) -> None:
        temporary = "snapshot" not in flags
        snapshot = Point(name, policy["name"], "snapshot", self.now, flags.get("snapshot", set()).copy())
        snapshot.temporary, snapshot.day = temporary, days.get("snapshot")
        self.points.append(snapshot)
        if "backup" in flags:
            backup = Point(name, policy["name"], "backup", self.now, flags["backup"].copy())
            backup.day = days.get("backup")
            self.points.append(backup)
            for point in self.chain(name, "snapshot"):
                # What a template keeps stays a base until the pass after the backup (CBT-2).
                waits = "sla_template" in policy and not point.temporary
                point.base = point is snapshot or (point.base and waits)

    def _keep_counted(self, policy: Document, name: str) -> None:
        """After a session, the chain that the policy made: the newest of every flag keep it."""
        unflag_counted(policy, self.chain(name, "snapshot", policy["name"]))
        for point in self.chain(name, "snapshot", policy["name"]):
            if not point.flags and not point.base:
                self.points.remove(point)

    def _close_days(self, policy: Document) -> None:
        """Close the day whose windows have closed in every Region, a little later."""
        for day in (self.now.date() - DAY, self.now.date()):
            until = closes(self.template(policy), day)
            over = all(self.clocks[ZONES[region]] >= until for region in policy["regions"])
            if over and (policy["name"], day) not in self.closed:
                self.closed.add((policy["name"], day))
                self.closing.append((self.now + GRACE, policy, day))
        for due in [one for one in self.closing if one[0] == self.now and one[1] is policy]:
            self.closing.remove(due)
            self.at_close(self, due[1], due[2])


def unflag_counted(policy: Document, chain: list[Point], *, before: datetime | None = None) -> None:
    """Take flags off all but the newest snapshots that carry them; only off those taken ``before``."""
    for letter, schedule in (("D", "daily"), ("W", "weekly"), ("M", "monthly")):
        if "snapshots" in policy.get(schedule, {}):
            flagged = [point for point in chain if letter in point.flags]
            for point in flagged[: max(0, len(flagged) - policy[schedule]["snapshots"]["keep"])]:
                if before is None or point.at <= before:
                    point.flags.discard(letter)


def _has(machine: Machine, tag: dict[str, str]) -> bool:
    """Whether an instance has a tag; an empty value is any."""
    return tag["key"] in machine.tags and tag.get("value", "") in ("", machine.tags[tag["key"]])
