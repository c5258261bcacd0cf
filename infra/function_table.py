"""Every function of Holdfast: where it runs, with how much memory and time, and what it may do.

A new function is a file in ``functions/`` and one row here. Names of functions, roles and log groups, the
substitutions in the state machines, and the trust policies of the spoke roles follow from the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra import permissions as may
from infra.duties import Duty, assumable
from infra.names import Place, Site
from infra.permissions import Grant
from infra.statements import Statement, without_repeats

FUNCTIONS_DIRECTORY: Final = Path(__file__).parent.parent / "functions"

HUB, CELL = Place.HUB, Place.CELL
BACKUP, RESTORE, ORGANIZATION = Duty.BACKUP, Duty.RESTORE, Duty.ORGANIZATION


@dataclass(frozen=True, slots=True)
class Row:
    """One function.

    ``event_driven`` ones are invoked asynchronously and keep what failed for good; ``scheduled`` ones by the
    schedules of policies, ``daily`` ones by a schedule of their own.
    """

    verb: str
    place: Place
    memory_mb: int = 512
    timeout_seconds: int = 120
    assumes: tuple[Duty, ...] = ()
    grants: tuple[Grant, ...] = ()
    event_driven: bool = False
    scheduled: bool = False
    daily: bool = False
    traced: bool = True

    def statements(self, site: Site) -> tuple[Statement, ...]:
        """Everything the function's role allows at this site, in a stable order."""
        assumed = [
            statement
            for duty in self.assumes
            for statement in may.assume(site, duty, assumable(site.configuration, duty, site.partition))
        ]
        pieces = (
            *may.logs(site, self.verb),
            *(may.traces(site) if self.traced else ()),
            *(may.undelivered(site) if self.event_driven else ()),
            *assumed,
            *(statement for grant in self.grants for statement in grant(site)),
        )
        return without_repeats(pieces)


# A worker is bound by the network (75 MiB/s into a function), where it uses half a vCPU: 1,024 MB give 0.58.
# Its checkpoint is due before the 15 minutes of Lambda end. Tracing would add 0.3 seconds to its start.
WORKER: Final[dict[str, Any]] = {"memory_mb": 1024, "timeout_seconds": 900, "traced": False}
# These read or write lists and maps whose length grows with the instances or volumes concerned.
LONG: Final[dict[str, Any]] = {"memory_mb": 1024, "timeout_seconds": 900}

