"""Plays a session as its state machines do, step after step, on the operations themselves.

The machines' own files run in the scenarios on the simulator; here the order of steps is repeated in a few
lines, so that a unit test can look at one story without any of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from holdfast.edge import parse, raised
from holdfast.errors import TransientError
from holdfast.operations.replicas.replicate_snapshots import ReplicateSnapshots, replicate_snapshots
from holdfast.operations.retention.apply_retention import ApplyRetention, apply_retention
from holdfast.operations.sessions.check_snapshots import CheckSnapshots, check_snapshots
from holdfast.operations.sessions.commit_backup import CommitBackup, commit_backup
from holdfast.operations.sessions.conclude_instance import ConcludeInstance, conclude_instance
from holdfast.operations.sessions.conclude_session import ConcludeSession, conclude_session
from holdfast.operations.sessions.discover_instances import DiscoverInstances, discover_instances
from holdfast.operations.sessions.move_segment import MoveSegment, move_segment
from holdfast.operations.sessions.plan_backup import PlanBackup, plan_backup
from holdfast.operations.sessions.report_cell import ReportCell, report_cell
from holdfast.operations.sessions.resolve_scope import ResolveScope, resolve_scope
from holdfast.operations.sessions.start_cell import StartCell, start_cell
from holdfast.operations.sessions.start_session import StartSession, start_session
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots
from tests.session_world import POLICY, SessionWorld

Event = dict[str, Any]
TRIES = 4


class Failed(Exception):
    """A step failed for good, as a Catch sees it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        told = {"errorMessage": str(error), "errorType": type(error).__name__}
        self.output = {"Error": type(error).__name__, "Cause": json.dumps(told)}


class Crash(BaseException):
    """The sandbox of a function died: nothing after this line ran."""


def step(
    request: Any, operation: Callable[..., Mapping[str, Any]], event: Event, world: SessionWorld
) -> Event:
    """One task: repeated when its sandbox dies, and while its error is transient; raises Failed."""
    for attempt in range(TRIES):
        try:
            return json.loads(json.dumps(dict(operation(parse(request, event), world))))
        except Crash:
            world.clock.advance(timedelta(seconds=2))
        except TransientError as error:
            world.clock.advance(timedelta(minutes=2))
            if attempt == TRIES - 1:
                raise Failed(raised(error)) from error
        except Exception as error:
            raise Failed(raised(error)) from error
    raise AssertionError("a loop that always returns or raises")


def play(world: SessionWorld, at: datetime | None = None, *, manual: bool = False) -> Event:
    """Run the session of a slot to its end; returns what conclude_session answered last."""
    world.clock.current = at or world.clock.current
    event: Event = {"policy": POLICY, "manual": True} if manual else {"policy": POLICY}
    if not manual:
        event["scheduled_at"] = world.clock.now().isoformat()
    started = step(StartSession, start_session, event, world)
    record = world.catalog.session_records.get(started["session_id"])
    if record is None or record.ended_at:
        return started
    _, session = world.executions(world.settings.hub_region).started[started["session_id"]]
    return play_session(world, session)


def play_session(world: SessionWorld, session: Event) -> Event:
    """The session machine."""
    try:
        regions = step(ResolveScope, resolve_scope, session, world)["regions"]
    except Failed as failed:
        return step(ConcludeSession, conclude_session, {**session, "error": failed.output}, world)
    attempt = 0
    while True:
        results = [play_cell(world, {**session, "region": region, "attempt": attempt}) for region in regions]
        concluded = step(
            ConcludeSession, conclude_session, {**session, "attempt": attempt, "regions": results}, world
        )
        if not concluded["retry"]:
            return concluded
        world.clock.advance(timedelta(seconds=60))
        attempt, regions = concluded["attempt"], concluded["regions"]


def play_cell(world: SessionWorld, event: Event) -> Event:
    """The session machine's wait for a Region, and the cell machine behind it."""
    token = f"token {event['region']} {event['attempt']}"
    step(StartCell, start_cell, {**event, "task_token": token}, world)
    report: Event = {"items_key": None, "error": None}
    try:
        found = step(DiscoverInstances, discover_instances, event, world)
        report["items_key"] = found["items_key"]
        for item in world.work.read(found["items_key"]):
            play_instance(world, {**event, **item})
    except Failed as failed:
        report["error"] = failed.output
    step(ReportCell, report_cell, {**event, **report}, world)
    assert token in world.executions(world.settings.hub_region).answers
    return {"region": event["region"], "error": None}


def play_instance(world: SessionWorld, item: Event) -> None:
    """The inner machine of one instance."""
    ended: Event = {"stage": "snapshot", "taken": None, "committed": None, "error": None}
    whole = False
    try:
        while (taken := step(TakeSnapshots, take_snapshots, item, world))["waiting"]:
            world.clock.advance(timedelta(seconds=taken["wait_seconds"]))
        ended["taken"] = taken
        polls = 0
        while (seen := step(CheckSnapshots, check_snapshots, {**item, **taken, "polls": polls}, world))[
            "pending"
        ]:
            world.clock.advance(timedelta(seconds=seen["wait_seconds"]))
            world.spoke(POLICY, item["account"], item["region"]).complete_snapshots()
            polls = seen["polls"]
        whole = True
        if item["backup_flags"] is not None:
            ended["stage"] = "backup"
            ended["committed"] = play_backup(world, item, taken)
    except Failed as failed:
        ended["error"] = failed.output
    if whole and item["replica_flags"] is not None:
        ended |= play_replica(world, {**item, **ended["taken"]})
    if step(ConcludeInstance, conclude_instance, {**item, **ended}, world)["retain"]:
        try:
            step(ApplyRetention, apply_retention, item, world)
        except Failed as failed:
            step(
                ConcludeInstance,
                conclude_instance,
                {**item, **ended, "stage": "retention", "error": failed.output},
                world,
            )


def play_replica(world: SessionWorld, event: Event) -> Event:
    """Poll until every copy is completed; after a failure, take back what was made for it."""
    try:
        polls = 0
        while not (seen := step(ReplicateSnapshots, replicate_snapshots, {**event, "polls": polls}, world))[
            "done"
        ]:
            world.clock.advance(timedelta(seconds=seen["wait_seconds"]))
            for region in world.regions.values():
                region.complete_snapshots()
            polls = seen["polls"]
    except Failed as failed:
        given_up = step(ReplicateSnapshots, replicate_snapshots, {**event, "abandon": True}, world)
        return {"replicated": given_up, "replica_error": failed.output}
    return {"replicated": seen, "replica_error": None}


def play_backup(world: SessionWorld, item: Event, taken: Event) -> Event:
    """Plan, move every segment as often as its time runs out, commit."""
    plan = step(PlanBackup, plan_backup, {**item, **taken}, world)
    for segment in world.work.read(plan["items_key"]):
        event = {**item, **plan, "point_id": taken["point_id"], "cursor": 0, "checkpoint": None, **segment}
        while not (moved := step(MoveSegment, move_segment, event, world))["done"]:
            event |= moved
    return step(CommitBackup, commit_backup, {**item, **taken, **plan}, world)
