"""What protecting an instance costs a month, in USD: storage in steady state, traffic and requests.

Estimates follow the policy's own slots and retention; what cannot be known (how much is used, how much
changes, how well it compresses) is an assumption that the caller may set and that is shown with the
result. List prices of us-east-1 in 2026 stand for all Regions. Source: policies.md 2 (cost estimation).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree

from holdfast.model.blocks import BLOCK_SIZE, GIB
from holdfast.model.configuration import Configuration, SchedulePolicy
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.prices import request_cost
from holdfast.planning.retention import judge, rule_for
from holdfast.planning.schedule import slots

PACK_BYTES: Final = 32 << 20
BLOCKS_PER_LIST: Final = 10_000
MONTH: Final = timedelta(days=30)

GB_MONTH: Final = {"snapshot": 0.05, "STANDARD": 0.023, "GLACIER": 0.0036, "DEEP_ARCHIVE": 0.00099}
TRAFFIC_GB: Final = 0.02
"""Between two Regions of one continent."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What an estimate cannot know. Shares are of 1; ``daily_change`` is of what is used."""

    used: float = 0.6
    daily_change: float = 0.03
    stored: float = 0.45


USUAL: Final = Assumptions()


@dataclass(frozen=True, slots=True)
class Estimate:
    """USD a month for one instance. ``warning`` says what makes it dearer than it need be."""

    instance_id: str
    name: str
    snapshot: float = 0.0
    replica: float = 0.0
    backup: float = 0.0
    archive: float = 0.0
    traffic: float = 0.0
    transaction: float = 0.0
    warning: str = ""

    @property
    def total(self) -> float:
        return self.snapshot + self.replica + self.backup + self.archive + self.traffic + self.transaction


def steady_chain(policy: SchedulePolicy, kind: Kind, now: datetime, horizon: timedelta) -> list[datetime]:
    """The times of the points that a chain holds at ``now`` after running for ``horizon``."""
    made = [
        RestorePoint(
            point_id=slot.at.isoformat(),
            kind=kind,
            account="",
            region="",
            instance_id="",
            taken_at=slot.at,
            flags=slot.flags_of(kind),
        )
        for slot in slots(policy, now - horizon, now)
        if kind in slot.flags
    ]
    kept = {verdict.point_id for verdict in judge(made, rule_for(policy, kind), now) if not verdict.remove}
    return [point.taken_at for point in made if point.point_id in kept]


def _stored_share(times: Sequence[datetime], assumed: Assumptions) -> float:
    """What a chain occupies, as a multiple of what is used: one full, and the changes between neighbours."""
    if not times:
        return 0.0
    gaps = (later - earlier for earlier, later in pairwise(times))
    return 1 + sum(min(1.0, assumed.daily_change * (gap / timedelta(days=1))) for gap in gaps)


def _changed_share(
    policy: SchedulePolicy, kind: Kind, now: datetime, assumed: Assumptions
) -> tuple[int, float]:
    """How many points a month makes, and how much they move together, as a multiple of what is used."""
    times = [slot.at for slot in slots(policy, now - MONTH, now) if kind in slot.flags]
    if not times:
        return 0, 0.0
    return len(times), len(times) * min(1.0, assumed.daily_change * (MONTH / len(times) / timedelta(days=1)))


def estimate(
    configuration: Configuration,
    policy: SchedulePolicy,
    instance: Instance,
    now: datetime,
    assumed: Assumptions = USUAL,
    horizon: timedelta = timedelta(days=400),
) -> Estimate:
    """The monthly cost of protecting ``instance`` by ``policy``, once retention has begun to remove
    points.
    """
    used = sum(volume.size_bytes for volume in instance.volumes) * assumed.used
    used_gb = used / GIB
    chains = {kind: _stored_share(steady_chain(policy, kind, now, horizon), assumed) for kind in Kind}
    classes = {repository.name: repository for repository in configuration.repositories}
    standard, archive = classes.get(policy.repository), classes.get(policy.archive_repository)
    _, replicated = _changed_share(policy, Kind.REPLICA, now, assumed)
    backups, moved = _changed_share(policy, Kind.BACKUP, now, assumed)
    crosses = standard is not None and standard.region != instance.region and moved > 0
    target = next((each for each in policy.replication if each.source_region == instance.region), None)
    traffic = (replicated if target and target.region != instance.region else 0.0) + (
        moved if crosses else 0.0
    )
    blocks = used * moved / BLOCK_SIZE
    volumes = len(instance.volumes)
    requests = {
        "ebs:GetSnapshotBlock": round(blocks),
        "ebs:ListChangedBlocks": round(blocks / BLOCKS_PER_LIST) + backups * volumes,
        "s3:PutObject": round(used * moved * assumed.stored / PACK_BYTES) + backups * (1 + 2 * volumes),
    }
    archive_price = GB_MONTH[archive.storage_class] if archive else 0.0
    return Estimate(
        instance.instance_id,
        instance.name,
        snapshot=used_gb * chains[Kind.SNAPSHOT] * GB_MONTH["snapshot"],
        replica=used_gb * chains[Kind.REPLICA] * GB_MONTH["snapshot"],
        backup=used_gb * chains[Kind.BACKUP] * assumed.stored * GB_MONTH["STANDARD"],
        archive=used_gb * chains[Kind.ARCHIVE] * assumed.stored * archive_price,
        traffic=used_gb * traffic * TRAFFIC_GB,
        transaction=request_cost(requests),
        warning=f"backups go to {standard.region}, another Region" if crosses and standard else "",
    )


_COLUMNS: Final = [each.name for each in fields(Estimate) if each.name != "warning"]


def _row(found: Estimate) -> dict[str, str]:
    values = asdict(found)
    texts = {name: value if isinstance(value := values[name], str) else f"{value:.4f}" for name in _COLUMNS}
    return {**texts, "total": f"{found.total:.4f}", "warning": found.warning}


def to_csv(estimates: Iterable[Estimate]) -> str:
    """One line for each instance, with a head. A text that a spreadsheet would run as a formula is quoted."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*_COLUMNS, "total", "warning"], lineterminator="\n")
    writer.writeheader()
    for each in estimates:
        row = _row(each)
        row["name"] = (
            f"'{row['name']}" if row["name"][:1] in ("=", "+", "-", "@", "\t", "\r") else row["name"]
        )
        writer.writerow(row)
    return out.getvalue()


def to_xml(estimates: Iterable[Estimate]) -> str:
    """The same as an XML document."""
    root = ElementTree.Element("estimates", currency="USD", period="month")
    for each in estimates:
        ElementTree.SubElement(
            root, "instance", {name: _printable(text) for name, text in _row(each).items()}
        )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _printable(text: str) -> str:
    """Without characters that XML cannot carry."""
    return "".join(letter for letter in text if letter.isprintable())
