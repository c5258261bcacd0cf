"""Carries out what retention says about the snapshots, or replicas, of one instance in one place.

The tags say what there is, the catalog has to agree, the caller's rule judges. A restore point that goes is
first given up in the catalog (marked incomplete), so that nobody is offered one while it loses its volumes;
remains of a set that never became whole are given up in one pass and removed in a later one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from holdfast.model import ids
from holdfast.model import tags as names
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Problem, State
from holdfast.model.tags import encode_flags
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.services import Services
from holdfast.operations.snapshot_sets import by_call, point_of, volume_of
from holdfast.planning.retention import Verdict
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

ABANDONED_AFTER = timedelta(hours=24)
"""A set that is not whole after this time belongs to no session any more."""

Sets = dict[str, list[VolumeSnapshot]]
"""Our snapshots by restore point."""
KINDS: Mapping[Kind, frozenset[str]] = {
    Kind.SNAPSHOT: frozenset({Kind.SNAPSHOT.value, names.MANUAL, names.TEMPORARY}),
    Kind.REPLICA: frozenset({Kind.REPLICA.value}),
}
"""Values of the tag KIND of what belongs to a chain of one kind."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The snapshots or replicas of one instance that lie in one account and Region.

    ``policy`` limits it to what one policy made; empty: what any policy made. What no policy made is in no
    chain. Verdicts are written down as parts of ``session_id``. ``point_id`` is the caller's own restore
    point, of which it knows that nobody reads it any more.
    """

    kind: Kind
    account: str
    region: str
    instance_id: str
    session_id: str
    instance_name: str = ""
    policy: str = ""
    point_id: str = ""


Judge = Callable[[list[RestorePoint], Sets], Iterable[Verdict]]
"""Verdicts on whole restore points on which tags and catalog agree; the sets have their tags."""


@dataclass(slots=True)
class Retained:
    """What a pass over one chain did: numbers of restore points, and what a person should know."""

    removed: int = 0
    kept: int = 0
    recovered: int = 0
    problems: list[Problem] = field(default_factory=list)


def sets_of(snapshots: Iterable[VolumeSnapshot], chain: Chain) -> Sets:
    """The snapshots that belong to a chain, by restore point; not what others copied with all its tags."""
    sets: Sets = {}
    for one in snapshots:
        tags = one.tags
        ours = tags.get(names.INSTANCE) == chain.instance_id and tags.get(names.KIND) in KINDS[chain.kind]
        copied = tags.get(names.VOLUME, one.volume_id) != one.volume_id and chain.kind is Kind.SNAPSHOT
        made_by = tags.get(names.POLICY, "")
        if ours and not copied and made_by and chain.policy in ("", made_by) and tags.get(names.POINT):
            sets.setdefault(tags[names.POINT], []).append(one)
    return sets


def find_sets(chain: Chain, spoke: Spoke, services: Services) -> Sets:
    """The sets of a chain as the account shows them now."""
    wanted = {names.INSTALLATION: services.settings.installation, names.INSTANCE: chain.instance_id}
    if chain.policy:
        wanted[names.POLICY] = chain.policy
    return sets_of(spoke.find_snapshots(wanted), chain)


def recorded_points(chain: Chain, services: Services) -> dict[str, RestorePoint]:
    """What the catalog knows of a chain, by restore point; of a whole one, manual snapshots beside it too."""
    return {
        point.point_id: point
        for point in services.catalog.points(chain.instance_id, chain.kind)
        if (point.account, point.region) == (chain.account, chain.region)
        and chain.policy in ("", point.policy)
    }


def retain(
    chain: Chain,
    sets: Sets,
    judged_by: Judge,
    spoke: Spoke,
    services: Services,
    *,
    releases_bases: bool = False,
    look_again: bool = False,
    only: Collection[str] | None = None,
) -> Retained:
    """Judge a chain and carry the verdicts out. What is refused or fails is told, and the rest still goes.

    ``releases_bases``: nothing will be compared with these snapshots, so the mark of a base protects none.
    ``look_again``: ``sets`` is not of this moment, so before anything goes the chain is read and judged anew,
    and only what both judgements remove is removed. ``only`` names the points that may be removed.
    Raises HoldfastError when the account or the catalog cannot be read.
    """
    recorded = recorded_points(chain, services)
    whole, remains, surplus = _sorted(sets, recorded, chain, services)
    unlisted = [point for point in whole if point.point_id not in recorded]
    lost = [
        point for point in unlisted if point.point_id == ids.point_id(point.session_id, chain.instance_id)
    ]
    flags = {point.point_id: _flags(sets[point.point_id]) for point in whole}
    now = services.clock.now()
    judged = [
        _trusted(point, recorded[point.point_id], now)
        for point in whole
        if _agrees(point, recorded) and flags[point.point_id]
    ]
    verdicts = list(judged_by(judged, sets))
    doomed = {verdict.point_id for verdict in verdicts if verdict.remove}
    if look_again and (lost or any(verdict.remove or verdict.unassigned for verdict in verdicts)):
        found = find_sets(chain, spoke, services)
        return retain(chain, found, judged_by, spoke, services, releases_bases=releases_bases, only=doomed)
    for point in lost:  # The catalog lost them; they are judged from the next pass on.
        services.catalog.add_point(point)
    in_doubt = [_in_doubt(point_id) for point_id, told in flags.items() if not told]
    done = Retained(recovered=len(lost), problems=in_doubt)
    done.problems += [_not_of_it(point) for point in unlisted if point not in lost]
    for verdict in verdicts:
        point, snapshots = recorded[verdict.point_id], sets[verdict.point_id]
        if _is_edited(point, flags[point.point_id], verdict):
            done.problems.append(_in_doubt(point.point_id))
            verdict = Verdict(point.point_id, False, "its flags were edited", point.flags)
        if not verdict.remove:
            _keep(point, snapshots, verdict, spoke, services)
        elif only is not None and point.point_id not in only:
            log.info("%s is kept until the next pass: it was judged anew meanwhile", point.point_id)
        else:
            if releases_bases:
                _release(snapshots, spoke)
            failed = _remove(point, snapshots, verdict.reason, chain, spoke, services)
            done.removed += not failed
            done.problems += failed
    for snapshots in surplus:
        done.problems += _remove_surplus(snapshots, chain, spoke, services)
    for point_id, snapshots in remains.items():
        done.problems += _settle(recorded.get(point_id), snapshots, chain, spoke, services)
    _forget_gone(recorded.values(), sets, spoke, services)
    done.kept = len(whole) - done.removed
    return done


def needed_points(
    points: Iterable[RestorePoint], sets: Sets, repository: str, chain: Chain, services: Services
) -> Iterator[str]:
    """Points that the next backup compares with: by tag, and by the newest backup in ``repository``."""
    backups = [
        point
        for point in services.catalog.points(chain.instance_id, Kind.BACKUP)
        if point.repository == repository and point.complete
    ]
    needed = set(backups[-1].snapshot_ids.values()) if backups else set()
    for point in points:
        marked = any(names.BASE in one.tags for one in sets[point.point_id])
        if marked or needed & set(point.snapshot_ids.values()):
            yield point.point_id


def points_in_use(sets: Sets, now: datetime) -> set[str]:
    """Points that an image-level backup may be reading."""
    return {point_id for point_id, found in sets.items() if any(names.is_in_use(s.tags, now) for s in found)}


def _sorted(
    sets: Sets, recorded: Mapping[str, RestorePoint], chain: Chain, services: Services
) -> tuple[list[RestorePoint], Sets, list[list[VolumeSnapshot]]]:
    """Whole restore points, what is left of others, and sets that were made beside a whole one.

    Of several whole sets the one that the catalog knows is the restore point; ``sets`` is left with that one.
    """
    whole: list[RestorePoint] = []
    remains: Sets = {}
    surplus: list[list[VolumeSnapshot]] = []
    for point_id, snapshots in sorted(sets.items()):
        known = recorded[point_id].snapshot_ids if point_id in recorded else None
        calls = _calls(snapshots, known, chain)
        found = [(point, made) for made in calls if (point := _read(made, chain, services))]
        if not found:
            remains[point_id] = snapshots
            continue
        point, sets[point_id] = next((one for one in found if one[0].snapshot_ids == known), found[0])
        whole.append(point)
        surplus += [made for made in calls if made != sets[point_id]]
    return whole, remains, surplus


def _calls(
    snapshots: list[VolumeSnapshot], known: Mapping[str, str] | None, chain: Chain
) -> list[list[VolumeSnapshot]]:
    """The snapshots by the call that made them; of copies, each made by its own, what the catalog knows.

    Copies beside that may be what others copied with all its tags: they are left alone.
    """
    recorded = [one for one in snapshots if one.snapshot_id in set((known or {}).values())]
    return [recorded] if chain.kind is Kind.REPLICA and recorded else by_call(snapshots)


def _read(made: list[VolumeSnapshot], chain: Chain, services: Services) -> RestorePoint | None:
    return point_of(
        made,
        installation=services.settings.installation,
        account=chain.account,
        region=chain.region,
        kind=chain.kind,
    )


def _agrees(point: RestorePoint, recorded: Mapping[str, RestorePoint]) -> bool:
    """Whether the catalog knows the point as made by the same policy, of the very same snapshots."""
    known = recorded.get(point.point_id)
    return known is not None and (known.policy, known.snapshot_ids) == (point.policy, point.snapshot_ids)


def _trusted(point: RestorePoint, known: RestorePoint, now: datetime) -> RestorePoint:
    """A point as it is judged: tags alone make it neither temporary nor lapsed, and give or take no flag.

    A flag that somebody added would count against the points that earned theirs.
    """
    until = point.keep_until
    return point.model_copy(
        update={
            "flags": known.flags,
            "temporary": point.temporary and known.temporary,
            "keep_until": until if until and until > now else known.keep_until,
        }
    )


def _release(snapshots: Iterable[VolumeSnapshot], spoke: Spoke) -> None:
    for one in snapshots:
        if names.BASE in one.tags:
            spoke.untag_snapshot(one.snapshot_id, [names.BASE])


def _remove(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    reason: str,
    chain: Chain,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Give a restore point up, then remove its snapshots, then forget it."""
    services.catalog.add_point(point.model_copy(update={"complete": False}))
    problems = remove_snapshots(Doomed(snapshots, reason), chain, spoke, services)
    if not problems:
        services.catalog.remove_point(point)
    log.info("%s: restore point %s removed: %s", chain.instance_id, point.point_id, reason)
    return problems


