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


_NATIVE = (Kind.SNAPSHOT, Kind.REPLICA)
_ORDER = (Kind.ARCHIVE, Kind.REPLICA, Kind.SNAPSHOT, Kind.BACKUP)


def find_point(
    cli: CommandContext, instance_id: str, point_id: str = "", *, account: str = "", region: str = ""
) -> dict[str, Any]:
    """The point of that id, or the newest; a backup before a snapshot. Raises NotFoundError.

    With a target account or Region, snapshots that lie elsewhere come last: they cannot be used there.
    """
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
    usable = [
        point
        for point in found
        if point.kind is Kind.BACKUP
        or (point.kind in _NATIVE and account in ("", point.account) and region in ("", point.region))
    ]
    return row(max(usable or found, key=lambda point: (point.taken_at, _ORDER.index(point.kind))))


@app.command("list")
def list_points(
    context: typer.Context,
    instance: Annotated[str, typer.Option("--instance", help="Instance id.")],
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
) -> None:
    """List restore points of an instance, oldest first."""
    cli: CommandContext = context.obj
    cli.emit([row(point) for point in cli.services.catalog.points(instance, kind)])
