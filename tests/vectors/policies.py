"""Turns the shorthand of vectors into policies, configurations and restore points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.model.checks import check
from holdfast.model.configuration import Configuration, SchedulePolicy
from holdfast.model.restore_point import Flag, Kind, RestorePoint

REGION = "us-east-1"
PLURAL = {"snapshot": "snapshots", "replica": "replicas", "backup": "backups"}
BASIS = {
    "name": "policy",
    "source": {"role": "role"},
    "regions": [REGION],
    "selection": {"all": True},
}


def instant(text: str) -> datetime:
    """A date or a time of a vector, in UTC."""
    return datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=UTC)


def policy(**parts: object) -> SchedulePolicy:
    return SchedulePolicy.model_validate(BASIS | parts)


def configuration(*policies: dict, **parts: object) -> Configuration:
    """A configuration in which nothing is wrong but what ``policies`` and ``parts`` bring."""
    whole = {
        "backup_account": "111122223333",
        "hub_region": REGION,
        "roles": [{"name": "role", "arn": "arn:aws:iam::444455556666:role/HoldfastBackup"}],
        "repositories": [
            {"name": "standard", "bucket": "standard-bucket", "region": REGION},
            {"name": "archive", "bucket": "archive-bucket", "region": REGION, "storage_class": "GLACIER"},
        ],
        "policies": list(policies),
    }
    return Configuration.model_validate(whole | parts)


def errors(checked: Configuration) -> list[str]:
    return [finding.message for finding in check(checked) if not finding.warning]


def warnings(checked: Configuration) -> list[str]:
    return [finding.message for finding in check(checked) if finding.warning]


def point(taken_at: datetime, flags: str = "", kind: Kind = Kind.SNAPSHOT, **more: object) -> RestorePoint:
    """A restore point whose id is its time."""
    return RestorePoint(
        point_id=taken_at.isoformat(),
        kind=kind,
        account="444455556666",
        region=REGION,
        instance_id="i-0123456789abcdef0",
        taken_at=taken_at,
        flags=frozenset(Flag(flag) for flag in flags),
        **more,
    )


def days_ago(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)


def spelled(flags: frozenset[Flag]) -> str:
    return "".join(flag.value for flag in Flag if flag in flags)
