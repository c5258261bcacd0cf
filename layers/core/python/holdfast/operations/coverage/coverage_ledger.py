"""Where the coverage ledger and the last known inventory are kept: parts of the catalog.

A day is written once: its lines first, under a name that no other run has, its head last. What has no head is
not there, and a head is never written over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.errors import NotFoundError
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import Instance
from holdfast.model.schedules import Keep
from holdfast.model.scope import Account
from holdfast.planning.coverage import AccountLine, Day, Line
from holdfast.planning.standing import Standing
from holdfast.ports import Catalog

log = logging.getLogger(__name__)

KEPT_FOR: Final = timedelta(days=397)
"""Thirteen months, so that a year can be compared with the one before; longer where session records are."""
KNOWN: Final = "coverage/known"
"""What was last known of every account."""
CHUNK: Final = 200_000
"""Characters of a part: compressed or not, an item of the catalog holds it."""
LONGEST_REASON: Final = 600
LOOK_BACK: Final = 31
"""Days within which an earlier ledger is looked for."""

Place = tuple[str, str]
"""Account and Region."""


class Head(BaseModel):
    """The head of a ledger. ``run`` names the lines that belong to it, ``policies`` those that there were."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    on: date
    run: str
    recorded_at: datetime
    counts: dict[Standing, int]
    inventory: int
    unread: dict[str, str] = {}
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """The last known inventory. ``accounts`` is None when nothing was ever recorded.

    ``default_keys`` are the keys that AWS manages for EBS, where something is encrypted.
    """

    accounts: Mapping[str, Account] | None = None
    instances: Mapping[Place, tuple[Instance, ...]] = field(default_factory=dict)
    seen_at: Mapping[Place, datetime] = field(default_factory=dict)
    default_keys: Mapping[Place, str] = field(default_factory=dict)

    def everything(self) -> Iterator[Instance]:
        for place in sorted(self.instances):
            yield from self.instances[place]


def key_of(name: date | str) -> str:
    """The key under which the parts of a day, or of a look right now, are kept."""
    return f"coverage/{name}"


def dated(configuration: Configuration, at: datetime) -> datetime:
    """The date to give a part so that it is kept for KEPT_FOR, or longer where session records are."""
    return at + max(timedelta(), KEPT_FOR - _span(configuration.session_records))


def _span(keep: Keep | str) -> timedelta:
    """How long records of sessions are kept; unlimited ones need no later date."""
    if isinstance(keep, str):
        return KEPT_FOR
    return timedelta(days=(keep.days or 0) + 31 * (keep.months or 0) + 366 * (keep.years or 0))


def chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows in pieces that a part can hold, in order; one piece at least."""
    piece: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if piece and size + length > CHUNK:
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += length
    yield piece


def _row(line: Line | AccountLine) -> dict[str, Any]:
    return asdict(line) | {"reason": line.reason[:LONGEST_REASON]}


def write_day(
    name: date | str,
    day: Day,
    run: str,
    catalog: Catalog,
    now: datetime,
    at: datetime,
    policies: Iterable[str] = (),
) -> bool:
    """Record a ledger under ``name``; False when another one stands there. ``at`` dates its parts."""
    key = key_of(name)
    lines: dict[str, list[Line]] = {}
    for line in day.lines:
        lines.setdefault(line.account, []).append(line)
    groups = {f"lines/{account}": map(_row, found) for account, found in lines.items()}
    for group, rows in (*groups.items(), ("accounts", map(_row, day.accounts))):
        for number, piece in enumerate(chunks(rows)):
            catalog.write_part(key, f"{run}/{group}/{number:04}", {"rows": piece}, at=at)
    head = Head(
        on=day.on,
        run=run,
        recorded_at=now,
        counts=day.counts(),
        inventory=len(day.lines),
        unread=dict(day.unread),
        policies=tuple(policies),
    )
    return catalog.write_part(key, "head", head.model_dump(mode="json"), at=at, new=True)


def read_head(name: date | str, catalog: Catalog) -> Head | None:
    """The head of the ledger of that name, or None."""
    found = catalog.read_part(key_of(name), "head")
    return Head.model_validate(found) if found else None


def newest_head(before: date, catalog: Catalog) -> Head | None:
    """The head of the newest ledger of a day before ``before``, at most LOOK_BACK days earlier."""
    return next(heads(before, LOOK_BACK, catalog), None)


def heads(before: date, days: int, catalog: Catalog) -> Iterator[Head]:
    """The heads of the ledgers of up to ``days`` days before ``before``, newest first."""
    for back in range(1, days + 1):
        if head := read_head(before - timedelta(days=back), catalog):
            yield head


def read_day(name: date | str, catalog: Catalog, account: str = "") -> tuple[Head, Day]:
    """The ledger of that name, or its share for one account. Raises NotFoundError."""
    head = read_head(name, catalog)
    if head is None:
        raise NotFoundError(
            "There is no coverage ledger of that day.",
            resource=str(name),
            remedy="It is written at 04:00 of the next day; look at this moment with --live.",
        )
    key, prefix = key_of(name), f"{head.run}/lines/{account}{'/' if account else ''}"
    lines = tuple(
        Line(**(row | {"standing": Standing(row["standing"])}))
        for _, part in catalog.parts(key, prefix)
        for row in part["rows"]
    )
    accounts = tuple(
        found
        for _, part in catalog.parts(key, f"{head.run}/accounts/")
        for found in (AccountLine(**row) for row in part["rows"])
        if account in ("", found.account)
    )
    return head, Day(head.on, lines, accounts, head.unread)


def write_known(
    accounts: Iterable[Account],
    found: Mapping[Place, Iterable[Instance]],
    default_keys: Mapping[Place, str],
    before: Known,
    catalog: Catalog,
    now: datetime,
    at: datetime,
) -> None:
    """Keep what was seen in every account and Region that could be looked at."""
    rows = [account.model_dump(mode="json") for account in accounts]
    _write("accounts", rows, "", now, catalog, at)
    for (account, region), instances in sorted(found.items()):
        rows = [_instance(one) for one in instances]
        if rows or before.instances.get((account, region)):
            key = default_keys.get((account, region), "")
            _write(f"instances/{account}/{region}", rows, key, now, catalog, at)


def _instance(instance: Instance) -> dict[str, Any]:
    """An instance as it is kept: without the tags of its volumes, where no item could hold them."""
    row = instance.model_dump(mode="json", exclude_defaults=True)
    if len(json.dumps(row)) > CHUNK:
        row["volumes"] = [{**volume, "tags": {}} for volume in row["volumes"]]
    return row


def _write(
    group: str, rows: Iterable[Mapping[str, Any]], key: str, now: datetime, catalog: Catalog, at: datetime
) -> None:
    pieces = list(chunks(rows))
    for number, piece in enumerate(pieces):
        body = {"seen_at": now.isoformat(), "pieces": len(pieces), "rows": piece, "default_key": key}
        catalog.write_part(KNOWN, f"{group}/{number:04}", body, at=at)


def read_known(catalog: Catalog, account: str = "", region: str = "") -> Known:
    """The last known inventory, or that of one account, or of one of its Regions."""
    accounts: dict[str, Account] | None = None
    for _, part in _pieces(catalog, "accounts/"):
        accounts = accounts or {}
        accounts |= {row["account"]: Account.model_validate(row) for row in part["rows"]}
    instances: dict[Place, tuple[Instance, ...]] = {}
    seen_at: dict[Place, datetime] = {}
    default_keys: dict[Place, str] = {}
    prefix = "/".join(part for part in ("instances", account, region) if part) + "/"
    for group, part in _pieces(catalog, prefix):
        place = (group.split("/")[1], group.split("/")[2])
        found = tuple(one for row in part["rows"] if (one := _known(row)))
        instances[place] = (*instances.get(place, ()), *found)
        seen_at[place] = datetime.fromisoformat(part["seen_at"])
        default_keys[place] = part["default_key"]
    return Known(accounts, instances, seen_at, default_keys)


def _known(row: Mapping[str, Any]) -> Instance | None:
    """An instance as an earlier run kept it; None when another version wrote what this one cannot read."""
    try:
        return Instance.model_validate(row)
    except ValidationError as error:
        log.warning("%s is not known any more: %s", row.get("instance_id"), error)
        return None


def _pieces(catalog: Catalog, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Parts with their group; pieces that a longer list left behind are passed over."""
    counts: dict[str, int] = {}
    for name, part in catalog.parts(KNOWN, prefix):
        group, _, number = name.rpartition("/")
        if int(number) == 0:
            counts[group] = part["pieces"]
        if int(number) < counts.get(group, 0):
            yield group, part
