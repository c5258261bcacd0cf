"""``holdfast explain``: which policy protects an instance and why, what comes next, what retention removes.

What is said about the instance is what was last seen of it; where that may be out of date, it says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.coverage import look_now
from holdfast.cli.output import printable
from holdfast.errors import NotFoundError
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.scope import Account

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from holdfast.model.inventory import Instance
    from holdfast.planning.explain import Explanation
    from holdfast.planning.schedule import Slot

HORIZON_DAYS = 40


@dataclass(slots=True)
class Subject:
    """An instance as it was last seen, and what makes that doubtful."""

    instance: Instance
    place: Account
    seen_at: datetime | None
    notes: list[str] = field(default_factory=list)


def explain(
    context: typer.Context,
    instance: Annotated[str, typer.Argument(help="Instance id.")],
    account: Annotated[str, typer.Option(help="Its account, where it is not known yet.")] = "",
    count: Annotated[int, typer.Option("--slots", min=0, max=1000, help="How many slots.")] = 10,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far retention is foreseen.")] = HORIZON_DAYS,
    live: Annotated[bool, typer.Option("--live", help="Look at the account first.")] = False,
) -> None:
    """Say which policy protects an instance and why, its next slots, and what retention removes next."""
    from holdfast.operations.switches import switched
    from holdfast.planning import explain as rules

    cli: CommandContext = context.obj
    services = cli.services
    points = list(services.catalog.points(instance))
    home = next((one for one in reversed(points) if one.kind is not Kind.REPLICA), None)
    if live:
        known_account = account or (home.account if home else "")
        look_now(cli, [known_account] if known_account else [])
    subject = _find(cli, instance, account, points)
    configuration, now = switched(services), services.clock.now()
    found = rules.explain(
        configuration,
        subject.instance,
        subject.place,
        points,
        now,
        count=count,
        horizon=timedelta(days=days),
    )
    ledger = _ledger(cli, subject)
    subject.notes += _switched_off(cli, found)
    subject.notes += _waiting(cli, found)
    result = _result(subject, found, ledger, len(points))
    zone = _zone(cli, found, subject.instance.region)
    cli.emit(result, lambda form: _shown(result, zone, days))


def _find(cli: CommandContext, instance_id: str, account: str, points: Sequence[RestorePoint]) -> Subject:
    """The instance in the last inventory, else as its newest restore point knew it. Raises NotFoundError."""
    from holdfast.operations.coverage.coverage_ledger import read_known

    region = cli.target_region("")
    home = next((one for one in reversed(points) if one.kind is not Kind.REPLICA), None)
    where = (account, region) if account and region else (home.account, home.region) if home else ("", "")
    known = read_known(cli.services.catalog, *where)
    for place, instances in known.instances.items():
        for one in instances:
            if one.instance_id == instance_id:
                return Subject(one, _place(known.accounts, place[0]), known.seen_at[place])
    if home is None:
        raise NotFoundError(
            "The instance is in no inventory, and it has no restore point.",
            resource=instance_id,
            remedy="Look at its account now: holdfast explain ID --account ID --live.",
        )
    instance = cli.services.catalog.configuration(instance_id, home.point_id).instance
    place_of = _place(known.accounts, home.account)
    seen_at = known.seen_at.get((home.account, home.region))
    if seen_at is None:
        note = "its account was never looked at: this is the instance as its newest restore point knew it"
        return Subject(instance, place_of, None, [note])
    gone = instance.model_copy(update={"state": "terminated"})
    return Subject(gone, place_of, seen_at, ["the instance does not exist any more"])


def _place(accounts: Mapping[str, Account] | None, account: str) -> Account:
    return (accounts or {}).get(account, Account(account=account))


def _ledger(cli: CommandContext, subject: Subject) -> dict[str, Any] | None:
    """What the newest ledger says; notes where the account could not be looked at."""
    from holdfast.operations.coverage.coverage_ledger import newest_head, read_day

    catalog = cli.services.catalog
    head = newest_head(cli.services.clock.now().date() + timedelta(days=2), catalog)
    if head is None:
        return None
    _, day = read_day(head.on, catalog, subject.place.account)
    for one in day.accounts:
        if not one.reachable:
            subject.notes.append(f"on {day.on} the account could not be looked at: {one.reason}")
    line = next((one for one in day.lines if one.instance_id == subject.instance.instance_id), None)
    if line is None:
        return None
    return {"on": str(day.on), "standing": line.standing.value, "reason": line.reason}


def _switched_off(cli: CommandContext, found: Explanation) -> Iterator[str]:
    """Who switched off a policy that has an opinion on the instance, and when."""
    switches = cli.services.catalog.switches()
    for name in (opinion.policy for opinion in found.opinions):
        said = switches.get(name)
        if said and said.off:
            when = f" at {said.at:%Y-%m-%d %H:%M} UTC" if said.at else ""
            yield f"the policy {name} was switched off by {said.by or 'an operator'}{when}"


def _waiting(cli: CommandContext, found: Explanation) -> Iterator[str]:
    """Notes about shortened retentions that nobody has confirmed: until then less is removed."""
    from holdfast.operations.retention.retention_in_force import OBSOLETE, prefix_of, waiting

    catalog = cli.services.catalog
    if found.owner and any(waiting(prefix_of(found.owner), catalog)):
        yield f"a shorter retention of {found.owner} waits for a confirmation: until then less is removed"
    if not found.owner and any(waiting(OBSOLETE, catalog)):
        yield "the rule for obsolete snapshots waits for a confirmation: until then none is removed by it"


def _zone(cli: CommandContext, found: Explanation, region: str) -> ZoneInfo | None:
    from holdfast.planning.protection import zone_of

    policy = cli.configuration.policy(found.owner) if found.owner else None
    return zone_of(cli.configuration, policy, region) if policy else None


def _flags(flags: frozenset[Flag]) -> str:
    return "".join(flag.value for flag in Flag if flag in flags)


def _slot(slot: Slot, *, earned: bool) -> dict[str, Any]:
    flags = {kind.value: _flags(slot.flags[kind]) for kind in Kind if kind in slot.flags}
    return {
        "at": slot.at.isoformat(),
        "can_earn" if earned else "flags": flags,
        "temporary": sorted(kind.value for kind in slot.temporary),
    }


def _result(
    subject: Subject, found: Explanation, ledger: dict[str, Any] | None, points: int
) -> dict[str, Any]:
    instance, place = subject.instance, subject.place
    return {
        "instance_id": instance.instance_id,
        "name": instance.name,
        "account": instance.account,
        "account_name": place.name,
        "region": instance.region,
        "state": instance.state,
        "seen_at": subject.seen_at.isoformat() if subject.seen_at else None,
        "notes": subject.notes,
        "ledger": ledger,
        "owner": found.owner or None,
        "policies": [
            {
                "policy": one.policy,
                "covers": one.owns,
                "says": one.coverage.value,
                "reason": one.reason,
            }
            for one in found.opinions
        ],
        "restore_points": points,
        "slots": [_slot(one, earned=found.earned) for one in found.slots],
        "removals": [
            {
                "point_id": one.point_id,
                "kind": one.kind.value,
                "taken_at": one.taken_at.isoformat(),
                "removed_at": one.gone_at.isoformat(),
                "reason": one.reason,
            }
            for one in found.removals
        ],
    }


def _shown(told: Mapping[str, Any], zone: ZoneInfo | None, days: int) -> str:
    return "\n".join(printable(line) for line in _lines(told, zone, days))


def _lines(told: Mapping[str, Any], zone: ZoneInfo | None, days: int) -> Iterator[str]:
    """The explanation as a person reads it."""
    name = f" ({told['name']})" if told["name"] else ""
    where = f"{told['account']}{' ' + told['account_name'] if told['account_name'] else ''}"
    yield f"{told['instance_id']}{name}, account {where}, {told['region']}, {told['state']}"
    if told["seen_at"]:
        yield f"  as seen at {_at(told['seen_at'])}"
    yield from (f"  NOTE: {note}" for note in told["notes"])
    if told["ledger"]:
        ledger = told["ledger"]
        yield f"  ledger of {ledger['on']}: {ledger['standing']}: {ledger['reason']}"
    yield f"protected by {told['owner']}" if told["owner"] else "protected by no policy"
    for one in told["policies"]:
        yield f"  {'->' if one['covers'] else '  '} {one['policy']}: {one['says']}: {one['reason']}"
    if told["slots"]:
        yield f"next slots{f' (in {zone.key})' if zone else ''}"
    for slot in told["slots"]:
        flags = slot.get("flags", slot.get("can_earn", {}))
        made = [f"{kind} {letters}".rstrip() for kind, letters in flags.items()]
        made += [f"temporary {kind}" for kind in slot["temporary"]]
        earned = " can earn" if "can_earn" in slot else ""
        yield f"  {_at(slot['at'], zone)}{earned}  {', '.join(made)}"
    yield f"{told['restore_points']} restore points; retention removes within {days} days:"
    if not told["removals"]:
        yield "  nothing"
    for one in told["removals"]:
        yield f"  {_at(one['removed_at'])}  {one['kind']} of {_at(one['taken_at'])}: {one['reason']}"


def _at(text: str, zone: ZoneInfo | None = None) -> str:
    at = datetime.fromisoformat(text)
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M}" if zone else f"{at:%Y-%m-%d %H:%M} UTC"
