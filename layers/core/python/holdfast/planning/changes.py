"""What a changed configuration would do, before it is deployed.

Instances that gain or lose protection, and restore points that retention would remove under the new
configuration and not under the old one. A change that removes points needs a person's word; nothing here
removes anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from holdfast.model.blocks import BLOCK_SIZE
from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.cost import USUAL, Assumptions, Load, estimate, load, requests_of, used_bytes
from holdfast.planning.ownership import owner_of
from holdfast.planning.protection import keeps_base, repository_for, rule_of
from holdfast.planning.replication import Refusal, plan_copy
from holdfast.planning.retention import Verdict, chains, judge, judge_obsolete
from holdfast.planning.ruling import Ruler, Standing, judge_of, ruler_of
from holdfast.planning.selection import Target

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
    """A restore point that only the new configuration would remove.

    ``moved``: because its instance gets another owner, or none. No retention is shortened by that, so that
    nobody is asked again when it happens.
    """

    point_id: str
    kind: Kind
    instance_id: str
    taken_at: datetime
    reason: str
    policy: str = ""
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """What one configuration takes: USD and requests a month, and blocks by account and Region.

    ``at_once`` are blocks that one backup of everything reads, once each instance has a first one;
    ``instances`` counts those that a policy protects.
    """

    instances: int = 0
    cost: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    at_once: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """An instance of which the new configuration wants a replica that cannot be made."""

    instance_id: str
    account: str
    region: str
    policy: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Change:
    """The consequences of a new configuration.

    ``policy`` of a point that is removed is the one whose retention does it; empty: that of obsolete
    snapshots. ``first`` are blocks that the first backups read of instances whose repository is new to
    them, by account and Region.
    """

    moved: tuple[Moved, ...]
    removed: tuple[Doomed, ...]
    before: Totals
    after: Totals
    first: Mapping[tuple[str, str], float]
    refused: tuple[Refused, ...] = ()

    @property
    def cost_delta(self) -> float:
        """USD a month."""
        return self.after.cost - self.before.cost

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
    ruler: Ruler,
    kind: Kind,
    region: str,
    chain: Sequence[RestorePoint],
    pinned: Sequence[str],
    now: datetime,
) -> tuple[str, tuple[Verdict, ...]]:
    """The policy that judges one chain of an instance in ``region``, and what it says.

    Without one, snapshots and replicas of an instance that certainly stands in no policy are obsolete, and
    everything else stays.
    """
    policy = judge_of(configuration, ruler, kind, region, chain)
    if policy is not None:
        kept = pinned if kind is Kind.SNAPSHOT and keeps_base(configuration, policy) else ()
        # Temporary snapshots of SLA-based policies go with the next backup, whatever the configuration says.
        judged = [each for each in chain if not (each.temporary and isinstance(policy, SlaPolicy))]
        return policy.name, judge(judged, rule_of(configuration, policy, kind, region), now, pinned=kept)
    if kind in _NATIVE and ruler.standing is Standing.OBSOLETE:
        zone = ZoneInfo(configuration.service_time_zone)
        return "", judge_obsolete(chain, configuration.obsolete_snapshots, now, zone, protected=False)
    return "", ()


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
    configuration: Configuration, ruler: Ruler, home: str, points: Sequence[RestorePoint], now: datetime
) -> dict[tuple[str, ...], tuple[str, str]]:
    """Which policy removes a point now, and why, for each that is removed."""
    pinned = _pinned(points)
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for (account, region, _, kind, repository), chain in chains(points):
        policy, verdicts = _verdicts(configuration, ruler, Kind(kind), home, chain, pinned, now)
        for verdict in verdicts:
            if verdict.remove:
                found[account, region, kind, repository, verdict.point_id] = (policy, verdict.reason)
    return found


class _Sums:
    """Adds up what instances take under one configuration; what they share is computed once."""

    def __init__(self, configuration: Configuration, now: datetime, assumed: Assumptions) -> None:
        self._configuration = configuration
        self._now = now
        self._assumed = assumed
        self._loads: dict[tuple[str, str], Load] = {}
        self._instances = 0
        self._cost = 0.0
        self._requests: Counter[str] = Counter()
        self._at_once: dict[tuple[str, str], float] = {}

    def load(self, owner: AnyPolicy, region: str) -> Load:
        key = (owner.name, region)
        if key not in self._loads:
            self._loads[key] = load(self._configuration, owner, region, self._now, self._assumed)
        return self._loads[key]

    def add(self, owner: AnyPolicy | None, instance: Instance) -> None:
        if owner is None:
            return
        known, place = self.load(owner, instance.region), (instance.account, instance.region)
        found = estimate(self._configuration, owner, instance, self._now, self._assumed, known=known)
        self._instances += 1
        self._cost += found.total
        self._requests.update(requests_of(known, instance, self._assumed))
        blocks = used_bytes(instance, self._assumed) / BLOCK_SIZE
        self._at_once[place] = self._at_once.get(place, 0.0) + known.moved_at_once * blocks

    @property
    def totals(self) -> Totals:
        return Totals(self._instances, self._cost, dict(self._requests), self._at_once)


def _repository(configuration: Configuration, owner: AnyPolicy | None, region: str) -> str:
    return repository_for(configuration, owner, region) if owner else ""


def _refusal(
    configuration: Configuration, owner: AnyPolicy, instance: Instance, default_key: str
) -> Iterator[Refused]:
    """Why an instance cannot be replicated as its policy wants, if that is so."""
    keys = frozenset([default_key] if default_key else [])
    found = plan_copy(configuration, owner, instance, Target(instance.account, ""), keys)
    if isinstance(found, Refusal):
        where = (instance.instance_id, instance.account, instance.region)
        yield Refused(*where, owner.name, found.reason, found.remedy)


def compare(
    before: Configuration,
    after: Configuration,
    instances: Iterable[Instance],
    accounts: Iterable[Account],
    points: Iterable[RestorePoint],
    now: datetime,
    assumed: Assumptions = USUAL,
    default_keys: Mapping[tuple[str, str], str] | None = None,
) -> Change:
    """What deploying ``after`` in place of ``before`` would do to this inventory and these restore points.

    Points of instances that are not in the inventory are judged as those of instances without a policy.
    ``default_keys`` are the keys that AWS manages for EBS, by account and Region.
    """
    places = {each.account: each for each in accounts}
    of_instance: dict[str, list[RestorePoint]] = {}
    for point in sorted(points, key=lambda each: each.taken_at):
        of_instance.setdefault(point.instance_id, []).append(point)
    moved: list[Moved] = []
    removed: list[Doomed] = []
    refused: list[Refused] = []
    sums = (_Sums(before, now, assumed), _Sums(after, now, assumed))
    first: dict[tuple[str, str], float] = {}
    known: dict[str, Instance] = {}
    for instance in sorted(instances, key=lambda each: (each.account, each.region, each.instance_id)):
        place, where = (
            places.get(instance.account, Account(account=instance.account)),
            (instance.account, instance.region),
        )
        old, new = owner_of(before, instance, place), owner_of(after, instance, place)
        known[instance.instance_id] = instance
        for added, owner in zip(sums, (old, new), strict=True):
            added.add(owner, instance)
        target = _repository(after, new, instance.region)
        if new and target != _repository(before, old, instance.region) and sums[1].load(new, where[1]).moved:
            blocks = used_bytes(instance, assumed) / BLOCK_SIZE
            first[where] = first.get(where, 0.0) + blocks
        if new and sums[1].load(new, instance.region).replicated:
            refused += _refusal(after, new, instance, (default_keys or {}).get(where, ""))
        names = (_name(old), _name(new))
        if names[0] != names[1]:
            moved.append(Moved(instance.instance_id, *where, *names))
    for instance_id, chain in sorted(of_instance.items()):
        seen = known.get(instance_id)
        home = seen.region if seen else _home(chain)
        account = seen.account if seen else chain[-1].account
        place = places.get(account, Account(account=account))
        rulers = (ruler_of(before, seen, place), ruler_of(after, seen, place))
        already, then = (
            _gone(configuration, ruler, home, chain, now)
            for configuration, ruler in zip((before, after), rulers, strict=True)
        )
        moves = _name(rulers[0].policy) != _name(rulers[1].policy)
        removed += [
            Doomed(each.point_id, each.kind, instance_id, each.taken_at, reason, policy, moves)
            for each in chain
            if _key(each) in then and _key(each) not in already
            for policy, reason in [then[_key(each)]]
        ]
    return Change(tuple(moved), tuple(removed), sums[0].totals, sums[1].totals, first, tuple(refused))


def _home(chain: Sequence[RestorePoint]) -> str:
    """The Region of an instance that is gone: where its snapshots and backups were made."""
    own = [each.region for each in chain if each.kind is not Kind.REPLICA]
    return own[-1] if own else chain[-1].region


def _name(policy: AnyPolicy | None) -> str:
    return policy.name if policy else ""
