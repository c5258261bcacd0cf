"""Sets of snapshots on their way to another Region or account, step by step.

CopySnapshot has no idempotency token, and a shared snapshot must not stay shared. So what is about to be
asked of AWS is written down first, with a mark by which exactly that call's copy is found again; and whatever
was shared, marked or made for the way is taken back in the end, by this session or a later one
(`clear_remains`). A snapshot with our tags that no call of ours made is neither used nor removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from pydantic import AwareDatetime, Field

from holdfast.errors import HoldfastError, PermanentError, SourceGoneError, ThrottledError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.inventory import Value
from holdfast.model.restore_point import Kind
from holdfast.model.session import Problem, State
from holdfast.operations.coverage.known_accounts import require_known
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.services import OnDemandServices, Services
from holdfast.operations.snapshot_sets import SETTLES_IN, TAG_LIMIT, USABLE, copied
from holdfast.operations.steps import problem_of
from holdfast.ports import SnapshotCopier, Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

_TRANSFERS = f"{names.TRANSFER}/"
WORK = "copies"
"""The session whose parts say what is on its way."""
DEAD_AFTER = timedelta(hours=24)
"""After its beginning; no session works on a copy for that long."""


class Place(Value):
    """An account and Region, and the name of the role that is assumed there (empty: the account's first)."""

    account: str
    region: str
    role: str = ""


class Work(Value):
    """What is copied where, and how far that is. Volume ids lead to snapshots, keys and times.

    ``keys``: of the copies; without one a copy is encrypted as its source is. ``transfer_keys``: of volumes
    whose snapshots another account may only have under another key. ``inherit``: copies carry the tags that
    their sources have besides ours. ``tried`` holds when a copy was asked for last, ``calls`` the marks of
    all calls for it, ``shared`` what the target account may read for now. ``given_up``: the session that
    began it does not work on it any more.
    """

    point_id: str
    instance_id: str
    session_id: str = WORK
    policy: str = ""
    source: Place
    target: Place
    snapshots: dict[str, str] = Field(min_length=1)
    keys: dict[str, str] = Field(default_factory=dict)
    transfer_keys: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    inherit: bool = False
    begun_at: AwareDatetime
    queued_since: AwareDatetime | None = None
    tried: dict[str, AwareDatetime] = Field(default_factory=dict)
    calls: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    shared: tuple[str, ...] = ()
    given_up: bool = False

    @property
    def part(self) -> str:
        return part_of(self.instance_id, self.point_id)

    @property
    def crosses(self) -> bool:
        """Whether the copy belongs to another account."""
        return self.source.account != self.target.account

    @property
    def transfer_point(self) -> str:
        """What copies under a transfer key carry instead of a restore point: they are none."""
        return f"{self.point_id}-{names.TRANSFER}"

    def is_dead(self, now: datetime) -> bool:
        """Whether no session can be working on it any more."""
        return now - self.begun_at > DEAD_AFTER


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose snapshots are removed, for `removal`."""

    session_id: str
    account: str
    region: str
    instance_id: str
    policy: str
    point_id: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a set is: its copies by volume, and how many volumes wait for a place in the queue of AWS."""

    done: bool
    copies: Mapping[str, VolumeSnapshot] = field(default_factory=dict)
    surplus: Sequence[VolumeSnapshot] = ()
    queued: int = 0


def part_of(instance_id: str, point_id: str = "") -> str:
    """The part that holds the work on a restore point, or the prefix of all of an instance."""
    return f"work/{instance_id}/{point_id}"


def read_work(instance_id: str, point_id: str, services: OnDemandServices) -> Work | None:
    """The work on a restore point, as it was last written down."""
    body = services.catalog.read_part(WORK, part_of(instance_id, point_id))
    return Work.model_validate(body) if body else None


def works_of(instance_id: str, services: Services) -> Iterator[Work]:
    """Everything that is on its way, or was left there, of one instance (empty: of all)."""
    prefix = part_of(instance_id) if instance_id else "work/"
    for _, body in list(services.catalog.parts(WORK, prefix)):
        yield Work.model_validate(body)


def write_work(work: Work, services: OnDemandServices) -> Work:
    """Write down how far it is; returns ``work``."""
    services.catalog.write_part(WORK, work.part, work.model_dump(mode="json"), at=services.clock.now())
    return work


def advance(work: Work, services: OnDemandServices) -> tuple[Work, Progress]:
    """Start what is missing, as far as AWS takes it now, and look at what is under way.

    Raises SourceGoneError, PermanentError (a source or copy ended in error, or cannot be shared),
    AccessDeniedError, KeyUnavailableError, UnavailableError, ConfigurationError (a strange account).
    """
    if work.crosses:
        require_known(work.target.account, services)
    there = services.spoke_in(work.target.account, work.target.region, work.target.role)
    wanted = {
        names.INSTALLATION: services.settings.installation,
        names.POINT: work.point_id,
        names.INSTANCE: work.instance_id,
        names.KIND: Kind.REPLICA.value,
    }
    copies, surplus = _usable(there.find_snapshots(wanted), work, "", there, services)
    missing = sorted(work.snapshots.keys() - copies.keys())
    queued = 0
    if missing:
        work, queued = _start(work, missing, services)
    done = not missing and all(one.state == "completed" for one in copies.values())
    return work, Progress(done, copies, surplus, queued)


def finish(work: Work, progress: Progress, services: OnDemandServices) -> list[Problem]:
    """Take back what was shared, marked and made for the way; what cannot be is told, and tried again."""
    problems = _take_back(work, services)
    if progress.surplus and work.policy:
        there = services.spoke_in(work.target.account, work.target.region, work.target.role)
        reason = "Another copy is the restore point."
        problems += remove_snapshots(
            Doomed(progress.surplus, reason), _subject(work, work.target), there, services
        )
    if problems:
        write_work(work.model_copy(update={"given_up": True}), services)
    else:
        services.catalog.remove_part(WORK, work.part)
    return problems


def give_up(work: Work, services: OnDemandServices) -> list[Problem]:
    """The same after a failure. Copies stay for a retry, and so does when they were asked for."""
    problems = _take_back(work, services)
    left = () if not problems else work.shared
    write_work(work.model_copy(update={"given_up": True, "queued_since": None, "shared": left}), services)
    return problems


def clear_remains(
    instance_id: str, services: OnDemandServices, *, but: str = "", source: Place | None = None
) -> list[Problem]:
    """Take back what sessions left that crashed: known by what they wrote down, and by tags.

    ``but`` is the restore point that the caller works on itself; ``source`` the place in which to look for
    copies under a transfer key that nobody wrote down.
    """
    now, problems, live = services.clock.now(), list[Problem](), {but}
    for work in works_of(instance_id, services):
        if work.point_id == but or not work.is_dead(now):
            live.add(work.point_id)
            continue
        left = _take_back(work, services)
        problems += left
        if not left:
            services.catalog.remove_part(WORK, work.part)
    if source is not None:
        problems += _remove_lost(instance_id, source, live, services)
    return problems


def _remove_lost(
    instance_id: str, source: Place, live: set[str], services: OnDemandServices
) -> list[Problem]:
    here, now = services.spoke_in(source.account, source.region, source.role), services.clock.now()
    wanted = {
        names.INSTALLATION: services.settings.installation,
        names.INSTANCE: instance_id,
        names.KIND: names.TRANSFER,
    }
    kept = {f"{point_id}-{names.TRANSFER}" for point_id in live}
    lost = [
        one
        for one in here.find_snapshots(wanted)
        if one.tags.get(names.POINT) not in kept and now - one.started_at > DEAD_AFTER
    ]
    problems = []
    for policy, found in groupby(sorted(lost, key=_policy_of), _policy_of):
        subject = Subject(WORK, source.account, source.region, instance_id, policy, "")
        problems += remove_snapshots(
            Doomed(list(found), "A crashed session left it."), subject, here, services
        )
    return problems


def _policy_of(snapshot: VolumeSnapshot) -> str:
    return snapshot.tags.get(names.POLICY, "")


def _volume_of(copy: VolumeSnapshot) -> str:
    """The volume that a copy goes back to; EC2 does not tell it, our tag does."""
    return copy.tags.get(names.VOLUME, "")


def _subject(work: Work, place: Place) -> Subject:
    return Subject(work.session_id, place.account, place.region, work.instance_id, work.policy, work.point_id)


def _usable(
    found: Iterable[VolumeSnapshot], work: Work, way: str, spoke: Spoke, services: OnDemandServices
) -> tuple[dict[str, VolumeSnapshot], list[VolumeSnapshot]]:
    """One copy of each volume (a completed one before others), and what other calls made beside it.

    ``way`` is the prefix of names in ``tried``. What ended in error is removed, so that a retry copies anew.
    Raises PermanentError for it.
    """
    place = work.source if way else work.target
    made: dict[str, VolumeSnapshot] = {}
    for one in sorted(found, key=lambda one: (one.started_at, one.snapshot_id)):
        call = one.tags.get(names.CALL, "")
        if call in work.calls.get(
            way + _volume_of(one), ()
        ):  # The first one: others may copy it, tags and all.
            made.setdefault(call, one)
    ours = sorted(made.values(), key=lambda one: (_volume_of(one), one.state != "completed", one.started_at))
    broken = [one for one in ours if one.state not in USABLE]
    if broken:
        if work.policy:
            remove_snapshots(Doomed(broken, "EBS could not copy it."), _subject(work, place), spoke, services)
        raise _failed(broken[0], f"copy of the snapshot of {_volume_of(broken[0])}")
    chosen: dict[str, VolumeSnapshot] = {}
    surplus = [one for one in ours if chosen.setdefault(_volume_of(one), one) is not one]
    return chosen, surplus


def _failed(snapshot: VolumeSnapshot, what: str) -> PermanentError:
    return PermanentError(
        f"The {what} ended in error: {snapshot.reason or 'EBS gave no reason'}.",
        resource=snapshot.snapshot_id,
        remedy="Check the KMS keys of the source and the copy, and the roles' permissions on them.",
    )


def _sources(work: Work, here: Spoke) -> dict[str, VolumeSnapshot] | None:
    """The snapshots to copy by volume; None while one is pending. Raises SourceGoneError, PermanentError."""
    seen = {one.snapshot_id: one for one in here.read_snapshots(sorted(work.snapshots.values()))}
    for volume_id, snapshot_id in sorted(work.snapshots.items()):
        if snapshot_id not in seen:
            raise SourceGoneError(
                f"The snapshot of {volume_id} was deleted.",
                resource=snapshot_id,
                remedy="Take a new snapshot.",
            )
        if seen[snapshot_id].state not in USABLE:
            raise _failed(seen[snapshot_id], f"snapshot of {volume_id}")
    if any(one.state != "completed" for one in seen.values()):
        return None
    return {volume_id: seen[snapshot_id] for volume_id, snapshot_id in work.snapshots.items()}


def _start(work: Work, missing: Sequence[str], services: OnDemandServices) -> tuple[Work, int]:
    """Start copies of these volumes; returns how many have to wait because too many copies are under way."""
    here = services.spoke_in(work.source.account, work.source.region, work.source.role)
    sources = _sources(work, here)
    if sources is None:
        return work, 0
    for volume_id in missing:
        _mark(sources[volume_id], work, here)
    lender = services.snapshot_copier(work.source.account, work.source.region, work.source.role)
    writer = services.snapshot_copier(work.target.account, work.target.region, work.target.role)
    transfers = _transfers(work, here, services)
    for place, volume_id in enumerate(missing):
        origin: VolumeSnapshot | None = sources[volume_id]
        try:
            if volume_id in work.transfer_keys:
                work, origin = _transferred(work, volume_id, sources[volume_id], transfers, lender, services)
            if origin is None or _is_settling(work, volume_id, services):
                continue
            work = _share(work, origin.snapshot_id, lender, services)
            tags = _tags(work, volume_id, sources[volume_id], services)
            work = _copy(work, volume_id, origin, writer, work.keys.get(volume_id, ""), tags, services)
        except ThrottledError:
            return _queue(work, len(missing) - place, services)
    if work.queued_since is not None:
        work = write_work(work.model_copy(update={"queued_since": None}), services)
    return work, 0


def _mark(source: VolumeSnapshot, work: Work, here: Spoke) -> None:
    """Retention of another session leaves a marked snapshot alone; one with 50 tags has no room for it."""
    if names.COPYING in source.tags:
        return
    try:
        here.tag_snapshot(source.snapshot_id, {names.COPYING: names.slot_tag(work.begun_at)})
    except PermanentError as error:
        log.warning("%s is copied without a mark: %s", source.snapshot_id, error)


def _share(work: Work, snapshot_id: str, lender: SnapshotCopier, services: OnDemandServices) -> Work:
    """Let the target account read a snapshot, when it is another one; that it may is written down before."""
    if not work.crosses:
        return work
    if snapshot_id not in work.shared:
        work = write_work(work.model_copy(update={"shared": (*work.shared, snapshot_id)}), services)
    lender.share(snapshot_id, work.target.account)
    return work


def _queue(work: Work, count: int, services: OnDemandServices) -> tuple[Work, int]:
    """So many volumes wait until AWS takes more copies into the Region."""
    since = work.queued_since or services.clock.now()
    log.info(
        "%s: %d copies wait for a place in %s since %s", work.instance_id, count, work.target.region, since
    )
    return write_work(work.model_copy(update={"queued_since": since}), services), count


def _is_settling(work: Work, name: str, services: OnDemandServices) -> bool:
    """Whether a call that was made may still show what it made."""
    tried = work.tried.get(name)
    return tried is not None and services.clock.now() - tried < SETTLES_IN


def _copy(
    work: Work,
    name: str,
    origin: VolumeSnapshot,
    writer: SnapshotCopier,
    key: str,
    tags: Mapping[str, str],
    services: OnDemandServices,
) -> Work:
    """Ask for one copy, once: the intent is written before, and taken back only when AWS refused."""
    call = services.ids.random_bytes(8).hex()
    intent = {
        "tried": {**work.tried, name: services.clock.now()},
        "calls": {**work.calls, name: (*work.calls.get(name, ()), call)},
    }
    asked = write_work(work.model_copy(update=intent), services)
    try:
        made = writer.copy(
            origin.snapshot_id,
            work.source.region,
            encrypted=origin.encrypted,
            kms_key_arn=key,
            description=f"Copy of {origin.snapshot_id} ({work.instance_id})",
            tags={**tags, names.CALL: call},
        )
    except UnavailableError:
        raise  # Nobody knows whether it was made: what it made shows, or the call is repeated later.
    except HoldfastError:
        write_work(work, services)
        raise
    log.info("%s: %s is copied as %s", work.instance_id, origin.snapshot_id, made)
    return asked


def _tags(work: Work, volume_id: str, source: VolumeSnapshot, services: OnDemandServices) -> dict[str, str]:
    """The tags of a copy; ours win, and the source's own fill what room is left."""
    device = source.tags.get(names.DEVICE)
    own = {
        **work.tags,
        **({names.DEVICE: device} if work.inherit and device is not None else {}),
        names.INSTALLATION: services.settings.installation,
        names.POINT: work.point_id,
        names.INSTANCE: work.instance_id,
        names.KIND: Kind.REPLICA.value,
        names.VOLUME: volume_id,
        names.VOLUMES: str(len(work.snapshots)),
        names.SOURCE: f"{work.source.account}/{work.source.region}/{source.snapshot_id}",
    }
    inherited = copied(source.tags) if work.inherit else {}
    room = [(key, value) for key, value in sorted(inherited.items()) if key not in own]
    return {**own, **dict(room[: max(0, TAG_LIMIT - len(own) - 1)])}


def _transfers(work: Work, here: Spoke, services: OnDemandServices) -> dict[str, VolumeSnapshot]:
    """The copies under a transfer key that there are, by volume. Raises PermanentError for a broken one."""
    if not work.transfer_keys:
        return {}
    found = here.find_snapshots(_transfer_marks(work, services))
    return _usable(found, work, _TRANSFERS, here, services)[0]


def _transfer_marks(work: Work, services: OnDemandServices) -> dict[str, str]:
    return {
        names.INSTALLATION: services.settings.installation,
        names.POLICY: work.policy,
        names.POINT: work.transfer_point,
        names.INSTANCE: work.instance_id,
        names.KIND: names.TRANSFER,
    }


def _transferred(
    work: Work,
    volume_id: str,
    source: VolumeSnapshot,
    found: Mapping[str, VolumeSnapshot],
    lender: SnapshotCopier,
    services: OnDemandServices,
) -> tuple[Work, VolumeSnapshot | None]:
    """The completed copy under the transfer key; None while it is being made."""
    name = _TRANSFERS + volume_id
    if volume_id not in found and not _is_settling(work, name, services):
        tags = {
            "Name": "Temporary copy on its way to another account",
            **_transfer_marks(work, services),
            names.VOLUME: volume_id,
        }
        work = _copy(work, name, source, lender, work.transfer_keys[volume_id], tags, services)
    made = found.get(volume_id)
    return work, made if made is not None and made.state == "completed" else None


def _take_back(work: Work, services: OnDemandServices) -> list[Problem]:
    """Unshare, remove copies under a transfer key, take marks off; one failure does not stop the rest."""
    problems: list[Problem] = []
    try:
        here = services.spoke_in(work.source.account, work.source.region, work.source.role)
        lender = services.snapshot_copier(work.source.account, work.source.region, work.source.role)
        for snapshot_id in work.shared:
            lender.unshare(snapshot_id, work.target.account)
        if work.transfer_keys:
            made = here.find_snapshots(_transfer_marks(work, services))
            subject = _subject(work, work.source)
            problems += remove_snapshots(
                Doomed(made, "Its copy is done or given up."), subject, here, services
            )
        for one in here.read_snapshots(sorted(work.snapshots.values())):
            if names.COPYING in one.tags:
                here.untag_snapshot(one.snapshot_id, [names.COPYING])
    except HoldfastError as error:
        log.warning("%s: what its copy needed could not be taken back: %s", work.instance_id, error)
        problems.append(problem_of(error, resource=work.instance_id, severity=State.WARNING))
    return problems
