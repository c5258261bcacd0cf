"""What a changed configuration would do, before it is deployed.

Instances that gain or lose protection, and restore points that retention would remove under the new
configuration and not under the old one. A change that removes points needs a person's word; nothing here
removes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.cost import USUAL, Assumptions, Load, estimate, load
from holdfast.planning.ownership import owner_of
from holdfast.planning.protection import keeps_base, rule_of
from holdfast.planning.retention import Verdict, chains, judge, judge_obsolete

_NATIVE = (Kind.SNAPSHOT, Kind.REPLICA)


@dataclass(frozen=True, slots=True)
class Moved:
    """An instance whose owner changes; an empty name means that no policy protects it."""

    instance_id: str
    account: str
    region: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Doomed:
    """A restore point that only the new configuration would remove."""

    point_id: str
    kind: Kind
    instance_id: str
    taken_at: datetime
    reason: str
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The consequences of a new configuration. Costs are in USD a month.

    ``policy`` of a point that is removed is the one whose retention does it; empty: that of obsolete
    snapshots. ``counted`` is the number of instances that the new configuration protects.
    """

    moved: tuple[Moved, ...]
    removed: tuple[Doomed, ...]
    cost_delta: float
    cost_before: float = 0.0
    cost_after: float = 0.0
    counted: int = 0

    @property
    def gained(self) -> tuple[Moved, ...]:
        return tuple(each for each in self.moved if not each.before)

    @property
    def lost(self) -> tuple[Moved, ...]:
        return tuple(each for each in self.moved if not each.after)

    @property
    def needs_confirmation(self) -> bool:
        return bool(self.removed)


def _verdicts(
    configuration: Configuration,
    owner: AnyPolicy | None,
    kind: Kind,
    region: str,
    chain: Sequence[RestorePoint],
    pinned: Sequence[str],
    now: datetime,
) -> tuple[Verdict, ...]:
    """What retention says about one chain of an instance in ``region`` under one configuration.

    Without an owner, snapshots and replicas are obsolete; backups go on by the policy that made them, if
    it still exists, and otherwise stay.
    """
    policy = owner
    if policy is None and kind not in _NATIVE:
        policy = configuration.policy(chain[-1].policy)
    if policy is not None:
        kept = pinned if kind is Kind.SNAPSHOT and keeps_base(configuration, policy) else ()
        # Temporary snapshots of SLA-based policies go with the next backup, whatever the configuration says.
        judged = [each for each in chain if not (each.temporary and isinstance(policy, SlaPolicy))]
        rule = rule_of(configuration, policy, kind, region)
        return judge(judged, rule, now, pinned=kept, protected=owner is not None)
    if kind in _NATIVE:
        zone = ZoneInfo(configuration.service_time_zone)
        return judge_obsolete(chain, configuration.obsolete_snapshots, now, zone, protected=False)
    return ()


def _pinned(points: Sequence[RestorePoint]) -> list[str]:
    """Snapshots that the newest backup of the instance was made from."""
    backups = [each for each in points if each.kind is Kind.BACKUP and each.complete]
    if not backups:
        return []
    ids = set(max(backups, key=lambda each: each.taken_at).snapshot_ids.values())
    return [
        each.point_id
        for each in points
        if each.kind is Kind.SNAPSHOT and ids & set(each.snapshot_ids.values())
    ]


def _key(point: RestorePoint) -> tuple[str, ...]:
    """A restore point among all of an instance: snapshot and backup of one session share their id."""
    return (point.account, point.region, point.kind, point.repository, point.point_id)


def _gone(
    configuration: Configuration,
    owner: AnyPolicy | None,
    home: str,
    points: Sequence[RestorePoint],
    now: datetime,
) -> dict[tuple[str, ...], str]:
    """Why retention removes a point now, for each that it removes."""
    pinned = _pinned(points)
    return {
        (account, region, kind, repository, verdict.point_id): verdict.reason
        for (account, region, _, kind, repository), chain in chains(points)
        for verdict in _verdicts(configuration, owner, Kind(kind), home, chain, pinned, now)
        if verdict.remove
    }


class _Costs:
    """What instances cost under one configuration; what they share is computed once."""

    def __init__(self, configuration: Configuration, now: datetime, assumed: Assumptions) -> None:
        self._configuration = configuration
        self._now = now
        self._assumed = assumed
        self._loads: dict[tuple[str, str], Load] = {}

    def of(self, owner: AnyPolicy | None, instance: Instance) -> float:
        if owner is None:
            return 0.0
        key = (owner.name, instance.region)
        if key not in self._loads:
            self._loads[key] = load(self._configuration, owner, instance.region, self._now, self._assumed)
        return estimate(
            self._configuration, owner, instance, self._now, self._assumed, known=self._loads[key]
        ).total


def compare(
    before: Configuration,
    after: Configuration,
    instances: Iterable[Instance],
    accounts: Iterable[Account],
    points: Iterable[RestorePoint],
    now: datetime,
    assumed: Assumptions = USUAL,
) -> Change:
    """What deploying ``after`` in place of ``before`` would do to this inventory and these restore points.

    Points of instances that are not in the inventory are judged as those of instances without a policy.
    """
    places = {each.account: each for each in accounts}
    of_instance: dict[str, list[RestorePoint]] = {}
    for point in sorted(points, key=lambda each: each.taken_at):
        of_instance.setdefault(point.instance_id, []).append(point)
    moved: list[Moved] = []
    removed: list[Doomed] = []
    costs = [_Costs(before, now, assumed), _Costs(after, now, assumed)]
    total, counted = [0.0, 0.0], 0
    known: dict[str, tuple[AnyPolicy | None, AnyPolicy | None, str]] = {}
    for instance in sorted(instances, key=lambda each: (each.account, each.region, each.instance_id)):
        place = places.get(instance.account, Account(account=instance.account))
        old, new = owner_of(before, instance, place), owner_of(after, instance, place)
        known[instance.instance_id] = (old, new, instance.region)
        total = [
            sums + cost.of(owner, instance)
            for sums, cost, owner in zip(total, costs, (old, new), strict=True)
        ]
        counted += new is not None
        names = (old.name if old else "", new.name if new else "")
        if names[0] != names[1]:
            moved.append(Moved(instance.instance_id, instance.account, instance.region, *names))
    for instance_id, chain in sorted(of_instance.items()):
        old, new, home = known.get(instance_id, (None, None, _home(chain)))
        already, then = _gone(before, old, home, chain, now), _gone(after, new, home, chain, now)
        removed += [
            Doomed(
                each.point_id,
                each.kind,
                instance_id,
                each.taken_at,
                then[_key(each)],
                _remover(after, new, each),
            )
            for each in chain
            if _key(each) in then and _key(each) not in already
        ]
    return Change(tuple(moved), tuple(removed), total[1] - total[0], total[0], total[1], counted)


def _home(chain: Sequence[RestorePoint]) -> str:
    """The Region of an instance that is gone: where its snapshots and backups were made."""
    own = [each.region for each in chain if each.kind is not Kind.REPLICA]
    return own[-1] if own else chain[-1].region


def _remover(after: Configuration, owner: AnyPolicy | None, point: RestorePoint) -> str:
    """The policy whose retention removes a point; empty for the retention of obsolete snapshots."""
    if owner is not None:
        return owner.name
    return point.policy if point.kind not in _NATIVE and after.policy(point.policy) else ""
