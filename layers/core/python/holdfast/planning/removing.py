"""What a person may ask to have removed of one instance: eight scopes over its restore points.

Each scope means exactly its class: nothing of another kind of restore point may fall into it. Source:
policies.md 9 (P83).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from holdfast.model.restore_point import Kind, RestorePoint


class Scope(StrEnum):
    """``local``: snapshots that policies made; ``manual``: those made by hand, with their copies."""

    SNAPSHOTS = "snapshots"
    MANUAL = "manual-snapshots"
    LOCAL = "local-snapshots"
    REPLICAS = "replicas"
    BACKUPS = "backups"
    STANDARD = "standard-backups"
    ARCHIVED = "archived-backups"
    EVERYTHING = "everything"


NATIVE: Final = (Kind.SNAPSHOT, Kind.REPLICA)

_MEMBERS: Final[Mapping[Scope, Callable[[RestorePoint], bool]]] = MappingProxyType(
    {
        Scope.SNAPSHOTS: lambda point: point.kind in NATIVE,
        Scope.MANUAL: lambda point: point.kind in NATIVE and point.manual,
        Scope.LOCAL: lambda point: point.kind is Kind.SNAPSHOT and not point.manual,
        Scope.REPLICAS: lambda point: point.kind is Kind.REPLICA and not point.manual,
        Scope.BACKUPS: lambda point: point.kind not in NATIVE,
        Scope.STANDARD: lambda point: point.kind is Kind.BACKUP,
        Scope.ARCHIVED: lambda point: point.kind is Kind.ARCHIVE,
        Scope.EVERYTHING: lambda _: True,
    }
)


def in_scope(points: Iterable[RestorePoint], scope: Scope) -> tuple[RestorePoint, ...]:
    """The restore points that ``scope`` means, in their order."""
    return tuple(point for point in points if _MEMBERS[scope](point))


def key_of(point: RestorePoint) -> str:
    """What names one restore point of an instance in one place."""
    return f"{point.kind}/{point.point_id}/{point.repository or f'{point.account}:{point.region}'}"
