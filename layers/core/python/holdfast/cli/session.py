"""``holdfast session``: what ran, and how every instance of it ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.model.session import Outcome, State, worst

app = typer.Typer(no_args_is_help=True)
EXIT_CODES = {State.FAILED: 1, State.WARNING: 3, State.STOPPED: 3}


@app.command("list")
def list_sessions(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=366, help="How far back.")] = 7,
) -> None:
    """List sessions, oldest first."""
    cli: CommandContext = context.obj
    services = cli.services
    now = services.clock.now()
    found = services.catalog.sessions(now - timedelta(days=days), now + timedelta(minutes=1))
    cli.emit([one.model_dump(mode="json", exclude={"problems"}) for one in found])


@app.command()
def stop(context: typer.Context, session_id: str) -> None:
    """Stop a running session: nothing further starts, running backups are abandoned, snapshots are kept."""
    cli: CommandContext = context.obj
    event = {"session_id": session_id, "by": cli.caller}
    cli.emit(cli.invoke("stop-session", event, region=cli.configuration.hub_region))


def _outcomes(session_id: str, cli: CommandContext) -> list[Outcome]:
    parts = cli.services.catalog.parts(session_id, "outcome/")
    return [Outcome.model_validate(body["outcome"]) for _, body in parts]


def _products(outcomes: list[Outcome]) -> dict[str, str]:
    """The worst end of each product over all instances."""
    found: dict[str, State] = {}
    for outcome in outcomes:
        for kind, state in outcome.products.items():
            found[kind] = worst(state, found.get(kind, State.SUCCESS))
    return {kind: state.value for kind, state in found.items()}


@app.command()
def tasks(context: typer.Context, session_id: str) -> None:
    """List what was to be made of every instance, and how each ended; export it with --output csv or json."""
    cli: CommandContext = context.obj
    cli.services.catalog.read_session(session_id)
    cli.emit([row for outcome in _outcomes(session_id, cli) for row in _tasks(outcome)])


def _tasks(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """A line for each product; why it ended so stands in the lines of what did not go well."""
    told = "; ".join(f"{problem.code}: {problem.message}" for problem in outcome.problems)
    remedies = "; ".join(problem.remedy for problem in outcome.problems if problem.remedy)
    for kind, state in outcome.products.items():
        good = state is State.SUCCESS and outcome.state is not State.WARNING
        yield {
            **outcome.model_dump(
                mode="json",
                include={"account", "region", "instance_id", "instance_name", "point_id"},
            ),
            "task": kind,
            "state": state.value,
            "reason": "" if good else told,
            "remedy": "" if good else remedies,
            **outcome.model_dump(mode="json", include={"started_at", "ended_at"}),
        }


@app.command()
def show(context: typer.Context, session_id: str) -> None:
    """Show a session with the outcome of every instance; exit code 1 when it failed, 3 for warnings."""
    cli: CommandContext = context.obj
    catalog = cli.services.catalog
    found = catalog.read_session(session_id)
    outcomes = _outcomes(session_id, cli)
    cli.emit(
        {
            **found.model_dump(mode="json"),
            "products": _products(outcomes),
            "instances": [outcome.model_dump(mode="json") for outcome in outcomes],
        }
    )
    if code := EXIT_CODES.get(found.state):
        raise typer.Exit(code)
