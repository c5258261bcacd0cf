"""The ledger of a policy by day, week or month, beside the number that today's template would give.

The ledger is never rated anew in place: a template that was edited shows as a second ratio. Source:
policies.md 4.1; decisions.md (weekly and monthly expectation, editing a template).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Kind
from holdfast.planning.compliance import (
    LedgerEntry,
    Share,
    Status,
    joined,
    period_of,
    policy_ratio,
    rerated,
    status,
    target_of,
    views,
)
from holdfast.planning.ledger import due_on, is_promised

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rating:
    """Shares of a period, judged by one target. ``ratio`` None: nobody is rated."""

    shares: tuple[Share, ...]
    target: Fraction
    status: Status

    @property
    def ratio(self) -> Fraction | None:
        return policy_ratio(self.shares)


@dataclass(frozen=True, slots=True)
class Period:
    """One product in one period: as the ledger stood, and as today's template would rate it."""

    label: str
    kind: Kind
    ledger: Rating
    again: Rating


def first_day(view: str, today: date) -> date:
    """The first day of the oldest period that a view shows."""
    return min(_periods(view, today).values())


def history(
    entries: Iterable[LedgerEntry],
    template: SlaTemplate,
    places: Mapping[str, str],
    zones: Mapping[str, ZoneInfo],
    view: str,
    today: date,
) -> Iterator[Period]:
    """The periods of ``view`` up to ``today``, oldest first, with every product that the view knows.

    ``places`` are the Regions of instances, ``zones`` the time zones of Regions.
    """
    found: dict[tuple[tuple[int, int, int], Kind], list[LedgerEntry]] = {}
    for entry in entries:
        found.setdefault((period_of(view, entry.on), entry.kind), []).append(entry)
    for key in _periods(view, today):
        for kind in Kind:
            if view in views(kind):
                inside = found.get((key, kind), [])
                # A day that has an entry is closed; a week or month is over with its last day.
                finished = view == "day" or key < period_of(view, today)
                yield _period(_label(view, key), kind, inside, template, places, zones, finished=finished)


def _period(
    label: str,
    kind: Kind,
    entries: list[LedgerEntry],
    template: SlaTemplate,
    places: Mapping[str, str],
    zones: Mapping[str, ZoneInfo],
    *,
    finished: bool,
) -> Period:
    now = target_of(template.target_percent)
    then = max(entries, key=lambda entry: entry.on).target if entries else now
    again = [_again(entry, template, places, zones) for entry in entries]
    scheduled = is_promised(template, kind)

    def rating(of: list[LedgerEntry], target: Fraction, *, scheduled: bool) -> Rating:
        shares = joined(of)
        found = status(policy_ratio(shares), target, scheduled=scheduled, finished=finished)
        return Rating(shares, target, found)

    return Period(
        label,
        kind,
        rating(entries, then, scheduled=scheduled or bool(entries)),
        rating(again if scheduled else [], now, scheduled=scheduled),
    )


def _again(
    entry: LedgerEntry, template: SlaTemplate, places: Mapping[str, str], zones: Mapping[str, ZoneInfo]
) -> LedgerEntry:
    """An entry as ``template`` rates it; what is expected depends on the Region."""
    shares: list[Share] = []
    for region in sorted({places[share.instance_id] for share in entry.shares}):
        of = tuple(share for share in entry.shares if places[share.instance_id] == region)
        due = due_on(template, entry.kind, entry.on, zones[region])
        shares += rerated(LedgerEntry(entry.policy, entry.kind, entry.on, entry.target, of), len(due)).shares
    return LedgerEntry(entry.policy, entry.kind, entry.on, entry.target, tuple(shares))


def _periods(view: str, today: date) -> dict[tuple[int, int, int], date]:
    """Keys of the periods of a view, oldest first, with their first days."""
    wanted = views(Kind.BACKUP)[view]
    found: dict[tuple[int, int, int], date] = {}
    on = today
    while True:
        key = period_of(view, on)
        if key not in found and len(found) == wanted:
            return dict(sorted(found.items()))
        found[key] = on
        on -= _DAY


def _label(view: str, key: tuple[int, int, int]) -> str:
    year, number, day = key
    if view == "week":
        return f"{year}-W{number:02}"
    return f"{year}-{number:02}" if view == "month" else f"{year}-{number:02}-{day:02}"
