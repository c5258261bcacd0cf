"""SLA-based policies in the small world of sessions: configuration, slots, and the closing of a day."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from holdfast.model.configuration import Configuration
from holdfast.operations.sessions.start_session import StartSession, start_session
from holdfast.operations.sla.close_day import CloseDay, close_day
from holdfast.operations.sla.report_day import ReportDay, report_day
from tests.session_play import Event, play_session, step
from tests.session_world import ACCOUNT, POLICY, REGION, REPOSITORY, SessionWorld

WINDOW = {"start": "08:00", "end": "16:00"}


def sla_configuration(
    template: dict[str, Any] | None = None, *, regions: tuple[str, ...] = (REGION,), **parts: Any
) -> Configuration:
    """One SLA-based policy of the account's role; four snapshots a day unless ``template`` says otherwise.

    ``parts`` with the name of a field of the configuration replace it, others belong to the policy.
    """
    policy = {
        "name": POLICY,
        "source": {"role": "production"},
        "regions": list(regions),
        "selection": {"all": True},
        "sla_template": "gold",
        "storage_template": "places",
        "retries": 0,
    }
    whole = {
        "backup_account": "999999999999",
        "hub_region": REGION,
        "roles": [{"name": "production", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"}],
        "repositories": [{"name": REPOSITORY, "bucket": "holdfast-main", "region": REGION}],
        "storage_templates": [{"name": "places", "backups": REPOSITORY}],
        "notifications": {"sender": "holdfast@example.com", "recipients": ["team@example.com"]},
        "region_time_zones": dict.fromkeys(regions, "UTC"),
    }
    chosen = template or {"snapshots": {"daily": {"hours": 2}}, "snapshot_window": WINDOW}
    of_policy = {key: value for key, value in parts.items() if key not in Configuration.model_fields}
    others = {key: value for key, value in parts.items() if key in Configuration.model_fields}
    return Configuration.model_validate(
        {
            **whole,
            "sla_templates": [{"name": "gold", **chosen}],
            "sla_policies": [policy | of_policy],
            **others,
        }
    )


def play_slot(world: SessionWorld, at: datetime, region: str = REGION) -> Event:
    """Run the session of one slot of one Region to its end."""
    world.clock.current = at
    event = {"policy": POLICY, "region": region, "scheduled_at": at.isoformat()}
    started = step(StartSession, start_session, event, world)
    if not started["started"]:
        return started
    _, session = world.executions(world.settings.hub_region).started[started["session_id"]]
    return play_session(world, session)


def close(world: SessionWorld, on: date, at: datetime | None = None) -> Event:
    """What closing the day answers at an instant."""
    world.clock.current = at or world.clock.current
    return step(CloseDay, close_day, {"policy": POLICY, "day": on.isoformat()}, world)


def report(world: SessionWorld, on: date) -> Event:
    """What reporting the day answers now."""
    return step(ReportDay, report_day, {"policy": POLICY, "day": on.isoformat()}, world)
