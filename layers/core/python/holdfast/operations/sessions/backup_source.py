"""What the next image-level backup of an instance builds on.

The catalog is asked first because it is cheap, the manifests decide: a restore point that the catalog has
lost is found in the repository, and one that cannot be read is passed over and told.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.errors import DamagedError, NotFoundError
from holdfast.model.restore_point import Kind
from holdfast.ports import Catalog
from holdfast.repository.layout import PointName
from holdfast.repository.manifest import PointManifest
from holdfast.repository.repository import Repository

LOOKS_BACK = 5
"""Damaged manifests in a row after which everything is read again."""


def last_backup(
    instance_id: str, but: str, repository: Repository, name: str, catalog: Catalog
) -> tuple[PointManifest | None, list[str]]:
    """The newest whole backup of an instance other than ``but``, and what was wrong with newer ones."""
    warnings: list[str] = []
    for looked, point in enumerate(_candidates(instance_id, but, repository, name, catalog)):
        if looked == LOOKS_BACK:
            break
        try:
            manifest = repository.read_point(point)
        except NotFoundError:
            continue
        except DamagedError as error:
            warnings.append(f"An earlier backup cannot be built on: {error.message}")
            continue
        if manifest.complete and repository.is_reusable(manifest):
            return manifest, warnings
    return None, warnings


def _candidates(
    instance_id: str, but: str, repository: Repository, name: str, catalog: Catalog
) -> Iterator[PointName]:
    """Restore points of the instance in this repository, newest first."""
    known = [
        point.point_id
        for point in catalog.points(instance_id, Kind.BACKUP)
        if point.repository == name and point.complete
    ]
    ids = known or [point.point_id for point in repository.list_points(instance_id)]
    for point_id in sorted(ids, reverse=True):
        if point_id != but:
            yield PointName(instance_id, point_id)
