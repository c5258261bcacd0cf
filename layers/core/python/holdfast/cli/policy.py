"""``holdfast policy``: what the policies are, when they run next, and running one now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.session import EXIT_CODES
from holdfast.errors import NotFoundError
from holdfast.model.configuration import SchedulePolicy

app = typer.Typer(no_args_is_help=True)


def _policy(cli: CommandContext, name: str) -> SchedulePolicy:
    found = [policy for policy in cli.configuration.policies if policy.name == name]
    if not found:
        known = ", ".join(policy.name for policy in cli.configuration.policies) or "none"
        raise NotFoundError(f"There is no policy {name!r}.", remedy=f"The configuration has: {known}.")
    return found[0]


def _next(policy: SchedulePolicy, cli: CommandContext, count: int) -> list[dict[str, Any]]:
    from holdfast.planning.schedule import next_slots

    return [
        {"at": slot.at.isoformat(), "makes": sorted(kind.value for kind in slot.products)}
        for slot in next_slots(policy, cli.services.clock.now(), count)
    ]


@app.command("list")
def list_policies(context: typer.Context) -> None:
    """List the policies of the configuration."""
    cli: CommandContext = context.obj
    cli.emit(
        [
            {
                "name": policy.name,
                "enabled": policy.enabled,
                "scope": policy.source.organization or policy.source.role,
                "regions": list(policy.regions),
                "repository": policy.repository,
                "next": next(iter(_next(policy, cli, 1)), {}).get("at"),
            }
            for policy in cli.configuration.policies
        ]
    )


@app.command()
def slots(
    context: typer.Context,
    name: str,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
) -> None:
    """Show when a policy runs next, and what each run makes."""
    cli: CommandContext = context.obj
    cli.emit(_next(_policy(cli, name), cli, count))


@app.command()
def start(
    context: typer.Context,
    name: str,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the session.")] = False,
) -> None:
    """Run a policy now; with --wait, exit code 1 when the session failed, 3 for warnings."""
    cli: CommandContext = context.obj
    _policy(cli, name)
    hub = cli.configuration.hub_region
    started = cli.invoke("start-session", {"policy": name, "manual": True}, region=hub)
    if not (wait and started.get("started")):
        cli.emit(started)
        return
    session_id = started["session_id"]
    execution = cli.execution_arn("session", session_id, region=hub)
    cli.wait(execution, say=lambda: f"{session_id} runs", region=hub)
    ended = cli.services.catalog.read_session(session_id)
    cli.emit({**started, **ended.model_dump(mode="json", exclude={"session_id", "policy"})})
    if code := EXIT_CODES.get(ended.state):
        raise typer.Exit(code)
