"""``holdfast policy compliance``: how far an SLA-based policy met its target, period by period.

Two numbers stand side by side: what the ledger said when each day was closed, and what the template of today
would say of the same restore points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.errors import ConfigurationError, NotFoundError
from holdfast.model.configuration import SlaPolicy

if TYPE_CHECKING:
    from holdfast.operations.sla.sla_records import Page
    from holdfast.planning.compliance import Share
    from holdfast.planning.history import Period, Rating


class View(StrEnum):
    """What a period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def compliance(
    context: typer.Context,
    name: str,
    view: Annotated[View, typer.Option(help="14 days, 12 weeks or 12 months.")] = View.DAY,
    instance: Annotated[str, typer.Option(metavar="ID", help="One instance instead of the policy.")] = "",
    instances: Annotated[bool, typer.Option("--instances", help="Every instance.")] = False,
) -> None:
    """Show how far an SLA-based policy met its target, oldest period first."""
    from holdfast.planning.history import first_day, history
    from holdfast.planning.protection import template_of
    from holdfast.planning.sla import region_zone

    cli: CommandContext = context.obj
    policy = _sla_policy(cli, name)
    today = cli.services.clock.now().astimezone(UTC).date()
    found = list(_pages(policy.name, first_day(view, today), today, cli))
    today = max([today, *(page.entry.on for page in found)])  # Days east of Greenwich may be ahead of ours.
    places = {one.instance_id: one.region for page in found for one in page.members.values()}
    if instance and instance not in places:
        raise NotFoundError(
            f"The ledger of {name!r} does not know {instance} in these periods.",
            resource=instance,
            remedy="Correct the id, or choose a longer view.",
        )
    zones = {region: region_zone(cli.configuration, region) for region in set(places.values())}
    template = template_of(cli.configuration, policy)
    periods = history([page.entry for page in found], template, places, zones, view, today)
    if instance or instances:
        names = {one.instance_id: one.name for page in found for one in page.members.values()}
        cli.emit([row for period in periods for row in _by_instance(period, instance, names)])
    else:
        cli.emit([_row(period) for period in periods])


def _sla_policy(cli: CommandContext, name: str) -> SlaPolicy:
    policy = cli.configuration.policy(name)
    if isinstance(policy, SlaPolicy):
        return policy
    if policy is not None:
        raise ConfigurationError(
            f"The policy {name!r} has schedules and promises no SLA.",
            remedy="`holdfast session list` shows how its sessions ended.",
        )
    known = ", ".join(one.name for one in cli.configuration.sla_policies) or "none"
    raise NotFoundError(f"There is no SLA-based policy {name!r}.", remedy=f"The configuration has: {known}.")


def _pages(policy: str, since: date, until: date, cli: CommandContext) -> Iterator[Page]:
    """The ledger from ``since`` on, month by month."""
    from holdfast.operations.sla.sla_records import pages

    months = {f"{since + timedelta(days=n):%Y-%m}" for n in range((until - since).days + 2)}
    for month in sorted(months):
        for page in pages(policy, cli.services.catalog, month):
            if page.entry.on >= since:
                yield page


def _percent(rating: Rating) -> float | None:
    from holdfast.planning.compliance import percent

    return float(percent(rating.ratio)) if rating.ratio is not None else None


def _row(period: Period) -> dict[str, Any]:
    rated = [share for share in period.ledger.shares if not share.removed]
    return {
        "period": period.label,
        "product": period.kind.value,
        "status": period.ledger.status.value,
        "percent": _percent(period.ledger),
        "target": float(period.ledger.target * 100),
        "rerated_percent": _percent(period.again),
        "rerated_status": period.again.status.value,
        "instances": len(rated),
        "missed": sum(share.ratio < period.ledger.target for share in rated),
        "removed": len(period.ledger.shares) - len(rated),
    }


def _by_instance(period: Period, only: str, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from holdfast.planning.compliance import label

    again: dict[str, Share] = {share.instance_id: share for share in period.again.shares}
    for share in period.ledger.shares:
        if only in ("", share.instance_id):
            other = again.get(share.instance_id)
            yield {
                "period": period.label,
                "product": period.kind.value,
                "instance_id": share.instance_id,
                "name": names.get(share.instance_id, ""),
                "ledger": label(share, period.ledger.target),
                "rerated": label(other, period.again.target) if other else "",
            }
