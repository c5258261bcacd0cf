"""Restore points as the catalog lists them and as retention judges them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from holdfast.model.inventory import Value


class Kind(StrEnum):
    """Where a restore point lives."""

    SNAPSHOT = "snapshot"
    REPLICA = "replica"
    BACKUP = "backup"
    ARCHIVE = "archive"


class Flag(StrEnum):
    """Schedules that keep a restore point (harmonized scheduling, policies.md 3.1)."""

    DAILY = "D"
    WEEKLY = "W"
    MONTHLY = "M"
    YEARLY = "Y"


class RestorePoint(Value):
    """A dated, restorable state of one instance.

    ``snapshot_ids`` maps volume id to EBS snapshot id (snapshots and replicas, and the base kept for
    changed block tracking). ``temporary``: made only so that a backup has something to read.
    """

    point_id: str
    kind: Kind
    account: str
    region: str
    instance_id: str
    instance_name: str = ""
    taken_at: datetime
    session_id: str = ""
    policy: str = ""
    flags: frozenset[Flag] = frozenset()
    manual: bool = False
    temporary: bool = False
    keep_until: datetime | None = None
    repository: str = ""
    full: bool = False
    snapshot_ids: dict[str, str] = Field(default_factory=dict)
    size_bytes: int = 0
    stored_bytes: int = 0
    root_digest: str = ""
    complete: bool = True
