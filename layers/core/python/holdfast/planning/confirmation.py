"""A retention that keeps less than the one before waits for a person's word.

Until it is confirmed, a restore point goes only when every retention that was in force says so. What is not
certainly as long as before counts as shorter: 30 days are shorter than a month. Source:
docs/decisions/0032.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from pydantic import Field

from holdfast.model.configuration import ObsoleteSnapshots
from holdfast.model.inventory import Value
from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import longest_days, shortest_days
from holdfast.planning.retention import Rule, Verdict

Limit = int | Keep | None
"""A number of restore points, a time, or None: for ever."""


class Retention(Value):
    """What is kept of one kind, as far as it can be compared: flags of a `Rule`, without its time zone.

    A flag that is missing was never known, unless ``fallback`` covers it; a flag that the policy knew once
    and does not know any more is kept for ever.
    """

    keep: dict[Flag, Limit] = Field(default_factory=dict)
    fallback: Keep | None = None
    keep_last: int = 0

    def limit(self, flag: Flag) -> Limit:
        return self.keep.get(flag, self.fallback)

    def rule(self, zone: ZoneInfo) -> Rule:
        """The rule by which this retention judges."""
        keep = {flag: limit for flag, limit in self.keep.items() if limit is not None}
        return Rule(keep, zone, self.keep_last, self.fallback)

    @property
    def obsolete(self) -> ObsoleteSnapshots:
        """The rule for obsolete snapshots that :func:`of_obsolete` was made of."""
        if self.fallback is None:
            return ObsoleteSnapshots()
        return ObsoleteSnapshots(mode="after", days=self.fallback.days, months=self.fallback.months)


def of_rule(rule: Rule) -> Retention:
    """The retention that a rule stands for."""
    return Retention(keep=dict(rule.keep), fallback=rule.fallback, keep_last=rule.keep_last)


def of_obsolete(rule: ObsoleteSnapshots) -> Retention:
    """The rule for obsolete snapshots as a retention."""
    after = Keep(days=rule.days, months=rule.months, years=None) if rule.mode == "after" else None
    return Retention(fallback=after)


def keeps_as_much(new: Retention, old: Retention) -> bool:
    """Whether ``new`` certainly keeps every restore point that ``old`` keeps."""
    flags = old.keep.keys() | (new.keep.keys() if old.fallback else set())
    return (
        all(_as_long(new.limit(flag), old.limit(flag)) for flag in flags)
        and _as_long(new.fallback, old.fallback)
        and new.keep_last >= old.keep_last
    )


def _as_long(new: Limit, old: Limit) -> bool:
    if new is None or old is None:
        return new is None
    if isinstance(new, int) and isinstance(old, int):
        return new >= old
    if isinstance(new, Keep) and isinstance(old, Keep):
        for ours, theirs in ((new.days, old.days), (_months(new), _months(old))):
            if ours and theirs:
                return ours >= theirs
        return shortest_days(new) >= longest_days(old)
    return False


def _months(keep: Keep) -> int | None:
    return keep.months or (12 * keep.years if keep.years else None)


def wanted_after(held: Iterable[Retention], wanted: Retention) -> Retention:
    """``wanted``, aware of the flags that were known before: it keeps them for as long as it says."""
    known = {flag: wanted.limit(flag) for before in held for flag in before.keep}
    return wanted.model_copy(update={"keep": known | wanted.keep})


def in_force(held: Sequence[Retention], wanted: Retention) -> tuple[Retention, ...]:
    """What is in force when the configuration says ``wanted`` and ``held`` was in force before.

    One retention when ``wanted`` applies; more, or another one, when it waits for a confirmation.
    """
    wanted = wanted_after(held, wanted)
    longer = [before for before in held if not keeps_as_much(wanted, before)]
    if any(keeps_as_much(before, wanted) for before in longer):
        return tuple(longer)
    return (*longer, wanted)


def is_waiting(force: Sequence[Retention], wanted: Retention) -> bool:
    """Whether ``wanted`` is shorter than what is in force."""
    return any(not keeps_as_much(wanted_after(force, wanted), before) for before in force)


def agreed(judgements: Sequence[Sequence[Verdict]]) -> tuple[tuple[Verdict, ...], frozenset[str]]:
    """Verdicts on which several rules agree, and the ids of points that only the first of them removes.

    All rules judged the same points in the same order. A point is removed when every rule removes it, and
    loses a flag when every rule takes it.
    """
    merged: list[Verdict] = []
    spared: set[str] = set()
    for verdicts in zip(*judgements, strict=True):
        first = verdicts[0]
        keeping = next((one for one in verdicts if not one.remove), None)
        if keeping is None:
            merged.append(first)
            continue
        if first.remove:
            spared.add(first.point_id)
        flags = frozenset().union(*(one.flags for one in verdicts))
        lost = frozenset.intersection(*(one.unassigned for one in verdicts))
        merged.append(Verdict(first.point_id, False, keeping.reason, flags, lost))
    return tuple(merged), frozenset(spared)


def spelled(retention: Retention) -> str:
    """A retention in words: ``D 7, W 30 days, others for ever; newest 1``."""
    flags = [f"{flag.value} {_spelled(retention.keep[flag])}" for flag in Flag if flag in retention.keep]
    others = [f"others {retention.fallback}"] if retention.fallback else []
    last = f"; newest {retention.keep_last}" if retention.keep_last else ""
    return ", ".join([*flags, *others] or ["for ever"]) + last


def _spelled(limit: Limit) -> str:
    return "for ever" if limit is None else str(limit)