ROWS: Final = (
    Row(
        "start_session",
        HUB,
        event_driven=True,
        scheduled=True,
        grants=(may.catalog_write, may.start("session")),
    ),
    Row("resolve_scope", HUB, timeout_seconds=900, assumes=(ORGANIZATION,), grants=(may.catalog_write,)),
    Row("start_cell", HUB, grants=(may.catalog_write, may.start_cells, may.answer_session)),
    Row("stop_session", HUB, grants=(may.catalog_write, may.mark_stops)),
    Row("conclude_session", HUB, timeout_seconds=300, grants=(may.catalog_write, may.notify)),
    Row("close_window", HUB, event_driven=True, scheduled=True, grants=(may.start("close_window"),)),
    Row("close_day", HUB, grants=(may.catalog_write, may.start("retention")), **LONG),
    Row("report_day", HUB, grants=(may.catalog_write, may.notify), **LONG),
    Row("start_retention", HUB, event_driven=True, daily=True, grants=(may.start("retention"),)),
    Row(
        "plan_retention",
        HUB,
        assumes=(ORGANIZATION,),
        grants=(may.catalog_write, may.work_write),
        **LONG,
    ),
    Row(
        "retain_snapshots",
        HUB,
        assumes=(BACKUP,),
        grants=(may.catalog_remove, may.work_read),
        **LONG,
    ),
    Row(
        "conclude_retention",
        HUB,
        timeout_seconds=300,
        grants=(may.catalog_write, may.work_read, may.publish),
    ),
    Row(
        "expire_backups",
        HUB,
        grants=(may.catalog_remove, may.repository_expire),
        **LONG,
    ),
    Row(
        "remove_points",
        HUB,
        assumes=(BACKUP,),
        grants=(may.catalog_remove, may.repository_mark),
        **LONG,
    ),
    Row(
        "take_manual_snapshot",
        HUB,
        timeout_seconds=300,
        assumes=(BACKUP,),
        grants=(may.catalog_remove, may.start("manual_snapshot")),
    ),
    Row("confirm_manual_snapshot", HUB, assumes=(BACKUP,), grants=(may.catalog_write, may.notify)),
    Row(
        "expire_manual_snapshots",
        HUB,
        event_driven=True,
        daily=True,
        assumes=(BACKUP,),
        grants=(may.catalog_remove,),
        timeout_seconds=900,
    ),
    Row(
        "record_coverage",
        HUB,
        event_driven=True,
        daily=True,
        assumes=(BACKUP, ORGANIZATION),
        grants=(may.catalog_write, may.publish),
        **LONG,
    ),
    Row("show_configuration", HUB),
    Row("copy_snapshots", HUB, timeout_seconds=300, assumes=(BACKUP,), grants=(may.catalog_remove,)),
    Row("discover_instances", CELL, assumes=(BACKUP,), grants=(may.catalog_write, may.work_write), **LONG),
    Row("take_snapshots", CELL, timeout_seconds=300, assumes=(BACKUP,), grants=(may.catalog_remove,)),
    Row("check_snapshots", CELL, assumes=(BACKUP,), grants=(may.catalog_write,)),
    Row(
        "plan_backup",
        CELL,
        assumes=(BACKUP,),
        grants=(may.catalog_read, may.work_write, may.repository_create),
        **LONG,
    ),
    Row("move_segment", CELL, assumes=(BACKUP,), grants=(may.work_write, may.repository_write), **WORKER),
    Row(
        "commit_backup",
        CELL,
        assumes=(BACKUP,),
        grants=(may.catalog_write, may.work_read, may.repository_write),
        **LONG,
    ),
    Row("replicate_snapshots", CELL, timeout_seconds=300, assumes=(BACKUP,), grants=(may.catalog_remove,)),
    Row("conclude_instance", CELL, assumes=(BACKUP,), grants=(may.catalog_write,)),
    Row("apply_retention", CELL, timeout_seconds=900, assumes=(BACKUP,), grants=(may.catalog_remove,)),
    Row("report_cell", CELL, grants=(may.catalog_write, may.work_read, may.answer_session)),
    Row(
        "plan_restore",
        CELL,
        assumes=(RESTORE,),
        grants=(may.catalog_read, may.work_write, may.repository_read),
        **LONG,
    ),
    Row("restore_segment", CELL, assumes=(RESTORE,), grants=(may.repository_read,), **WORKER),
    Row("complete_restore", CELL, assumes=(RESTORE,), grants=(may.repository_read,), **LONG),
    Row("check_restore", CELL, assumes=(RESTORE,)),
    Row("create_volumes", CELL, timeout_seconds=300, assumes=(RESTORE,)),
    Row("launch_instance", CELL, timeout_seconds=300, assumes=(RESTORE,), grants=(may.work_read,)),
    Row("finish_restore", CELL, timeout_seconds=300, assumes=(RESTORE,)),
    Row("abandon_restore", CELL, timeout_seconds=300, assumes=(RESTORE,)),
)

DAILY: Final = tuple(row.verb for row in ROWS if row.daily)
SCHEDULED: Final = tuple(row.verb for row in ROWS if row.scheduled or row.daily)
BY_VERB: Final = {row.verb: row for row in ROWS}


def rows_at(place: Place) -> tuple[Row, ...]:
    """The functions of one place, in the order of the table."""
    return tuple(row for row in ROWS if row.place is place)


def assumers(duty: Duty) -> tuple[str, ...]:
    """Verbs of the functions that assume roles of this duty: whom a spoke role trusts."""
    return tuple(row.verb for row in ROWS if duty in row.assumes)
