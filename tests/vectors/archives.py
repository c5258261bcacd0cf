"""Vectors of archiving."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from pydantic import ValidationError

from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.sla import SlaArchives
from holdfast.planning.chain import Link, remove
from holdfast.planning.retention import judge, rule_for
from holdfast.planning.schedule import slots
from holdfast.planning.sla import archive_due
from tests.vectors.policies import BASIS, REGION, configuration, errors, instant, point, policy, warnings

NAMES = {"D": "daily", "W": "weekly", "M": "monthly", "Y": "yearly"}


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "standard_chain_after" in vector:
        return simulated(vector)
    if "archive_months" in vector:
        return nearest(vector)
    for case in vector["cases"]:
        if "warn" in case:
            advised(case)
        else:
            valid(case)
    return len(vector["cases"])


def simulated(vector: dict) -> int:
    """A year of sessions with retention after each: the standard chain and the archive chain."""
    weekly, monthly = vector["schedules"]["W"], vector["schedules"]["M"]
    made = policy(
        weekly={
            "time": weekly["times"][0],
            "backups": {"days": weekly["days"], "keep": {"days": weekly["backup_keep_days"]}},
        },
        monthly={
            "run_on": {"ordinal": monthly["ordinal"], "weekday": monthly["weekday"]},
            "snapshots": {"keep": monthly["snapshots_to_keep"]},
            "archive": {"months": monthly["months"], "keep": {"months": monthly["archive_keep_months"]}},
        },
        repository="standard",
        archive_repository="archive",
    )
    chains: dict[Kind, list[RestorePoint]] = {Kind.BACKUP: [], Kind.ARCHIVE: []}
    sessions = {each["date"]: each for each in vector["archive_sessions"]}
    end = instant(max(sessions)) + timedelta(days=1)
    archived = []
    for slot in slots(made, instant(vector["first_session"]), end):
        day = str(slot.at.date())
        for kind in chains.keys() & slot.flags.keys():
            if kind is Kind.ARCHIVE:
                archived.append((day, "INC" if chains[kind] else "FULL"))
            chains[kind].append(point(slot.at, "M" if kind is Kind.ARCHIVE else "W", kind))
        retain(made, chains, slot.at, sessions.get(day, {}))
        if day in vector["standard_chain_after"]:
            found = [str(each.taken_at.date()) for each in chains[Kind.BACKUP]]
            assert found == vector["standard_chain_after"][day]
    assert archived == [(each["date"], each["type"]) for each in vector["archive_sessions"]]
    assert [str(each.taken_at.date()) for each in chains[Kind.ARCHIVE]] == vector["archive_chain_final"]
    return len(archived)


def retain(made: object, chains: dict[Kind, list[RestorePoint]], now: datetime, session: dict) -> None:
    for kind, chain in chains.items():
        gone = {verdict.point_id for verdict in judge(chain, rule_for(made, kind), now) if verdict.remove}
        if kind is Kind.ARCHIVE and "then_retention" in session:
            expected = session["then_retention"]
            removed = [str(each.taken_at.date()) for each in chain if each.point_id in gone]
            assert removed == expected["removed"]
            links = [
                Link(str(each.taken_at.date()), not number, {number: number})
                for number, each in enumerate(chain)
            ]
            left, _ = remove(links, removed)
            assert [link.taken for link in left if link.full] == [expected["full_now_at"]]
        chain[:] = [each for each in chain if each.point_id not in gone]


def scheduled(enabled: list[str]) -> dict:
    """Schedules that make backups at one time on Mondays."""
    parts = {
        "daily": {"backups": {"hours": [7]}},
        "weekly": {"time": "07:00", "backups": {"days": ["mon"]}},
        "monthly": {"time": "07:00", "backups": {"months": "all"}},
        "yearly": {"time": "07:00", "backups": {}},
    }
    return {name: parts[name] for name in (NAMES[flag] for flag in enabled)}


def valid(case: dict) -> None:
    parts = BASIS | {"repository": "standard"} | scheduled(case.get("enabled", ["D"]))
    if "archive" in case:
        keep = {"years": 1}
        archive = {
            "archive": {"months": "all", "keep": keep} if case["archive"] == "monthly" else {"keep": keep}
        }
        if case.get("standard_monthly_backups"):
            archive["backups"] = {"months": "all"}
        parts |= {case["archive"]: {**archive, "time": "07:00"}, "archive_repository": "archive"}
        if not case.get("enabled", ["D"]):
            parts.pop("daily", None)
    if case.get("backups_enabled") is False:
        parts |= {"repository": ""}
        parts.pop("daily", None)
    if case.get("yearly"):
        parts |= {"yearly": {"time": "07:00", "backups": {}}}
    if "schedules_enabled" in case:
        for name in NAMES.values():
            parts.pop(name, None)
        parts |= scheduled(case["schedules_enabled"])
    stores = repositories(case)
    if "standard_class" in case or "standard_encrypted" in case:
        parts |= {"archive_repository": "archive"}
    try:
        found = errors(configuration(parts, **stores))
    except ValidationError as refused:
        found = [str(refused)]
    assert (found == []) is case["valid"], found


def encryption(kind: object) -> dict:
    if kind == "password":
        return {
            "kind": "password",
            "secret_arn": f"arn:aws:secretsmanager:{REGION}:111122223333:secret:password",
        }
    return {"kind": "kms" if kind in (True, "kms") else "none"}


def repositories(case: dict) -> dict:
    both = [
        {
            "name": name,
            "bucket": f"{name}-bucket",
            "region": REGION,
            "storage_class": case.get(f"{name}_class", default),
            "encryption": encryption(case.get(f"{name}_encrypted", False)),
            "immutable": case.get("immutable_repository", False),
        }
        for name, default in (("standard", "STANDARD"), ("archive", "GLACIER"))
    ]
    return {"repositories": both}


def advised(case: dict) -> None:
    parts = (
        BASIS
        | scheduled(["W"])
        | {
            "monthly": {"archive": {"months": "all", "keep": {"days": case["keep_days"]}}},
            "repository": "standard",
            "archive_repository": "archive",
        }
    )
    checked = configuration(parts, **repositories({"archive_class": case["archive_class"]}))
    assert errors(checked) == []
    assert (warnings(checked) != []) is case["warn"]


def nearest(vector: dict) -> int:
    archives = SlaArchives.model_validate({"months": vector["archive_months"]})
    archived: list[date] = []
    for text in vector["backups"]:
        day = datetime.fromisoformat(text).replace(tzinfo=UTC).date()
        if archive_due(archives, day, archived):
            archived.append(day)
    assert [str(day) for day in archived] == vector["expect_archived_from"]
    return len(archived)
