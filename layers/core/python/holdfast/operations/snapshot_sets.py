"""Sets of EBS snapshots read as restore points, from their tags alone.

Rebuild and retention rely on this: a set with fewer completed snapshots than its tags promise is not a
restore point, and tags that do not name our installation make a snapshot invisible to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.errors import PermanentError, SourceGoneError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy
from holdfast.model.ids import slot_of
from holdfast.model.inventory import AttachedVolume
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.tags import encode_flags, slot_tag
from holdfast.operations.steps import InstanceStep
from holdfast.ports import VolumeSnapshot

USABLE = frozenset({"pending", "completed"})
TAG_LIMIT = 50
SETTLES_IN = timedelta(minutes=2)
"""How long new snapshots may take to show everywhere (EC2 is eventually consistent)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of one restore point: at most one usable set, and what can never belong to one.

    ``missing`` counts the snapshots that the tags promise and that are not (yet) to be seen.
    """

    usable: tuple[VolumeSnapshot, ...] = ()
    broken: tuple[VolumeSnapshot, ...] = ()
    missing: int = 0


def sort_out(snapshots: Iterable[VolumeSnapshot], since: datetime | None = None) -> Found:
    """The first whole set of one restore point; everything else of it is broken or surplus.

    Without a whole one, the newest set that may still become visible as a whole. Sets are never mixed: their
    snapshots are of different moments. What is older than ``since`` nobody made for it, whatever its tags
    say: it is left out.
    """
    sets = by_call(one for one in snapshots if since is None or one.started_at > since - SETTLES_IN)
    missing = [_missing(made) for made in sets]
    late = [place for place, count in enumerate(missing) if count]
    chosen = missing.index(0) if 0 in missing else late[-1] if late else -1
    broken = tuple(one for place, made in enumerate(sets) if place != chosen for one in made)
    if chosen < 0:
        return Found(broken=broken)
    usable = tuple(sorted(sets[chosen], key=lambda one: one.volume_id))
    return Found(usable, broken, missing[chosen] or 0)


def by_call(snapshots: Iterable[VolumeSnapshot]) -> list[list[VolumeSnapshot]]:
    """The snapshots of one restore point by the call that made them, the first call first."""
    sets: dict[str, list[VolumeSnapshot]] = {}
    for one in sorted(snapshots, key=lambda one: (one.started_at, one.snapshot_id)):
        sets.setdefault(_call_of(one), []).append(one)
    return list(sets.values())


def _call_of(snapshot: VolumeSnapshot) -> str:
    if made := snapshot.tags.get(names.SET):
        return made
    # Copies are started one by one, so their times differ.
    return "" if _is_copy(snapshot) else snapshot.started_at.isoformat()


def _is_copy(snapshot: VolumeSnapshot) -> bool:
    return snapshot.tags.get(names.KIND) == Kind.REPLICA


def volume_of(snapshot: VolumeSnapshot) -> str:
    """The volume that a snapshot is of; EC2 does not tell it for a copy, our tag does."""
    return snapshot.tags.get(names.VOLUME, "") if _is_copy(snapshot) else snapshot.volume_id


def _missing(made: Sequence[VolumeSnapshot]) -> int | None:
    """How many snapshots of a set are not to be seen; None when it can never be a restore point."""
    volumes = {volume_of(one) for one in made}
    if len(volumes) < len(made) or any(one.state not in USABLE for one in made):
        return None
    return max(0, max(promised_count(one) for one in made) - len(made))


def promised_count(snapshot: VolumeSnapshot) -> int:
    """How many snapshots the set has, by its tags; 0 when they do not say."""
    text = snapshot.tags.get(names.VOLUMES, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def identity(installation: str, step: InstanceStep) -> dict[str, str]:
    """The tags that say: this snapshot is ours, of this instance and this restore point."""
    return {
        names.INSTALLATION: installation,
        names.POINT: step.point_id,
        names.INSTANCE: step.instance_id,
    }


def still_pending(
    wanted: Iterable[str], seen: Sequence[VolumeSnapshot], taken_at: datetime, now: datetime
) -> list[VolumeSnapshot]:
    """The snapshots that EBS has not completed yet, of those that were made at ``taken_at``.

    Raises UnavailableError while they may not show everywhere, SourceGoneError for a deleted one,
    PermanentError for one that EBS failed.
    """
    gone = sorted(set(wanted) - {one.snapshot_id for one in seen})
    if gone and now - taken_at < SETTLES_IN:
        raise UnavailableError("The new snapshot is not to be seen everywhere yet.", resource=gone[0])
    if gone:
        raise SourceGoneError(
            "The snapshot was deleted before the restore point was complete.",
            resource=gone[0],
            remedy="Find out who deletes snapshots, and take a new one; the next session does so by itself.",
        )
    for one in seen:
        if one.state not in USABLE:
            raise PermanentError(
                f"EBS could not take the snapshot of {one.volume_id} ({one.state}): "
                f"{one.reason or 'no reason given'}",
                resource=one.snapshot_id,
                remedy="Check that the volume's KMS key is enabled and that the backup role may use it.",
            )
    return [one for one in seen if one.state == "pending"]


def set_tags(
    installation: str,
    step: InstanceStep,
    policy: AnyPolicy,
    flags: frozenset[Flag],
    volume_count: int,
    set_id: str,
) -> dict[str, str]:
    """The tags of every snapshot of a set; ours win over the operator's."""
    label = step.instance_name or step.instance_id
    return {
        "Name": f"{label} {step.slot:%Y-%m-%d %H:%M}Z"[:256],
        **policy.tags.custom,
        **identity(installation, step),
        names.POLICY: policy.name,
        names.SESSION: step.session_id,
        names.SLOT: slot_tag(step.slot),
        names.FLAGS: encode_flags(flags),
        names.KIND: _kind(step, flags),
        names.VOLUMES: str(volume_count),
        names.SET: set_id,
        **({} if step.backup_flags is None else {names.IN_USE: slot_tag(step.slot)}),
    }


