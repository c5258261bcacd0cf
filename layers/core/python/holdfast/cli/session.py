"""``holdfast session``: what ran, and how every instance of it ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from holdfast.cli.context import CommandContext
from holdfast.model.session import Outcome, State

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
def show(context: typer.Context, session_id: str) -> None:
    """Show a session with the outcome of every instance; exit code 1 when it failed, 3 for warnings."""
    cli: CommandContext = context.obj
    catalog = cli.services.catalog
    found = catalog.read_session(session_id)
    outcomes = [Outcome.model_validate(body["outcome"]) for _, body in catalog.parts(session_id, "outcome/")]
    cli.emit(
        {
            **found.model_dump(mode="json"),
            "instances": [outcome.model_dump(mode="json") for outcome in outcomes],
        }
    )
    if code := EXIT_CODES.get(found.state):
        raise typer.Exit(code)
