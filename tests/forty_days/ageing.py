"""Retention in the model: the daily pass at 04:00, the pass after an SLA day, and backups.

A pass judges the whole chain of an instance by the policy that owns the instance now; what no policy owns
goes by the global rule for obsolete snapshots.
"""

from __future__ import annotations

from datetime import timedelta

from tests.forty_days.model import Model, Point, unflag_counted
from tests.forty_days.rules import LETTERS, ZONES, Document, kept_days, later

SETTLED = timedelta(hours=24)
"""A pass leaves what is younger to the session that made it."""


def retention_pass(model: Model, policy: str = "") -> None:
    """Judge snapshots of every instance whose account can be entered; ``policy``: only those it owns."""
    for machine in model.machines.values():
        owner = model.owner(machine)
        if machine.account not in model.locked and (not policy or owner == policy):
            _judge(model, machine.name, owner)


def _judge(model: Model, name: str, owner: str) -> None:
    chain, settled = model.chain(name, "snapshot"), model.now - SETTLED
    if not owner:
        days = model.document["obsolete_snapshots"]["days"]
        for point in chain:
            over = model.now >= later(point.at, days, model.document["service_time_zone"])
            if over and model.confirmed:
                model.points.remove(point)
        return
    policy, machine = model.policy(owner), model.machines[name]
    template = model.template(policy)
    regular = [point for point in chain if not point.temporary]
    if template:
        _unflag_aged(model, template, machine.region, [point for point in regular if point.at <= settled])
    else:
        unflag_counted(policy, regular, before=settled)
    spared = [point for point in regular if point is regular[-1]] if template else []
    backups = model.chain(name, "backup")
    pins = bool(template) or "repository" in policy
    for point in chain:
        pinned = point in spared or (pins and point.base)
        if point.at <= settled and not point.flags and not pinned:
            model.points.remove(point)
    for point in chain:
        # The mark is lifted after the pass has judged: what it alone held goes with the next one.
        if backups and point.at < backups[-1].at:
            point.base = False


def _unflag_aged(model: Model, template: Document, region: str, points: list[Point]) -> None:
    for point in points:
        for letter in sorted(point.flags):
            days = kept_days(template, "snapshot", letter)
            if model.now >= later(point.at, days, ZONES[region]):
                point.flags.discard(letter)


def expire_backups(model: Model) -> None:
    """A backup goes a day after it was first found expired; the newest of a chain does not expire.

    The owner of the instance judges the whole chain when its backups go to the same repository, else whoever
    made a backup judges its own.
    """
    for point in [one for one in model.points if one.kind == "backup"]:
        owner = model.owner(model.machines[point.machine])
        judges = owner if owner and _backs_up(model.policy(owner)) else ""
        newest = model.chain(point.machine, "backup", "" if judges else point.policy)[-1]
        if point is newest or not _is_expired(model, point, model.policy(judges or point.policy)):
            point.noted_at = None
        elif point.noted_at is None:
            point.noted_at = model.now
        elif model.now - point.noted_at >= timedelta(hours=24):
            model.points.remove(point)


def _backs_up(policy: Document) -> bool:
    return "repository" in policy or "storage_template" in policy


def _is_expired(model: Model, point: Point, policy: Document) -> bool:
    """Whether every flag of a backup is older than a policy keeps it."""
    template, region = model.template(policy), model.machines[point.machine].region
    for letter in point.flags:
        if template:
            days, zone = kept_days(template, "backup", letter), ZONES[region]
        else:
            days, zone = policy[LETTERS[letter]]["backups"]["keep"]["days"], policy["time_zone"]
        if model.now < later(point.at, days, zone):
            return False
    return True
