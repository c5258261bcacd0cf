"""One crash-consistent set of snapshots of an instance, once per restore point.

CreateSnapshots has no idempotency token. What makes a repeated step harmless is: the intent is written before
the call, the set is found by the restore point's tags, and while an unanswered call may still show up nothing
new is made. A quota (5 calls a second, 100 pending snapshots) is no failure: it is waited for, as a state.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from holdfast.errors import (
    ConfigurationError,
    HoldfastError,
    PermanentError,
    SourceGoneError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy
from holdfast.model.inventory import InstanceConfiguration
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.services import Services
from holdfast.operations.sessions.flags import flags_due
from holdfast.operations.sessions.stop_marks import require_running
from holdfast.operations.snapshot_sets import (
    SETTLES_IN,
    can_copy_in_call,
    identity,
    promised_count,
    set_tags,
    sort_out,
    volume_tags,
)
from holdfast.operations.steps import InstanceStep, find_policy
from holdfast.planning.selection import ExcludedVolume, excluded_volumes
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

QUOTA_WAIT = 60
"""Seconds between two tries for a place under the quota of pending snapshots."""
PATIENCE = timedelta(hours=20)
"""After the slot; by then the session is about to be given up."""


class TakeSnapshots(InstanceStep):
    """An instance's event."""


def take_snapshots(request: TakeSnapshots, services: Services) -> dict[str, Any]:
    """The snapshots of the restore point, made now or by an earlier try; or how long to wait for a quota.

    Raises SourceGoneError, AccessDeniedError, KeyUnavailableError, StoppedError.
    """
    try:
        return {"waiting": False, **_take(request, services)}
    except ThrottledError as error:
        if services.clock.now() - request.slot > PATIENCE:
            raise PermanentError(
                f"No place under the account's quotas since the session began: {error.message}",
                resource=request.account,
                remedy="Raise the quota of pending snapshots, or spread the policy over more hours.",
            ) from error
        return {"waiting": True, "wait_seconds": QUOTA_WAIT}


def _take(request: TakeSnapshots, services: Services) -> dict[str, Any]:
    policy = find_policy(services.configuration, request.policy)
    spoke = services.spoke(request.policy, request.account, request.region)
    made = spoke.find_snapshots(identity(services.settings.installation, request))
    found = sort_out(made, request.slot)
    now = services.clock.now()
    if found.missing and now - min(one.started_at for one in found.usable) < SETTLES_IN:
        raise UnavailableError(
            "The set of snapshots is not visible as a whole yet.", resource=request.instance_id
        )
    usable = () if found.missing else found.usable
    doomed = (*found.broken, *(found.usable if found.missing else ()))
    left = remove_snapshots(
        Doomed(doomed, "They can never be a whole restore point."), request, spoke, services
    )
    captured = _captured(request, services)
    if not usable:
        if captured and now - captured[1] < SETTLES_IN:
            raise UnavailableError(
                "A call to take snapshots got no answer; whether it made some shows in a moment.",
                resource=request.instance_id,
            )
        captured = None
    if captured is None:
        if not usable:
            what = "no snapshot of this instance was taken."
            require_running(request.session_id, services.catalog, what, resource=request.instance_id)
        configuration = _capture(request, spoke, services)
        usable = usable or tuple(_create(request, policy, configuration, spoke, services))
    else:
        configuration = captured[0]
    try:
        _tag_each(usable, policy, configuration, spoke)
    except SourceGoneError as error:
        if now - min(one.started_at for one in usable) > SETTLES_IN:
            raise
        raise UnavailableError(
            "The new snapshots are not to be seen everywhere yet.", resource=request.instance_id
        ) from error
    warnings = [f"Remains of an earlier try are still there: {one.resource}: {one.message}" for one in left]
    return _answer(request, usable, configuration, policy, warnings)


def _captured(request: InstanceStep, services: Services) -> tuple[InstanceConfiguration, datetime] | None:
    """The configuration that an earlier try wrote down before it asked for snapshots, and when."""
    part = services.catalog.read_part(request.session_id, request.capture_part)
    if part is None:
        return None
    return (
        InstanceConfiguration.model_validate(part["configuration"]),
        datetime.fromisoformat(part["requested_at"]),
    )


def _capture(request: InstanceStep, spoke: Spoke, services: Services) -> InstanceConfiguration:
    """Read the instance's configuration now and write it down, with the intent to take snapshots."""
    configuration = spoke.configuration(request.instance_id)
    now = services.clock.now()
    services.catalog.write_part(
        request.session_id,
        request.capture_part,
        {"configuration": configuration.model_dump(mode="json"), "requested_at": now.isoformat()},
        at=now,
    )
    return configuration


