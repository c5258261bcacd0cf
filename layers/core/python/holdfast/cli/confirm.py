"""``holdfast policy confirm``: let a shortened retention apply.

What is confirmed is what the deployed functions want and were last seen to hold back, never what a local file
says: a later edit, and one that is not deployed yet, need their own confirmation.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.errors import ConfigurationError


def confirm(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The policy.")] = "",
    obsolete: Annotated[bool, typer.Option("--obsolete", help="The rule for obsolete snapshots.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a retention that was shortened remove restore points; they cannot be brought back."""
    from holdfast.operations.retention.retention_in_force import OBSOLETE, Waiting, prefix_of, waiting
    from holdfast.operations.retention.retention_in_force import confirm as let_apply

    cli: CommandContext = context.obj
    if bool(name) == obsolete:
        raise ConfigurationError("Say what to confirm.", remedy="Name a policy, or add --obsolete.")
    catalog = cli.services.catalog
    found: list[Waiting] = list(waiting(OBSOLETE if obsolete else prefix_of(name), catalog))
    what = "obsolete snapshots" if obsolete else f"policy {name}"
    if not found:
        cli.emit({"confirmed": [], "note": f"No retention of {what} waits for a confirmation."})
        return
    told = [_told(one) for one in found]
    changes = "; ".join(f"{one['of']}: {' and '.join(one['before'])} -> {one['now']}" for one in told)
    cli.confirm(f"Remove restore points by the shorter retention of {what} ({changes})?", yes=yes)
    by, now = cli.caller, cli.services.clock.now()
    for one in found:
        let_apply(one, by, now, catalog)
    cli.emit({"confirmed": told, "note": "The next session or retention pass applies it."})


def _told(found: Any) -> dict[str, Any]:
    from holdfast.planning.confirmation import spelled

    return {
        "of": found.part.rpartition("/")[2],
        "before": [spelled(one) for one in found.held],
        "now": spelled(found.wanted),
    }
