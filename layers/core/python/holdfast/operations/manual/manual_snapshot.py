"""A cloud-native snapshot that a person asks for, outside every policy and its retention.

It belongs to no chain: no policy's retention sees it (its tags name no policy), and it goes only when its own
days are over (`expire_manual_snapshots`), or by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from holdfast.errors import ConfigurationError, ConflictError, HoldfastError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.ids import point_id, stamp
from holdfast.model.inventory import InstanceConfiguration, Value
from holdfast.model.restore import InstanceId, KeyArn, OperatorTags, Region
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.coverage.known_accounts import require_known
from holdfast.operations.machines import machine_arn
from holdfast.operations.snapshot_sets import sort_out, volume_tags

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import Spoke, VolumeSnapshot

SESSION: Final = "manual-snapshots"
"""The session whose parts remember requests and when snapshots are due to go."""

SETTLES_IN: Final = timedelta(minutes=2)
"""How long a call without an answer may take to show in DescribeSnapshots (EC2 is eventually consistent)."""


class CopyTo(Value):
    """Where to copy a manual snapshot; empty account or Region: the source's own."""

    region: Region | str = Field("", pattern=r"^[a-z0-9-]*$")
    account: str = Field("", pattern=r"^(\d{12})?$")
    role: str = ""
    kms_key_arn: KeyArn = ""


class ManualSnapshot(Value):
    """What the operator asks for. ``request_id`` makes a repeated call take one snapshot."""

    instance_id: InstanceId
    region: Region
    account: str = Field("", pattern=r"^(\d{12})?$")
    role: str = ""
    keep_days: int | None = Field(None, ge=1, le=36135)
    tags: OperatorTags = Field(default_factory=dict, max_length=30)
    copy_to: CopyTo | None = None
    request_id: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$")

    @property
    def part(self) -> str:
        """The part that remembers this request."""
        return f"request/{self.instance_id}/{self.request_id}"

    @property
    def fingerprint(self) -> str:
        """Differs when anything that was asked for differs."""
        asked = self.model_dump(mode="json", exclude={"request_id"})
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with what is known of it: ``at`` is when it was made first."""

    request: ManualSnapshot
    account: str
    point_id: str
    at: datetime
    repeated: bool

    @property
    def keep_until(self) -> datetime | None:
        return self.at + timedelta(days=self.request.keep_days) if self.request.keep_days else None

    @property
    def own_tags(self) -> dict[str, str]:
        """The operator's tags, and until when the snapshot is kept."""
        kept = {names.KEEP_UNTIL: stamp(self.keep_until)} if self.keep_until else {}
        return {**self.request.tags, **kept}

    def marks(self, installation: str) -> dict[str, str]:
        """The tags by which a repeated call finds what an earlier one made."""
        return {
            names.INSTALLATION: installation,
            names.POINT: self.point_id,
            names.INSTANCE: self.request.instance_id,
        }


def account_of(request: ManualSnapshot, services: OnDemandServices) -> str:
    """The account the instance lives in: named, its role's, or known from earlier restore points.

    Raises ConfigurationError when none of these tells.
    """
    if request.account:
        return request.account
    roles = [role for role in services.configuration.roles if request.role in ("", role.name)]
    if len({role.account for role in roles}) == 1:
        return roles[0].account
    known = {point.account for point in services.catalog.points(request.instance_id)}
    if len(known) == 1:
        return known.pop()
    raise ConfigurationError(
        "The account of the instance is not known.",
        resource=request.instance_id,
        remedy="Give `account`, or the name of a `role`.",
    )


def take_manual_snapshot(request: ManualSnapshot, services: OnDemandServices) -> Mapping[str, Any]:
    """Take the snapshots of one instance at one moment, and start what waits for them and copies them.

    The restore point is recorded as incomplete: ``execution`` tells when it is complete, and why it is not.
    Raises SourceGoneError, AccessDeniedError, KeyUnavailableError, ConfigurationError, ThrottledError,
    ConflictError for a request id that was used for something else, UnavailableError while an earlier call
    may still be at work.
    """
    account = account_of(request, services)
    target = _target(request, account) if request.copy_to else None
    if target and target.account != account:
        require_known(target.account, services)
    spoke = services.spoke_in(account, request.region, request.role)
    asked = _ask(request, account, services)
    made = _found(asked, spoke, services)
    configuration = spoke.configuration(request.instance_id)
    if not made:
        made = _create(asked, configuration, spoke, services)
    volumes = {volume.volume_id: volume for volume in configuration.instance.volumes}
    for one in made:
        own = volume_tags(volumes[one.volume_id], copy=False) if one.volume_id in volumes else {}
        wanted = {**own, names.VOLUMES: str(len(made))}
        if not wanted.items() <= dict(one.tags).items():
            spoke.tag_snapshot(one.snapshot_id, wanted)
    _record(asked, made, configuration, services)
    execution = _follow(asked, target, made, configuration, services)
    gone = sorted(volumes.keys() - {one.volume_id for one in made})
    return {
        "point_id": asked.point_id,
        "snapshots": {one.volume_id: one.snapshot_id for one in made},
        "copying": target is not None,
        "state": "pending",
        "execution": execution,
        "follow": f"aws stepfunctions describe-execution --region {services.settings.hub_region} "
        f"--execution-arn {execution}",
        "warnings": [f"{one} is not in the snapshot: it was attached or detached meanwhile." for one in gone],
    }


