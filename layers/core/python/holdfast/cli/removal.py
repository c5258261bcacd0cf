"""``holdfast data``: remove restore points of instances by hand, exactly those that were shown and confirmed.

Nothing is removed unasked: the plan is shown first, and a person types the id of the instance, or says --yes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.output import printable
from holdfast.cli.points import row
from holdfast.errors import ConfigurationError, HoldfastError, UnavailableError
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.removing import NATIVE, Scope, in_scope, key_of

app = typer.Typer(no_args_is_help=True)
AT_ONCE: Final = 2000
"""Points in one call of the function."""

Instances = Annotated[list[str], typer.Argument(help="Instance ids.")]
ScopeOption = Annotated[Scope, typer.Option("--scope", help="What to remove of each instance.")]


def _plan(instance_id: str, scope: Scope, cli: CommandContext) -> tuple[list[RestorePoint], dict[str, Any]]:
    """The points that go, and what a person has to know about them."""
    every = list(cli.services.catalog.points(instance_id))
    points = list(in_scope(every, scope))
    kinds = {kind: [point for point in points if point.kind is kind] for kind in Kind}
    taken = sorted(point.taken_at.isoformat() for point in points)
    return points, {
        "instance_id": instance_id,
        "name": next((point.instance_name for point in reversed(points) if point.instance_name), ""),
        "scope": scope.value,
        "points": len(points),
        **{f"{kind.value}s": len(found) for kind, found in kinds.items() if found},
        "size_bytes": sum(point.size_bytes for point in points),
        "stored_bytes": sum(point.stored_bytes for point in points),
        "oldest": taken[0] if taken else None,
        "newest": taken[-1] if taken else None,
        "notes": list(_notes(points, every, cli)),
    }


def _notes(
    points: Sequence[RestorePoint], every: Sequence[RestorePoint], cli: CommandContext
) -> Iterator[str]:
    backups = [point for point in every if point.kind is Kind.BACKUP and point.complete]
    base = set(backups[-1].snapshot_ids.values()) if backups else set()
    native = {one for point in points if point.kind in NATIVE for one in point.snapshot_ids.values()}
    if base & native:
        yield "The next backup has nothing to compare with: it reads whole volumes."
    if any(point.kind not in NATIVE for point in points):
        yield "Backups are deleted by retention a day later; until then `holdfast data keep` keeps them."
    if points and {key_of(point) for point in points} == {key_of(point) for point in every}:
        yield "No restore point of this instance is left."
    locked = {one.name for one in cli.configuration.repositories if one.immutable}
    for name in sorted(locked & {point.repository for point in points}):
        yield f"The repository {name} is immutable: its backups stay until their lock ends."


def _confirm(plan: dict[str, Any], *, yes: bool) -> None:
    """Show what goes, and ask for the instance's id. Raises ConfigurationError, BadParameter."""
    for key, value in plan.items():
        shown = "; ".join(value) if isinstance(value, list) else value
        typer.echo(printable(f"{key:>14}: {shown}"), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nobody is there to confirm what goes. Add --yes.")
    typed = typer.prompt("Type the id of the instance to remove this", err=True)
    if typed.strip() != plan["instance_id"]:
        raise ConfigurationError("Nothing was done.", remedy="Type the id exactly, or add --yes.")


def _call(
    instance_id: str, scope: Scope, points: Sequence[RestorePoint], cli: CommandContext, *, keep: bool
) -> dict[str, Any]:
    """What became of the points, over as many calls as it takes."""
    done: dict[str, Any] = {"instance_id": instance_id, "removed": [], "noted": [], "kept": [], "left": {}}
    waiting = [key_of(point) for point in points]
    while waiting:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        event = {
            "instance_id": instance_id,
            "scope": scope.value,
            "points": batch,
            "by": cli.caller,
            "take_back": keep,
        }
        answer = cli.invoke("remove-points", event, region=cli.configuration.hub_region)
        for key in ("removed", "noted", "kept"):
            done[key] += answer[key]
        done["left"] |= answer["left"]
        if len(answer["more"]) == len(batch):
            raise UnavailableError("The function had no time to remove anything.", remedy="Try it again.")
        waiting = [*answer["more"], *waiting]
        cli.progress.update(f"{instance_id}: {len(points) - len(waiting)} of {len(points)}")
    return done


def _all(
    instances: Sequence[str], scope: Scope, cli: CommandContext, *, yes: bool, keep: bool = False
) -> None:
    """One instance after the other; exit code 1 when nothing was done anywhere, 3 when something stays."""
    results: list[dict[str, Any]] = []
    for instance_id in dict.fromkeys(instances):
        points, plan = _plan(instance_id, scope, cli)
        if not keep:
            _confirm(plan, yes=yes or not points)
        try:
            results.append(_call(instance_id, scope, points, cli, keep=keep))
        except HoldfastError as error:
            results.append({"instance_id": instance_id, "error": str(error)})
    cli.emit(results)
    failed = [one for one in results if "error" in one or one["left"]]
    done = [one for one in results if one.get("removed") or one.get("noted") or one.get("kept")]
    if failed:
        raise typer.Exit(3 if done else 1)


@app.command()
def remove(
    context: typer.Context,
    instances: Instances,
    scope: ScopeOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, point by point.")] = False,
) -> None:
    """Remove restore points of instances: exit code 3 when some had to stay, 1 when all had to."""
    cli: CommandContext = context.obj
    if dry_run:
        plans = [_plan(instance_id, scope, cli) for instance_id in dict.fromkeys(instances)]
        cli.emit([{**plan, "would_remove": [row(point) for point in points]} for points, plan in plans])
        return
    _all(instances, scope, cli, yes=yes)


@app.command()
def keep(context: typer.Context, instances: Instances) -> None:
    """Take back the removal of backups that are noted, but not deleted yet."""
    _all(instances, Scope.BACKUPS, context.obj, yes=True, keep=True)
