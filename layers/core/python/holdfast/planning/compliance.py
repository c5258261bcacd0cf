"""How far an SLA was met: per instance, per policy, per day, week and month.

Ratios are exact fractions; only what is shown is rounded, and always down, so that a missed target never
looks met. The ledger of a day is written once and never changed; re-rating history by an edited template
gives a second number beside it. Source: policies.md 4.1; decisions.md (SLA rounding, editing a template).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from fractions import Fraction
from math import floor

from holdfast.model.restore_point import Kind

VIEWS = {"day": 14, "week": 12, "month": 12}


class Status(StrEnum):
    """How a product of a policy stands in one period."""

    NOT_CONFIGURED = "Not configured"
    NOT_AVAILABLE = "Not available"
    MET = "SLA Met"
    MISSED = "SLA Missed"


@dataclass(frozen=True, slots=True)
class Share:
    """One instance's part in one period.

    Restore points expected, made, and credited for the time before it joined.
    """

    instance_id: str
    expected: int
    made: int
    credited: int = 0
    removed: bool = False

    @property
    def ratio(self) -> Fraction:
        """0 to 1; an instance of which nothing was expected has met everything."""
        return (
            min(Fraction(self.made + self.credited, self.expected), Fraction(1))
            if self.expected
            else Fraction(1)
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one policy owed and made of one product on one day, as it stood when the day was closed."""

    policy: str
    kind: Kind
    on: date
    target: Fraction
    shares: tuple[Share, ...]


def credited(due: Sequence[datetime], joined_at: datetime | None) -> int:
    """Runs that were over when an instance joined: they count as made."""
    return sum(at < joined_at for at in due) if joined_at else 0


def policy_ratio(shares: Iterable[Share]) -> Fraction | None:
    """The unweighted mean over instances that were not removed; None without any."""
    ratios = [share.ratio for share in shares if not share.removed]
    return sum(ratios, Fraction(0)) / len(ratios) if ratios else None


def status(
    ratio: Fraction | None, target: Fraction, *, scheduled: bool = True, finished: bool = True
) -> Status:
    """The status of a product. ``target`` is 0 to 1."""
    if not scheduled:
        return Status.NOT_CONFIGURED
    if not finished or ratio is None:
        return Status.NOT_AVAILABLE
    return Status.MET if ratio >= target else Status.MISSED


def percent(ratio: Fraction) -> str:
    """``96.6``: one decimal, rounded down; whole numbers without a decimal."""
    tenths = floor(ratio * 1000)
    return f"{tenths // 10}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}"


def label(share: Share, target: Fraction) -> str:
    """How one instance is shown in one period: ``Met SLA (100%, 5/5)``."""
    if share.removed:
        return "Removed"
    met = "Met" if share.ratio >= target else "Missed"
    return f"{met} SLA ({percent(share.ratio)}%, {share.made + share.credited}/{share.expected})"


def target_of(target_percent: float) -> Fraction:
    """A template's target as an exact fraction: 97.5 means 975/1000."""
    return Fraction(str(target_percent)) / 100


def removal(left_at: datetime, opened_at: datetime, closed_at: datetime) -> bool:
    """Whether an instance that left the scope is shown as removed: only when it left inside the window."""
    return opened_at <= left_at < closed_at


def rerated(entry: LedgerEntry, expected: int) -> LedgerEntry:
    """The entry as an edited template would rate it. The ledger itself stays as it was."""
    shares = tuple(
        Share(share.instance_id, expected, share.made, min(share.credited, expected), share.removed)
        for share in entry.shares
    )
    return LedgerEntry(entry.policy, entry.kind, entry.on, entry.target, shares)


def views(kind: Kind) -> dict[str, int]:
    """The charts of a product and how many periods each shows; archives are rated by month alone."""
    return {"month": VIEWS["month"]} if kind is Kind.ARCHIVE else dict(VIEWS)


def period_of(view: str, on: date) -> tuple[int, int, int]:
    """The period of a chart that a day belongs to; sorts in time. Weeks are ISO weeks."""
    if view == "week":
        year, week, _ = on.isocalendar()
        return year, week, 0
    return (on.year, on.month, 0) if view == "month" else (on.year, on.month, on.day)


def joined(entries: Iterable[LedgerEntry]) -> tuple[Share, ...]:
    """The shares of several days added up per instance: the period they make together.

    An instance counts as removed only when the last day that knows it says so.
    """
    total: dict[str, Share] = {}
    for entry in sorted(entries, key=lambda entry: entry.on):
        for share in entry.shares:
            before = total.get(share.instance_id, Share(share.instance_id, 0, 0))
            total[share.instance_id] = Share(
                share.instance_id,
                before.expected + share.expected,
                before.made + share.made,
                before.credited + share.credited,
                share.removed,
            )
    return tuple(total[instance_id] for instance_id in sorted(total))
