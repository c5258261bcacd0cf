"""``holdfast policy plan`` and ``holdfast policy cost``: what a configuration would do before it is deployed.

Both work on the last known inventory and change nothing. A plan that would remove restore points says so with
an exit code of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.coverage import look_now
from holdfast.cli.output import printable
from holdfast.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from holdfast.model.configuration import Configuration
    from holdfast.operations.coverage.coverage_ledger import Known
    from holdfast.planning.changes import Change, Doomed, Moved, Totals

REMOVES_POINTS = 3
"""Exit code of a plan that needs confirmation."""
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""No restore point of Holdfast is older."""
READS_PER_SECOND = 1000
"""The default quota of GetSnapshotBlock, by account and Region."""
MOST_SHOWN = 20
DEPLOYED = "deployed"


class Export(StrEnum):
    """What ``--as`` takes."""

    CSV = "csv"
    XML = "xml"


def _inventory(cli: CommandContext, *, live: bool) -> Known:
    """The last known inventory. Raises NotFoundError."""
    from holdfast.operations.coverage.coverage_ledger import read_known

    if live:
        look_now(cli)
    known = read_known(cli.services.catalog)
    if known.accounts is None:
        raise NotFoundError(
            "There is no inventory yet.",
            remedy="It is written with the coverage ledger at 04:00; look at everything now with --live.",
        )
    return known


def _deployed(cli: CommandContext) -> Configuration:
    """The configuration that the functions have. Raises ConfigurationError."""
    from pydantic import ValidationError

    from holdfast.model.configuration import Configuration

    told = cli.invoke("show-configuration", {}, region=cli.configuration.hub_region)
    try:
        return Configuration.model_validate(told["configuration"])
    except ValidationError as error:
        raise ConfigurationError(
            f"The deployed configuration is of version {told.get('version')}, which this one cannot read.",
            remedy="Plan with that version, or compare with its files: --against DIR.",
        ) from error


def plan(
    context: typer.Context,
    against: Annotated[
        str, typer.Option(metavar="DIR", help="Compare with this directory instead of what is deployed.")
    ] = DEPLOYED,
    live: Annotated[bool, typer.Option("--live", help="Look at every account first.")] = False,
) -> None:
    """Say what deploying --config would do; exit code 3 when that removes restore points."""
    from holdfast.configuration import load
    from holdfast.planning.changes import compare
    from holdfast.planning.ownership import without

    cli: CommandContext = context.obj
    after = load(cli.configuration_directory)
    before = _deployed(cli) if against == DEPLOYED else load(Path(against))
    known = _inventory(cli, live=live)
    catalog, now = cli.services.catalog, cli.services.clock.now()
    off = {name for name, said in catalog.switches().items() if said.off}
    change = compare(
        without(before, off),
        without(after, off),
        known.everything(),
        (known.accounts or {}).values(),
        catalog.points_between(FIRST, now + timedelta(minutes=1)),
        now,
        default_keys=known.default_keys,
    )
    result = _result(before, after, change, known)
    cli.emit(result, lambda form: "\n".join(printable(line) for line in _lines(result)))
    if change.needs_confirmation:
        raise typer.Exit(REMOVES_POINTS)


def _policies(before: Configuration, after: Configuration) -> dict[str, list[str]]:
    """Policies that are added, removed or changed, also by a change of the templates that they use."""

    def bodies(configuration: Configuration) -> dict[str, Any]:
        templates = {each.name: each for each in configuration.sla_templates}
        storages = {each.name: each for each in configuration.storage_templates}
        plain: dict[str, Any] = {each.name: each for each in configuration.policies}
        return plain | {
            each.name: (each, templates.get(each.sla_template), storages.get(each.storage_template))
            for each in configuration.sla_policies
        }

    old, new = bodies(before), bodies(after)
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    }


def _moved(moved: Moved) -> dict[str, str]:
    return {
        "instance_id": moved.instance_id,
        "account": moved.account,
        "region": moved.region,
        "before": moved.before,
        "after": moved.after,
    }


def _removed(point: Doomed) -> dict[str, Any]:
    return {
        "point_id": point.point_id,
        "kind": point.kind.value,
        "instance_id": point.instance_id,
        "taken_at": point.taken_at.isoformat(),
        "policy": point.policy,
        "reason": point.reason,
        "moved": point.moved,
    }


