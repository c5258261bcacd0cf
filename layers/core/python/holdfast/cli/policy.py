"""``holdfast policy``: what the policies are, when they run next, and running, stopping and switching them.

A switch stops automatic runs alone: retention goes on, and a person may still start the policy.
"""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from holdfast.cli import policy_edit
from holdfast.cli.compliance import compliance
from holdfast.cli.confirm import confirm
from holdfast.cli.context import CommandContext
from holdfast.cli.session import EXIT_CODES
from holdfast.errors import NotFoundError
from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy
from holdfast.model.session import State, worst
from holdfast.ports import Switch

app = typer.Typer(no_args_is_help=True)
app.command()(compliance)
app.command()(confirm)
for edit in (policy_edit.priority, policy_edit.export, policy_edit.add, policy_edit.delete):
    app.command()(edit)
app.command("import")(policy_edit.import_policy)
AHEAD = timedelta(days=62)
"""How far the slots of an SLA template are looked for: its longest cadence is a month."""


def find(configuration: Configuration, name: str) -> AnyPolicy:
    """The policy of that name, of either kind. Raises NotFoundError."""
    found = configuration.policy(name)
    if found is None:
        known = (*configuration.sla_policies, *configuration.policies)
        names = ", ".join(policy.name for policy in known) or "none"
        raise NotFoundError(f"There is no policy {name!r}.", remedy=f"The configuration has: {names}.")
    return found


def _next(policy: AnyPolicy, cli: CommandContext, count: int) -> list[dict[str, Any]]:
    """Slots with what they make; those of an SLA-based policy are one Region's each."""
    from holdfast.planning.protection import template_of, zone_of
    from holdfast.planning.schedule import next_slots
    from holdfast.planning.sla import sla_slots

    now = cli.services.clock.now()
    if not isinstance(policy, SlaPolicy):
        return [
            {"at": slot.at.isoformat(), "makes": sorted(kind.value for kind in slot.products)}
            for slot in next_slots(policy, now, count)
        ]
    template, minute = template_of(cli.configuration, policy), timedelta(minutes=1)
    by_region = [
        [
            (slot.at, region, sorted(kind.value for kind in slot.products))
            for slot in sla_slots(
                template, zone_of(cli.configuration, policy, region), now + minute, now + AHEAD
            )
        ]
        for region in policy.regions
    ]
    return [
        {"at": at.isoformat(), "region": region, "makes": makes}
        for at, region, makes in islice(heapq.merge(*by_region), count)
    ]


def _said(switch: Switch | None) -> dict[str, Any] | None:
    if switch is None or not switch.off:
        return None
    return {"by": switch.by, "at": switch.at.isoformat() if switch.at else None}


def _row(policy: AnyPolicy, switch: Switch | None, cli: CommandContext) -> dict[str, Any]:
    off = _said(switch)
    runs = policy.enabled and off is None
    return {
        "name": policy.name,
        "kind": "sla" if isinstance(policy, SlaPolicy) else "schedule",
        "priority": policy.priority,
        "enabled": policy.enabled,
        "switched_off": off,
        "scope": policy.source.organization or policy.source.role,
        "regions": list(policy.regions),
        "repository": policy.storage_template if isinstance(policy, SlaPolicy) else policy.repository,
        "next": next(iter(_next(policy, cli, 1)), {}).get("at") if runs else None,
    }


@app.command("list")
def list_policies(context: typer.Context) -> None:
    """List the policies, the owner of a contested instance first."""
    from holdfast.planning.selection import precedence

    cli: CommandContext = context.obj
    switches = cli.services.catalog.switches()
    cli.emit([_row(policy, switches.get(policy.name), cli) for policy in precedence(cli.configuration)])


@app.command()
def slots(
    context: typer.Context,
    name: str,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
) -> None:
    """Show when a policy runs next, and what each run makes."""
    cli: CommandContext = context.obj
    cli.emit(_next(find(cli.configuration, name), cli, count))


def _switch(context: typer.Context, name: str, *, off: bool) -> None:
    cli: CommandContext = context.obj
    policy = find(cli.configuration, name)
    now: datetime = cli.services.clock.now()
    cli.services.catalog.switch_policy(name, off=off, by=cli.caller, at=now.replace(microsecond=0))
    said = cli.services.catalog.switches()[name]
    cli.emit({**_row(policy, said, cli), "by": said.by})
    if not off and not policy.enabled:
        cli.progress.say(
            f"{name} stays disabled: the configuration says `enabled: false`. Change that and deploy it."
        )
        raise typer.Exit(3)


@app.command()
def disable(context: typer.Context, name: str) -> None:
    """Stop the automatic runs of a policy; its instances fall to the next policy, its retention goes on."""
    _switch(context, name, off=True)


@app.command()
def enable(context: typer.Context, name: str) -> None:
    """Take `disable` back; exit code 3 when the configuration disables the policy all the same."""
    _switch(context, name, off=False)


@app.command()
def stop(context: typer.Context, name: str) -> None:
    """Stop every running session of a policy, as `holdfast session stop` does; exit code 4 when none runs."""
    cli: CommandContext = context.obj
    find(cli.configuration, name)
    event = {"policy": name, "by": cli.caller}
    cli.emit(cli.invoke("stop-session", event, region=cli.configuration.hub_region))


@app.command()
def start(
    context: typer.Context,
    name: str,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the session.")] = False,
) -> None:
    """Run a policy now; with --wait, exit code 1 when the session failed, 3 for warnings.

    Of an SLA-based policy everything is made whose window is open, Region by Region.
    """
    cli: CommandContext = context.obj
    policy = find(cli.configuration, name)
    hub = cli.configuration.hub_region
    if not isinstance(policy, SlaPolicy):
        started = cli.invoke("start-session", {"policy": name, "manual": True}, region=hub)
        result, state = _ended(started, cli) if wait else (started, State.SUCCESS)
        cli.emit(result)
    else:
        events = [{"policy": name, "region": region, "now": True} for region in policy.regions]
        answers = [cli.invoke("start-session", event, region=hub) for event in events]
        ended = [_ended(one, cli) if wait else (one, State.SUCCESS) for one in answers]
        state = worst(*(one for _, one in ended))
        cli.emit([{"region": event["region"], **row} for event, (row, _) in zip(events, ended, strict=True)])
    if code := EXIT_CODES.get(state):
        raise typer.Exit(code)


def _ended(started: dict[str, Any], cli: CommandContext) -> tuple[dict[str, Any], State]:
    """What became of a session that was started; nothing of one that was not."""
    if not started.get("started"):
        return started, State.SUCCESS
    session_id, hub = started["session_id"], cli.configuration.hub_region
    execution = cli.execution_arn("session", session_id, region=hub)
    cli.wait(execution, say=lambda: f"{session_id} runs", region=hub)
    session = cli.services.catalog.read_session(session_id)
    told = session.model_dump(mode="json", exclude={"session_id", "policy"})
    return {**started, **told}, session.state