def _kind(step: InstanceStep, flags: frozenset[Flag]) -> str:
    if step.temporary:
        return names.TEMPORARY
    return names.MANUAL if step.manual and not flags else Kind.SNAPSHOT.value


def volume_tags(volume: AttachedVolume, *, copy: bool) -> dict[str, str]:
    """The tags of one volume's snapshot: which volume it was, and a copy of the volume's own tags."""
    own = {names.VOLUME: volume.volume_id, names.DEVICE: volume.device[:256]}
    return (copied(volume.tags) if copy else {}) | own


def copied(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a volume that its snapshot may carry: not AWS's, not ours."""
    return {k: v for k, v in tags.items() if not k.startswith((names.PREFIX, "aws:"))}


def can_copy_in_call(volumes: Iterable[AttachedVolume], own_count: int) -> bool:
    """Whether EC2 may copy the volumes' tags itself: none of ours among them, and within its limit."""
    return all(
        len(volume.tags) + own_count + 2 <= TAG_LIMIT and copied(volume.tags).keys() == volume.tags.keys()
        for volume in volumes
    )


def point_of(
    snapshots: Sequence[VolumeSnapshot],
    *,
    installation: str,
    account: str,
    region: str,
    kind: Kind = Kind.SNAPSHOT,
) -> RestorePoint | None:
    """The restore point that a completed set is, or None when it is not one of ours, or not whole.

    A replica is as old as what it is a copy of: its restore point's id begins with that time.
    """
    first = min(snapshots, key=lambda one: one.started_at, default=None)
    if first is None or first.tags.get(names.INSTALLATION) != installation:
        return None
    point, instance = first.tags.get(names.POINT, ""), first.tags.get(names.INSTANCE, "")
    volumes = {volume_of(one): one.snapshot_id for one in snapshots}
    whole = len(volumes) == len(snapshots) == promised_count(first)
    same = all(
        (
            one.tags.get(names.INSTALLATION),
            one.tags.get(names.POINT),
            one.tags.get(names.INSTANCE),
            _call_of(one),
        )
        == (installation, point, instance, _call_of(first))
        for one in snapshots
    )
    if not (point and instance and whole and same and all(one.state == "completed" for one in snapshots)):
        return None
    return RestorePoint(
        point_id=point,
        kind=kind,
        account=account,
        region=region,
        instance_id=instance,
        instance_name=first.tags.get("Name", "").rpartition(" ")[0].rpartition(" ")[0],
        taken_at=(slot_of(point) if kind is Kind.REPLICA else None) or first.started_at,
        session_id=first.tags.get(names.SESSION, ""),
        policy=first.tags.get(names.POLICY, ""),
        flags=names.decode_flags(first.tags.get(names.FLAGS, "")),
        manual=first.tags.get(names.KIND) == names.MANUAL,
        temporary=first.tags.get(names.KIND) == names.TEMPORARY,
        keep_until=names.read_instant(first.tags, names.KEEP_UNTIL),
        snapshot_ids=volumes,
        size_bytes=sum(one.size_bytes for one in snapshots),
    )