def _hours(blocks: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Time in the quota of GetSnapshotBlock, the longest first."""
    return [
        {"account": account, "region": region, "hours": round(count / READS_PER_SECOND / 3600, 2)}
        for (account, region), count in sorted(blocks.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "instances": totals.instances,
        "usd_a_month": round(totals.cost, 2),
        "requests_a_month": dict(sorted(totals.requests.items())),
    }


def confirmations(change: Change) -> list[str]:
    """The commands by which a person agrees to what would be removed."""
    names = sorted({point.policy for point in change.removed if not point.moved})
    return [f"holdfast policy confirm {quote(name) if name else '--obsolete'}" for name in names]


def _result(before: Configuration, after: Configuration, change: Change, known: Known) -> dict[str, Any]:
    seen = min(known.seen_at.values(), default=None)
    return {
        "inventory_as_of": seen.isoformat() if seen else None,
        "policies": _policies(before, after),
        "gained": [_moved(each) for each in change.gained],
        "lost": [_moved(each) for each in change.lost],
        "moved": [_moved(each) for each in change.moved if each.before and each.after],
        "removed_points": [_removed(each) for each in change.removed],
        "refused_replicas": [
            {
                "instance_id": each.instance_id,
                "account": each.account,
                "region": each.region,
                "policy": each.policy,
                "reason": each.reason,
                "remedy": each.remedy,
            }
            for each in change.refused
        ],
        "before": _totals(change.before),
        "after": _totals(change.after),
        "usd_a_month_delta": round(change.cost_delta, 2),
        "hours_of_first_backups": _hours(change.first),
        "hours_of_later_backups": _hours(change.after.at_once),
        "needs_confirmation": change.needs_confirmation,
        "confirm_with": confirmations(change),
    }


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The plan as a person reads it."""
    for what, names in told["policies"].items():
        if names:
            yield f"policies {what}: {', '.join(names)}"
    for title, sign in (("gained", "+"), ("lost", "-"), ("moved", "~")):
        yield from _listed(f"instances {title}", told[title], lambda one, sign=sign: _movement(one, sign))
    yield from _listed(
        "restore points removed",
        told["removed_points"],
        lambda one: f"- {one['kind']} {one['point_id']} of {one['instance_id']}: {one['reason']}",
    )
    yield from _listed(
        "replicas that cannot be made",
        told["refused_replicas"],
        lambda one: f"! {one['instance_id']} ({one['policy']}): {one['reason']}. {one['remedy']}",
    )
    before, after = told["before"], told["after"]
    yield f"instances protected: {before['instances']} -> {after['instances']}"
    names = sorted({*before["requests_a_month"], *after["requests_a_month"]})
    for name in names:
        old, new = before["requests_a_month"].get(name, 0), after["requests_a_month"].get(name, 0)
        yield f"{name} a month: {old} -> {new}"
    for title in ("first", "later"):
        for one in told[f"hours_of_{title}_backups"][:3]:
            yield f"{title} backups in {one['account']} {one['region']}: {one['hours']:.2f} h at the quota"
    yield (
        f"USD a month, estimated: {before['usd_a_month']:.2f} -> {after['usd_a_month']:.2f} "
        f"({told['usd_a_month_delta']:+.2f})"
    )
    if moved := sum(point["moved"] for point in told["removed_points"]):
        yield f"nobody is asked again about {moved} restore points of instances that move"
    for command in told["confirm_with"]:
        yield f"needs confirmation: {command}"


def _movement(one: Mapping[str, str], sign: str) -> str:
    names = " -> ".join(name for name in (one["before"], one["after"]) if name)
    return f"{sign} {one['instance_id']} in {one['account']} {one['region']}: {names}"


def _listed(title: str, rows: Sequence[Mapping[str, Any]], text: Any) -> Iterator[str]:
    yield f"{title}: {len(rows)}"
    yield from (f"  {text(one)}" for one in rows[:MOST_SHOWN])
    if len(rows) > MOST_SHOWN:
        yield f"  and {len(rows) - MOST_SHOWN} more: --output json lists them"


def cost(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Policy of the configuration.")],
    form: Annotated[Export | None, typer.Option("--as", help="Write CSV or XML instead.")] = None,
    used: Annotated[float, typer.Option(min=0, max=1, help="Share of the volumes in use.")] = 0.6,
    daily_change: Annotated[
        float, typer.Option("--daily-change", min=0, max=1, help="Share of it that changes in a day.")
    ] = 0.03,
    stored: Annotated[float, typer.Option(min=0, max=2, help="What compression leaves of it.")] = 0.45,
    live: Annotated[bool, typer.Option("--live", help="Look at every account first.")] = False,
) -> None:
    """Estimate what a policy costs a month, instance by instance, with the list prices of us-east-1."""
    from dataclasses import asdict

    from holdfast.operations.steps import find_policy
    from holdfast.planning import cost as rules
    from holdfast.planning.ownership import owner_of

    cli: CommandContext = context.obj
    policy = find_policy(cli.configuration, name)
    known, now = _inventory(cli, live=live), cli.services.clock.now()
    assumed = rules.Assumptions(used, daily_change, stored)
    loads: dict[str, rules.Load] = {}
    estimates = []
    for one in known.everything():
        place = (known.accounts or {}).get(one.account)
        owner = owner_of(cli.configuration, one, place) if place else None
        if owner is None or owner.name != name:
            continue
        if one.region not in loads:
            loads[one.region] = rules.load(cli.configuration, policy, one.region, now, assumed)
        estimates.append(
            rules.estimate(cli.configuration, policy, one, now, assumed, known=loads[one.region])
        )
    if form is not None:
        typer.echo(rules.to_csv(estimates) if form is Export.CSV else rules.to_xml(estimates), nl=False)
        return
    cli.emit([asdict(one) | {"total": one.total} for one in estimates])
