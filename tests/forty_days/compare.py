"""Looks at the same things in the simulated AWS and in the model, and tells the differences in words.

The product's state is read where it lies: in the tags of snapshots, in the catalog, in the repository.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from moto.ec2.models import ec2_backends

from holdfast.bootstrap import Services
from holdfast.errors import NotFoundError
from holdfast.model import tags as names
from holdfast.model.ids import parse_stamp, slot_of
from holdfast.model.restore_point import Kind
from holdfast.operations.coverage.coverage_ledger import read_day
from holdfast.operations.sla.sla_records import pages
from holdfast.planning.compliance import policy_ratio
from simulator.simulator import Simulator
from tests.forty_days.events import instance_id
from tests.forty_days.ledgers import Ledgers
from tests.forty_days.model import Machine, Model

Line = tuple[str, ...]


def _line(machine: str, at: datetime | None, *more: str) -> Line:
    return (machine, f"{at:%Y-%m-%d %H:%M}" if at else "?", *more)


def ids(model: Model) -> dict[str, str]:
    """Names of instances by their id."""
    return {instance_id(one.account, one.region, one.name): one.name for one in model.machines.values()}


def differences(
    model: Model,
    ledgers: Ledgers,
    simulator: Simulator,
    services: Services,
    since: datetime,
    until: datetime,
) -> list[str]:
    """Everything in which the product and the model differ at ``until``; sessions began after ``since``."""
    known = ids(model)
    return [
        *_differ(
            "snapshots by their tags",
            _snapshots(simulator, model, known),
            (
                _line(p.machine, p.at, _flags(p.flags), _marks(p.base, p.temporary), p.policy)
                for p in model.points
                if p.kind == "snapshot"
            ),
        ),
        *_differ(
            "restore points in the catalog",
            _catalog(services, known),
            (_line(p.machine, p.at, p.kind, _flags(p.flags), p.policy) for p in model.points),
        ),
        *_differ(
            "backups in the repository",
            _repository(services, known),
            (_line(p.machine, p.at) for p in model.points if p.kind == "backup"),
        ),
        *_differ(
            "sessions",
            _sessions(services, since, until),
            (
                _line(one.policy, one.slot, one.state, ",".join(one.unreachable), str(len(one.made)))
                for one in model.sessions
                if since < one.slot <= until
            ),
        ),
        *_differ("ledger of SLA-based policies", _owed(services, model), _owed_by(ledgers)),
        *_differ("coverage ledger", _coverage(services, known, since), _covered_by(ledgers, since)),
    ]


def _flags(flags: Iterable[str]) -> str:
    return "".join(letter for letter in "DWMY" if letter in flags) or "-"


def _marks(base: bool, temporary: bool) -> str:
    return " ".join(name for name, is_so in (("base", base), ("temporary", temporary)) if is_so)


def _differ(what: str, product: Iterable[Line], model: Iterable[Line]) -> list[str]:
    made, due = Counter(product), Counter(model)
    found = [(line, f"only Holdfast has  {'  '.join(line)}") for line in (made - due).elements()]
    found += [(line, f"only the model has {'  '.join(line)}") for line in (due - made).elements()]
    return [f"{what}: {text}" for _, text in sorted(found)]


def _snapshots(simulator: Simulator, model: Model, known: dict[str, str]) -> list[Line]:
    """Every set of snapshots in every account, by tags; a set whose snapshots disagree is told as two."""
    found = set()
    for account in model.accounts():
        for region in simulator.world.regions:
            for one in ec2_backends[account][region].snapshots.values():
                tags = {tag["key"]: tag["value"] for tag in one.get_tags()}
                if names.INSTALLATION in tags:
                    base = _marks(names.BASE in tags, tags[names.KIND] == names.TEMPORARY)
                    at = parse_stamp(tags[names.SLOT])
                    name = known.get(tags[names.INSTANCE], tags[names.INSTANCE])
                    found.add(_line(name, at, tags[names.FLAGS], base, tags[names.POLICY]))
    return sorted(found)


def _catalog(services: Services, known: dict[str, str]) -> list[Line]:
    return [
        _line(name, slot_of(point.session_id), point.kind.value, _flags(point.flags), point.policy)
        for one, name in known.items()
        for point in services.catalog.points(one)
        if point.complete and point.kind in (Kind.SNAPSHOT, Kind.BACKUP)
    ]


def _repository(services: Services, known: dict[str, str]) -> list[Line]:
    try:
        found = list(services.repository("main").list_points())
    except NotFoundError:
        return []
    return [_line(known.get(one.instance_id, one.instance_id), slot_of(one.point_id)) for one in found]


def _sessions(services: Services, since: datetime, until: datetime) -> list[Line]:
    """Sessions by policy; the accounts that could not be entered are those that problems name."""
    return [
        _line(
            one.policy,
            one.slot,
            one.state.value,
            ",".join(sorted({problem.resource for problem in one.problems if problem.resource.isdigit()})),
            str(one.counts.get("success", 0) + one.counts.get("warning", 0)),
        )
        for one in services.catalog.sessions(since, until)
        if one.policy and since < one.slot <= until
    ]


def _owed(services: Services, model: Model) -> list[Line]:
    """The whole ledger, so that the past is compared again every day, with the number of each day."""
    found: list[Line] = []
    for policy in model.document["sla_policies"]:
        for page in pages(policy["name"], services.catalog):
            ratio = policy_ratio(page.entry.shares)
            where = (policy["name"], page.entry.kind.value, str(page.entry.on))
            found.append((*where, "mean", str(ratio)))
            for one in page.entry.shares:
                numbers = f"{one.made}+{one.credited}/{one.expected}"
                removed = "removed" if one.removed else ""
                found.append((*where, page.members[one.instance_id].name, numbers, removed))
    return found


def _owed_by(ledgers: Ledgers) -> list[Line]:
    found: list[Line] = [
        (
            one.policy,
            one.kind,
            str(one.day),
            one.machine,
            f"{one.made}+{one.credited}/{one.expected}",
            "removed" if one.removed else "",
        )
        for one in ledgers.owed
    ]
    days = {(one.policy, one.kind, one.day) for one in ledgers.owed}
    return [*found, *((*map(str, day), "mean", str(ledgers.mean(*day))) for day in days)]


def _coverage(services: Services, known: dict[str, str], since: datetime) -> list[Line]:
    """The newest coverage ledger: every instance, and what it says of accounts."""
    on = since.date()
    try:
        _, day = read_day(on, services.catalog)
    except NotFoundError:
        return []
    return [
        *((str(on), known[one.instance_id], one.standing.value, one.policy) for one in day.lines),
        *((str(on), one.account, "account unreachable") for one in day.unreachable),
        *((str(on), one.account, "account new") for one in day.new),
    ]


def _covered_by(ledgers: Ledgers, since: datetime) -> list[Line]:
    on = since.date()
    return [
        *((str(on), one.machine, one.standing, one.policy) for one in ledgers.stands if one.day == on),
        *((str(on), account, "account unreachable") for account in ledgers.unreachable.get(on, ())),
        *((str(on), account, "account new") for account in ledgers.new.get(on, ())),
    ]


def machine_of(name: str, place: tuple[str, str, dict[str, str]]) -> Machine:
    """An instance of the world as the model takes it."""
    account, region, tags = place
    return Machine(name, account, region, dict(tags))
