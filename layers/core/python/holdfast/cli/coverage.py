"""``holdfast coverage``: where every instance of every account stands, and what could not be looked at.

The sums are always those of everything that was asked for, whatever part of it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.output import Format, render
from holdfast.errors import NotFoundError
from holdfast.planning.standing import Standing

if TYPE_CHECKING:
    from holdfast.operations.coverage.coverage_ledger import Head
    from holdfast.planning.coverage import AccountLine, Day, Line

FAILED, UNREACHABLE = 1, 3
"""Exit codes of --check."""
_WORTH_SHOWING = (Standing.FAILED, Standing.UNREACHABLE)


def parse_date(text: str) -> date:
    """A date in ISO 8601. Raises typer.BadParameter."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--date {text!r} is no date: write 2026-11-22.") from error


def look_now(cli: CommandContext, accounts: Sequence[str] = ()) -> str:
    """Let the installation look at everything now; returns the name of what it recorded."""
    cli.progress.say("looking at every account")
    event = {"live": True, "accounts": list(accounts)}
    answer = cli.invoke("record-coverage", event, region=cli.configuration.hub_region)
    return str(answer["ledger"])


def newest(cli: CommandContext) -> Head:
    """The newest ledger. Raises NotFoundError."""
    from holdfast.operations.coverage.coverage_ledger import newest_head

    found = newest_head(cli.services.clock.now().date() + timedelta(days=2), cli.services.catalog)
    if found is None:
        raise NotFoundError(
            "There is no coverage ledger yet.",
            remedy="The first one is written at 04:00; look at this moment with --live.",
        )
    return found


def coverage(
    context: typer.Context,
    on: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="The day; default: the newest ledger.")
    ] = "",
    account: Annotated[str, typer.Option(help="One account only.")] = "",
    standing: Annotated[
        Standing | None, typer.Option(help="Show only instances that stand so.", case_sensitive=False)
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Look now instead of reading a ledger.")] = False,
    days: Annotated[
        int, typer.Option(min=0, max=400, help="Only the sums of the last days, newest first.")
    ] = 0,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit code 1 when an instance failed, 3 when one is unreachable."),
    ] = False,
) -> None:
    """Show where every instance stands: protected, failed, excluded, not selected, unreachable."""
    from holdfast.operations.coverage.coverage_ledger import heads, read_day

    cli: CommandContext = context.obj
    if days:
        today = cli.services.clock.now().date() + timedelta(days=1)
        cli.emit([_sums(head) for head in heads(today, days + 1, cli.services.catalog)][:days])
        return
    if live and on:
        raise typer.BadParameter("--live looks at this moment; it cannot be combined with --date.")
    name: str | date
    if live:
        name = look_now(cli, [account] if account else [])
    else:
        name = parse_date(on) if on else newest(cli).on
    head, day = read_day(name, cli.services.catalog, account)
    lines = [line for line in day.lines if standing in (None, line.standing)]
    cli.emit(
        _result(head.recorded_at, day, lines),
        lambda form: _shown(day, lines, form, standing),
        [_line(one) for one in lines],
    )
    if check and (code := exit_code(day)):
        raise typer.Exit(code)


def exit_code(day: Day) -> int:
    """0 when all is well, else by the gravest that is not."""
    if day.failures:
        return FAILED
    return UNREACHABLE if day.unreachable or day.unread else 0


def sums(day: Day) -> dict[str, int]:
    """Instances by standing, and their total."""
    counts = {standing.value: count for standing, count in day.counts().items()}
    return {**counts, "total": sum(counts.values())}


def _sums(head: Head) -> dict[str, Any]:
    return {
        "on": str(head.on),
        **{each.value: head.counts.get(each, 0) for each in Standing},
        "total": head.inventory,
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "instance_id": line.instance_id,
        "name": line.name,
        "account": line.account,
        "region": line.region,
        "standing": line.standing.value,
        "policy": line.policy,
        "reason": line.reason,
    }


def _account(account: AccountLine) -> dict[str, Any]:
    return {
        "account": account.account,
        "name": account.name,
        "instances": account.instances,
        "protected": account.protected,
        "reachable": account.reachable,
        "in_scope": account.in_scope,
        "new": account.new,
        "reason": account.reason,
    }


def _result(recorded_at: datetime, day: Day, lines: Sequence[Line]) -> Mapping[str, Any]:
    return {
        "on": str(day.on),
        "recorded_at": recorded_at.isoformat(),
        "instances": sums(day),
        "organizations_unread": dict(day.unread),
        "accounts": [_account(one) for one in day.accounts],
        "lines": [_line(one) for one in lines],
    }


def _shown(day: Day, lines: Sequence[Line], form: Format, standing: Standing | None) -> str:
    """The sums, the accounts, and the instances asked for: without a choice, those that need attention."""
    told = lines if standing else [one for one in lines if one.standing in _WORTH_SHOWING]
    parts = [
        f"Coverage of {day.on}",
        render([{"instances": name, "count": count} for name, count in sums(day).items()], form),
        render([_account(one) for one in day.accounts], form),
        *([render([_line(one) for one in told], form)] if told else []),
        *(f"Organization {name} could not be read: {why}" for name, why in sorted(day.unread.items())),
    ]
    return "\n".join(parts)
