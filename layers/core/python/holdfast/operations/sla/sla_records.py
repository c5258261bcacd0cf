"""What is written down about the days of SLA-based policies: sessions, ledger, membership, report.

A ledger is written once and never changed. Everything lies under one name per policy, apart from sessions,
and lives longer than they do: a year of history is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any

from holdfast.model.restore_point import Kind
from holdfast.operations.services import Services
from holdfast.planning.compliance import LedgerEntry, Share
from holdfast.planning.ledger import Member
from holdfast.ports import Catalog

HISTORY = timedelta(days=400)
"""Twelve months of views, and the month that has begun."""
LOOKS_BACK = 35
"""Days in which a policy with monthly cadences alone has been due."""


@dataclass(frozen=True, slots=True)
class DayRecord:
    """A closed day: its sessions, those that had not ended, and the instances that stand in the scope."""

    sessions: tuple[str, ...]
    unfinished: tuple[str, ...]
    members: Mapping[str, Member]


@dataclass(frozen=True, slots=True)
class Page:
    """One product's ledger of a day, with what its instances are called and where they are."""

    entry: LedgerEntry
    members: Mapping[str, Member]


def owner_of(policy: str) -> str:
    """The name under which the parts of a policy's days lie."""
    return f"sla/{policy}"


def note_session(
    policy: str, session_id: str, region: str, slot: datetime, days: Mapping[Kind, date], services: Services
) -> None:
    """Tell the days of a session's windows that they have to wait for it."""
    body = {
        "region": region,
        "slot": slot.isoformat(),
        "days": {kind.value: on.isoformat() for kind, on in days.items()},
    }
    for on in sorted(set(days.values())):
        services.catalog.write_part(owner_of(policy), f"sessions/{on}/{session_id}", body, at=slot)


def noted_sessions(policy: str, on: date, catalog: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sessions that belong to a day, by id, with Region, slot and days."""
    prefix = f"sessions/{on}/"
    for name, body in catalog.parts(owner_of(policy), prefix):
        yield name.removeprefix(prefix), body


def write_page(entry: LedgerEntry, members: Mapping[str, Member], catalog: Catalog) -> bool:
    """Write the ledger of a day and product; False when it was written before, and nothing changed."""
    shares = [
        {
            "instance_id": one.instance_id,
            "account": members[one.instance_id].account,
            "region": members[one.instance_id].region,
            "name": members[one.instance_id].name,
            "expected": one.expected,
            "made": one.made,
            "credited": one.credited,
            "removed": one.removed,
        }
        for one in entry.shares
    ]
    body = {
        "policy": entry.policy,
        "kind": entry.kind.value,
        "day": entry.on.isoformat(),
        "target": str(entry.target),
        "shares": shares,
    }
    name = f"ledger/{entry.on}/{entry.kind.value}"
    return catalog.write_part(owner_of(entry.policy), name, body, at=expires_from(entry.on), new=True)


def pages(policy: str, catalog: Catalog, within: str = "") -> Iterator[Page]:
    """The ledger of a policy, oldest first; ``within`` a day, a month or a year (``2026-11``)."""
    for _, body in catalog.parts(owner_of(policy), f"ledger/{within}"):
        members = {
            one["instance_id"]: Member(one["instance_id"], one["account"], one["region"], one["name"])
            for one in body["shares"]
        }
        shares = tuple(
            Share(one["instance_id"], one["expected"], one["made"], one["credited"], one["removed"])
            for one in body["shares"]
        )
        entry = LedgerEntry(
            body["policy"],
            Kind(body["kind"]),
            date.fromisoformat(body["day"]),
            Fraction(body["target"]),
            shares,
        )
        yield Page(entry, members)


def write_day(policy: str, on: date, record: DayRecord, catalog: Catalog) -> None:
    """Write down that a day is closed, after its ledger; once."""
    body = {
        "sessions": list(record.sessions),
        "unfinished": list(record.unfinished),
        "members": [
            [one.instance_id, one.account, one.region, one.name]
            for one in sorted(record.members.values(), key=lambda one: one.instance_id)
        ],
    }
    catalog.write_part(owner_of(policy), f"day/{on}", body, at=expires_from(on), new=True)


def read_day(policy: str, on: date, catalog: Catalog) -> DayRecord | None:
    """The record of a closed day, or None."""
    body = catalog.read_part(owner_of(policy), f"day/{on}")
    if body is None:
        return None
    members = {one[0]: Member(*one) for one in body["members"]}
    return DayRecord(tuple(body["sessions"]), tuple(body["unfinished"]), members)


def members_before(policy: str, on: date, catalog: Catalog) -> Mapping[str, Member]:
    """The instances that stood in the scope when the last day before ``on`` was closed."""
    for back in range(1, LOOKS_BACK + 1):
        found = read_day(policy, on - timedelta(days=back), catalog)
        if found is not None:
            return found.members
    return {}


def expires_from(on: date) -> datetime:
    """The instant from which the time counts that records are kept."""
    return datetime.combine(on, time(), UTC) + HISTORY
