"""``holdfast points``: restore points as the catalog lists them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.errors import NotFoundError
from holdfast.model.restore_point import Kind, RestorePoint

app = typer.Typer(no_args_is_help=True)


def row(point: RestorePoint) -> dict[str, Any]:
    """A restore point as one line of a listing."""
    return {
        "taken_at": point.taken_at.isoformat(),
        "kind": point.kind.value,
        "instance_id": point.instance_id,
        "name": point.instance_name,
        "account": point.account,
        "region": point.region,
        "point_id": point.point_id,
        "flags": "".join(sorted(flag.value for flag in point.flags)),
        "policy": point.policy,
        "repository": point.repository,
        "full": point.full,
        "complete": point.complete,
        "size_bytes": point.size_bytes,
        "stored_bytes": point.stored_bytes,
        "keep_until": point.keep_until.isoformat() if point.keep_until else None,
    }


def find_point(cli: CommandContext, instance_id: str, point_id: str = "") -> dict[str, Any]:
    """The point of that id, or the newest; a backup before a snapshot. Raises NotFoundError."""
    found = [
        point
        for point in cli.services.catalog.points(instance_id)
        if point.complete and (not point_id or point.point_id == point_id)
    ]
    if not found:
        raise NotFoundError(
            f"There is no restore point {point_id} of {instance_id}."
            if point_id
            else "There is no restore point.",
            resource=instance_id,
            remedy="List them with: holdfast points list --instance " + instance_id,
        )
    order = (Kind.SNAPSHOT, Kind.REPLICA, Kind.ARCHIVE, Kind.BACKUP)
    usable = [point for point in found if point.kind in (Kind.SNAPSHOT, Kind.BACKUP)] or found
    return row(max(usable, key=lambda point: (point.taken_at, order.index(point.kind))))


@app.command("list")
def list_points(
    context: typer.Context,
    instance: Annotated[str, typer.Option("--instance", help="Instance id.")],
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
) -> None:
    """List restore points of an instance, oldest first."""
    cli: CommandContext = context.obj
    cli.emit([row(point) for point in cli.services.catalog.points(instance, kind)])