def _ask(request: ManualSnapshot, account: str, services: OnDemandServices) -> Asked:
    """Write the request down, or find it where an earlier call wrote it. Raises ConflictError."""
    now = services.clock.now()
    if not request.request_id:
        seed = services.ids.random_bytes(16).hex()
        return Asked(request, account, _point_id(seed, request, now), now, repeated=False)
    body = {"at": now.isoformat(), "tried_at": now.isoformat(), "fingerprint": request.fingerprint}
    first = services.catalog.write_part(SESSION, request.part, body, at=now, new=True)
    if not first:
        body = services.catalog.read_part(SESSION, request.part) or body
        if body["fingerprint"] != request.fingerprint:
            raise ConflictError(
                "The request id was used for another request.",
                resource=request.request_id,
                remedy="Use a new request id.",
            )
    at = datetime.fromisoformat(body["at"])
    return Asked(request, account, _point_id(request.request_id, request, at), at, repeated=not first)


def _point_id(seed: str, request: ManualSnapshot, at: datetime) -> str:
    return f"{stamp(at)}-{point_id(seed, request.instance_id)[-12:]}"


def _found(asked: Asked, spoke: Spoke, services: OnDemandServices) -> Sequence[VolumeSnapshot]:
    """What an earlier call made. Raises UnavailableError while that may not show yet."""
    if not asked.repeated:
        return ()
    found = sort_out(spoke.find_snapshots(asked.marks(services.settings.installation)))
    body = services.catalog.read_part(SESSION, asked.request.part) or {}
    tried_at = datetime.fromisoformat(body.get("tried_at", asked.at.isoformat()))
    if (found.missing or not found.usable) and services.clock.now() - tried_at < SETTLES_IN:
        raise UnavailableError(
            "An earlier call with this request id may still be at work.",
            resource=asked.request.instance_id,
            remedy="Call again in two minutes.",
        )
    return found.usable


def _create(
    asked: Asked, configuration: InstanceConfiguration, spoke: Spoke, services: OnDemandServices
) -> Sequence[VolumeSnapshot]:
    request, instance = asked.request, configuration.instance
    if not instance.volumes:
        raise ConfigurationError("The instance has no volume.", resource=request.instance_id)
    if asked.repeated:
        services.catalog.write_part(
            SESSION,
            request.part,
            {
                "at": asked.at.isoformat(),
                "tried_at": services.clock.now().isoformat(),
                "fingerprint": request.fingerprint,
            },
            at=services.clock.now(),
        )
    tags = {
        "Name": f"{instance.name or request.instance_id} manual"[:256],
        **asked.own_tags,
        **asked.marks(services.settings.installation),
        names.KIND: "manual",
        names.VOLUMES: str(len(instance.volumes)),
        names.SET: services.ids.random_bytes(8).hex(),
    }
    try:
        return spoke.create_snapshots(
            request.instance_id,
            exclude_root=False,
            exclude_volumes=(),
            tags=tags,
            copy_tags=False,
            description=f"Holdfast: manual snapshot, {asked.at:%Y-%m-%d %H:%M} UTC",
        )
    except UnavailableError:
        raise  # Nobody knows whether they were made: the request stays written down.
    except HoldfastError:
        if request.request_id:
            services.catalog.remove_part(SESSION, request.part)
        raise


def _record(
    asked: Asked,
    made: Sequence[VolumeSnapshot],
    configuration: InstanceConfiguration,
    services: OnDemandServices,
) -> None:
    request = asked.request
    held = {one.volume_id: one.snapshot_id for one in made}
    point = RestorePoint(
        point_id=asked.point_id,
        kind=Kind.SNAPSHOT,
        account=asked.account,
        region=request.region,
        instance_id=request.instance_id,
        instance_name=configuration.instance.name,
        taken_at=min(one.started_at for one in made),
        manual=True,
        keep_until=asked.keep_until,
        snapshot_ids=held,
        size_bytes=sum(one.size_bytes for one in made),
        complete=any(
            one.point_id == asked.point_id and one.snapshot_ids == held and one.complete
            for one in services.catalog.points(request.instance_id, Kind.SNAPSHOT)
        ),
    )
    services.catalog.add_point(point, configuration)
    remember_expiry(point, request.role, services)


def remember_expiry(point: RestorePoint, role: str, services: OnDemandServices) -> None:
    """Note when a manual snapshot, or the copy of one, is due to go; the notes sort by that time."""
    if point.keep_until is None:
        return
    services.catalog.write_part(
        SESSION,
        f"expiry/{stamp(point.keep_until)}/{point.point_id}/{point.account}/{point.region}",
        {"point": point.model_dump(mode="json"), "role": role},
        at=point.keep_until,
    )


def _target(request: ManualSnapshot, account: str) -> CopyTo:
    """Where the copy goes, complete. Raises ConfigurationError when that is where the snapshot is."""
    wanted = request.copy_to or CopyTo()
    target = wanted.model_copy(
        update={"account": wanted.account or account, "region": wanted.region or request.region}
    )
    if (target.account, target.region) == (account, request.region):
        raise ConfigurationError(
            "The snapshot would be copied to where it is.",
            resource=request.instance_id,
            remedy="Name another Region or account under `copy_to`.",
        )
    return target


def _follow(
    asked: Asked,
    target: CopyTo | None,
    made: Sequence[VolumeSnapshot],
    configuration: InstanceConfiguration,
    services: OnDemandServices,
) -> str:
    """Start the machine that waits until the snapshots are complete, once; returns the execution's ARN."""
    machine = machine_arn("manual_snapshot", services)
    services.executions(services.settings.hub_region).start(
        machine,
        asked.point_id,
        {
            "point_id": asked.point_id,
            "instance_id": asked.request.instance_id,
            "instance_name": configuration.instance.name,
            "account": asked.account,
            "region": asked.request.region,
            "role": asked.request.role,
            "snapshots": {one.volume_id: one.snapshot_id for one in made},
            "target": target.model_dump() if target else None,
            "tags": asked.own_tags,
        },
    )
    return f"{machine.replace(':stateMachine:', ':execution:')}:{asked.point_id}"