def _flags(snapshots: list[VolumeSnapshot]) -> set[frozenset[Flag]]:
    """What the tags of a set say about its flags; nothing when one of them cannot be read."""
    told = [names.read_flags(one.tags) for one in snapshots]
    return set() if None in told else {flags for flags in told if flags is not None}


def _is_edited(point: RestorePoint, told: set[frozenset[Flag]], verdict: Verdict) -> bool:
    """Whether the tags differ from the record, and not because taking flags off broke off halfway."""
    reflagged = verdict.unassigned and not verdict.remove
    return told != {point.flags} and not (reflagged and told <= {point.flags, verdict.flags})


def _settle(
    point: RestorePoint | None,
    snapshots: list[VolumeSnapshot],
    chain: Chain,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Remains go when they were given up in an earlier pass; they are given up when nobody needs them."""
    if point is not None:
        return _clear(point, snapshots, chain, spoke, services)
    if _is_abandoned(snapshots, services.clock.now()):
        services.catalog.add_point(_given_up(snapshots, chain))
    return []


def _in_doubt(point_id: str) -> Problem:
    """Flags decide over what is removed: when they cannot be trusted, nothing is."""
    return Problem(
        code="FlagsChanged",
        message=f"The tag {names.FLAGS} of its snapshots is missing or differs from the catalog; it is kept.",
        resource=point_id,
        remedy="Put the tag right, or remove the snapshots by hand when nobody needs them.",
        severity=State.WARNING,
    )


def _not_of_it(point: RestorePoint) -> Problem:
    """A set whose tags contradict each other counts for no instance, and nobody removes it."""
    return Problem(
        code="TagsChanged",
        message=f"Its tags say that {point.session_id or 'no session'} made it of {point.instance_id}; "
        "the id of the restore point says otherwise. It is kept and counts for nothing.",
        resource=point.point_id,
        remedy="Put the tags right, or remove the snapshots by hand when nobody needs them.",
        severity=State.WARNING,
    )


def _remove_surplus(
    snapshots: list[VolumeSnapshot], chain: Chain, spoke: Spoke, services: Services
) -> list[Problem]:
    """Remove a set that was made beside a whole one, once no session can be working on it any more.

    Only a set that one of our calls marked as its own: whatever else carries our tags is left alone.
    """
    marked = all(names.SET in one.tags and names.BASE not in one.tags for one in snapshots)
    if not marked or not _is_abandoned(snapshots, services.clock.now()):
        return []
    return remove_snapshots(Doomed(snapshots, "Another set is this restore point."), chain, spoke, services)


def _keep(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    verdict: Verdict,
    spoke: Spoke,
    services: Services,
) -> None:
    """Write down the flags that are left, on the snapshots first: they are the truth.

    A point that was given up, of which nothing is gone, and that is kept now is whole again.
    """
    if verdict.unassigned:
        for one in snapshots:
            spoke.tag_snapshot(one.snapshot_id, {names.FLAGS: encode_flags(verdict.flags)})
        services.catalog.add_point(point.model_copy(update={"flags": verdict.flags, "complete": True}))
    elif not point.complete:
        services.catalog.add_point(point.model_copy(update={"complete": True}))


def _is_abandoned(snapshots: list[VolumeSnapshot], now: datetime) -> bool:
    """Whether a set that is not whole is too old for any session or backup to be working on it."""
    pending = any(one.state == "pending" or names.is_in_use(one.tags, now) for one in snapshots)
    return not pending and now - max(one.started_at for one in snapshots) > ABANDONED_AFTER


def _given_up(snapshots: list[VolumeSnapshot], chain: Chain) -> RestorePoint:
    """A record of remains: nobody is offered it, and the next pass removes what it names."""
    first = min(snapshots, key=lambda one: one.started_at)
    return RestorePoint(
        point_id=first.tags[names.POINT],
        kind=chain.kind,
        account=chain.account,
        region=chain.region,
        instance_id=chain.instance_id,
        instance_name=chain.instance_name,
        taken_at=first.started_at,
        session_id=first.tags.get(names.SESSION, ""),
        policy=first.tags[names.POLICY],
        snapshot_ids={volume_of(one): one.snapshot_id for one in snapshots},
        complete=False,
    )


def _clear(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    chain: Chain,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Remove the remains of a point that was given up; one damaged by other hands is left alone."""
    if point.complete:
        return [
            Problem(
                code="Incomplete",
                message="Somebody deleted or changed a snapshot of this restore point; the others are kept.",
                resource=point.point_id,
                remedy="Restore single volumes from what is left, or remove it by hand.",
                severity=State.WARNING,
            )
        ]
    problems = remove_snapshots(Doomed(snapshots, "The restore point was given up."), chain, spoke, services)
    if not problems:
        services.catalog.remove_point(point)
    return problems


def _forget_gone(recorded: Iterable[RestorePoint], sets: Sets, spoke: Spoke, services: Services) -> None:
    """Points whose snapshots somebody else deleted leave the catalog."""
    now = services.clock.now()
    for point in recorded:
        if point.point_id in sets or now - point.taken_at < ABANDONED_AFTER:
            continue
        if not spoke.read_snapshots(sorted(point.snapshot_ids.values())):
            log.warning("the snapshots of %s were deleted by somebody else", point.point_id)
            services.catalog.remove_point(point)