def _create(
    request: InstanceStep,
    policy: AnyPolicy,
    configuration: InstanceConfiguration,
    spoke: Spoke,
    services: Services,
) -> Sequence[VolumeSnapshot]:
    instance = configuration.instance
    left_out = {one.volume_id for one in _left_out(policy, configuration)}
    kept = [volume for volume in instance.volumes if volume.volume_id not in left_out]
    if not kept:
        raise ConfigurationError(
            "The instance has no volume to take a snapshot of: it has none, or all are excluded.",
            resource=request.instance_id,
            remedy="Exclude the instance, or fewer of its volumes, in the policy.",
        )
    set_id = services.ids.random_bytes(8).hex()
    flags = flags_due(request, Kind.SNAPSHOT, services)
    tags = set_tags(services.settings.installation, request, policy, flags, len(kept), set_id)
    if len(kept) == 1:
        tags |= volume_tags(kept[0], copy=False)
    try:
        made = spoke.create_snapshots(
            request.instance_id,
            exclude_root=any(volume.root and volume.volume_id in left_out for volume in instance.volumes),
            exclude_volumes=[
                volume.volume_id
                for volume in instance.volumes
                if volume.volume_id in left_out and not volume.root
            ],
            tags=tags,
            copy_tags=policy.tags.copy_from_volumes and can_copy_in_call(kept, len(tags)),
            description=f"Holdfast: {policy.name}, {request.slot:%Y-%m-%d %H:%M} UTC",
        )
    except UnavailableError:
        raise  # Nobody knows whether they were made: the intent stays, the next try waits for them to show.
    except HoldfastError as error:
        services.catalog.remove_part(request.session_id, request.capture_part)
        raise _reconsidered(error, request, spoke) from error
    log.info("%s: %d snapshots for %s", request.instance_id, len(made), request.point_id)
    return made


def _reconsidered(error: HoldfastError, request: InstanceStep, spoke: Spoke) -> HoldfastError:
    """A volume that went away between describing and asking is no failure while the instance is there."""
    if isinstance(error, TransientError) or not isinstance(error, SourceGoneError):
        return error
    if any(one.instance_id == request.instance_id for one in spoke.instances([request.instance_id])):
        return UnavailableError(
            f"The instance's volumes changed while snapshots were taken: {error.message}",
            resource=request.instance_id,
            remedy="It is tried again with the volumes that the instance has now.",
        )
    return error


def _left_out(policy: AnyPolicy, configuration: InstanceConfiguration) -> tuple[ExcludedVolume, ...]:
    return excluded_volumes(policy.exclude_volumes, configuration.instance)


def _tag_each(
    snapshots: Sequence[VolumeSnapshot],
    policy: AnyPolicy,
    configuration: InstanceConfiguration,
    spoke: Spoke,
) -> None:
    """What differs from volume to volume cannot be said in the one call that makes them all.

    Nor can the true number of snapshots, when a volume is attached or detached just before that call.
    """
    volumes = {volume.volume_id: volume for volume in configuration.instance.volumes}
    for one in snapshots:
        volume = volumes.get(one.volume_id)
        wanted = volume_tags(volume, copy=policy.tags.copy_from_volumes) if volume else {}
        missing = {key: value for key, value in wanted.items() if key not in one.tags}
        if promised_count(one) != len(snapshots):
            spoke.tag_snapshot(one.snapshot_id, {names.VOLUMES: str(len(snapshots))})
        room = dict(list(missing.items())[-max(0, 50 - len(one.tags)) :])
        if room:
            spoke.tag_snapshot(one.snapshot_id, room)


def _answer(
    request: InstanceStep,
    snapshots: Sequence[VolumeSnapshot],
    configuration: InstanceConfiguration,
    policy: AnyPolicy,
    warnings: Sequence[str],
) -> dict[str, Any]:
    devices = {volume.volume_id: volume.device for volume in configuration.instance.volumes}
    left_out = {one.volume_id for one in _left_out(policy, configuration)}
    new = sorted({one.volume_id for one in snapshots} - devices.keys())
    gone = sorted(devices.keys() - left_out - {one.volume_id for one in snapshots})
    return {
        "point_id": request.point_id,
        "taken_at": min(one.started_at for one in snapshots).isoformat(),
        "snapshots": [
            {
                "volume_id": one.volume_id,
                "snapshot_id": one.snapshot_id,
                "device": devices.get(one.volume_id, ""),
                "size_bytes": one.size_bytes,
            }
            for one in snapshots
        ],
        "warnings": [
            *warnings,
            *(f"{one} was attached while the snapshots were taken; its device is not known." for one in new),
            *(
                f"{volume_id} was detached while the snapshots were taken; it is not in the restore point."
                for volume_id in gone
            ),
        ],
    }
