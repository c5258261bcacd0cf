"""What protecting an instance costs a month, in USD: storage in steady state, traffic and requests.

Estimates follow the policy's own slots and retention; what cannot be known (how much is used, how much
changes, how well it compresses) is an assumption that the caller may set and that is shown with the
result. List prices of us-east-1 in 2026 stand for all Regions. Source: policies.md 2 (cost estimation).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree

from holdfast.model.blocks import BLOCK_SIZE, GIB
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.agenda import agenda
from holdfast.planning.prices import request_cost
from holdfast.planning.protection import archive_for, repository_for, rule_of
from holdfast.planning.retention import Rule, judge
from holdfast.planning.schedule import Slot

PACK_BYTES: Final = 32 << 20
BLOCKS_PER_LIST: Final = 10_000
MONTH: Final = timedelta(days=30)
HORIZON: Final = timedelta(days=400)
"""After this time of running, chains of the usual retentions hold what they always hold."""

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


@dataclass(frozen=True, slots=True)
class Load:
    """What a policy makes of every instance of one Region, as multiples of what the instance uses.

    ``stored`` is what each chain occupies in steady state; ``replicated`` and ``moved`` what replicas and
    backups transfer in a month, and ``backups`` how many of them a month makes.
    """

    stored: Mapping[Kind, float]
    replicated: float = 0.0
    moved: float = 0.0
    backups: int = 0

    @property
    def moved_at_once(self) -> float:
        """What one backup moves that is not the first."""
        return self.moved / self.backups if self.backups else 0.0


def steady_chain(
    configuration: Configuration,
    policy: AnyPolicy,
    region: str,
    kind: Kind,
    now: datetime,
    horizon: timedelta = HORIZON,
) -> list[datetime]:
    """The times of the points that a chain holds at ``now`` after running for ``horizon``."""
    ran = agenda(configuration, policy, region, now - horizon, now)
    return _left(ran, rule_of(configuration, policy, kind, region), kind, now)


def _left(ran: Iterable[Slot], rule: Rule, kind: Kind, now: datetime) -> list[datetime]:
    """The times of the points that these slots made of one kind and retention keeps."""
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
        for slot in ran
        if kind in slot.flags
    ]
    kept = {verdict.point_id for verdict in judge(made, rule, now) if not verdict.remove}
    return [point.taken_at for point in made if point.point_id in kept]


def _stored_share(times: Sequence[datetime], assumed: Assumptions) -> float:
    """What a chain occupies, as a multiple of what is used: one full, and the changes between neighbours."""
    if not times:
        return 0.0
    gaps = (later - earlier for earlier, later in pairwise(times))
    return 1 + sum(min(1.0, assumed.daily_change * (gap / timedelta(days=1))) for gap in gaps)


def _changed_share(times: int, assumed: Assumptions) -> float:
    """What so many points of a month move together, as a multiple of what is used."""
    return times * min(1.0, assumed.daily_change * (MONTH / times / timedelta(days=1))) if times else 0.0


def load(
    configuration: Configuration,
    policy: AnyPolicy,
    region: str,
    now: datetime,
    assumed: Assumptions = USUAL,
    horizon: timedelta = HORIZON,
) -> Load:
    """What ``policy`` makes of every instance in ``region``, once retention has begun to remove points."""
    ran = list(agenda(configuration, policy, region, now - horizon, now))
    rules = {kind: rule_of(configuration, policy, kind, region) for kind in Kind}
    chains = {kind: _left(ran, rule, kind, now) for kind, rule in rules.items()}
    month = [slot for slot in ran if slot.at >= now - MONTH]
    made = {kind: sum(kind in slot.flags for slot in month) for kind in Kind}
    return Load(
        {kind: _stored_share(times, assumed) for kind, times in chains.items()},
        _changed_share(made[Kind.REPLICA], assumed),
        _changed_share(made[Kind.BACKUP], assumed),
        made[Kind.BACKUP],
    )


def used_bytes(instance: Instance, assumed: Assumptions = USUAL) -> float:
    """What is probably in use on the volumes of an instance."""
    return sum(volume.size_bytes for volume in instance.volumes) * assumed.used


def requests_of(found: Load, instance: Instance, assumed: Assumptions = USUAL) -> dict[str, int]:
    """Requests of a month that AWS charges for, by ``service:Operation``."""
    used, volumes = used_bytes(instance, assumed), len(instance.volumes)
    blocks = used * found.moved / BLOCK_SIZE
    return {
        "ebs:GetSnapshotBlock": round(blocks),
        "ebs:ListChangedBlocks": round(blocks / BLOCKS_PER_LIST) + found.backups * volumes,
        "s3:PutObject": round(used * found.moved * assumed.stored / PACK_BYTES)
        + found.backups * (1 + 2 * volumes),
    }


def estimate(
    configuration: Configuration,
    policy: AnyPolicy,
    instance: Instance,
    now: datetime,
    assumed: Assumptions = USUAL,
    *,
    known: Load | None = None,
) -> Estimate:
    """The monthly cost of protecting ``instance`` by ``policy``, once retention has begun to remove points.

    ``known`` is the policy's load in the instance's Region, where the caller has it already.
    """
    found = known or load(configuration, policy, instance.region, now, assumed)
    used_gb = used_bytes(instance, assumed) / GIB
    repositories = {repository.name: repository for repository in configuration.repositories}
    standard = repositories.get(repository_for(configuration, policy, instance.region))
    archive = repositories.get(archive_for(configuration, policy, instance.region))
    crosses = standard is not None and standard.region != instance.region and found.moved > 0
    target = next((each for each in policy.replication if each.source_region == instance.region), None)
    traffic = (found.replicated if target and target.region != instance.region else 0.0) + (
        found.moved if crosses else 0.0
    )
    archive_price = GB_MONTH[archive.storage_class] if archive else 0.0
    return Estimate(
        instance.instance_id,
        instance.name,
        snapshot=used_gb * found.stored[Kind.SNAPSHOT] * GB_MONTH["snapshot"],
        replica=used_gb * found.stored[Kind.REPLICA] * GB_MONTH["snapshot"],
        backup=used_gb * found.stored[Kind.BACKUP] * assumed.stored * GB_MONTH["STANDARD"],
        archive=used_gb * found.stored[Kind.ARCHIVE] * assumed.stored * archive_price,
        traffic=used_gb * traffic * TRAFFIC_GB,
        transaction=request_cost(requests_of(found, instance, assumed)),
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
