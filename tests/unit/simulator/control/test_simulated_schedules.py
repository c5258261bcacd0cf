"""Schedules of templates fire as virtual time passes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

import simulator
from simulator.faults import Fault

KEEPS = """
    seen = []
    def handler(event, context):
        seen.append(event)
        return event
"""


@pytest.fixture
def scheduled(stack, functions):
    """A function, the role that may call it, and a daily schedule at 02:00 in Berlin."""
    stack.function("keeps", functions(keeps=KEEPS))
    allowed = {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": {"Fn::GetAtt": ["keeps", "Arn"]},
    }
    trusted = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "scheduler.amazonaws.com"},
    }
    stack.add(
        Calls={
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {"Statement": [trusted]},
                "Policies": [{"PolicyName": "call", "PolicyDocument": {"Statement": [allowed]}}],
            },
        },
        Group={"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {"Name": "policies"}},
        Daily={
            "Type": "AWS::Scheduler::Schedule",
            "Properties": {
                "Name": "daily",
                "GroupName": {"Ref": "Group"},
                "ScheduleExpression": "cron(0 2 * * ? *)",
                "ScheduleExpressionTimezone": "Europe/Berlin",
                "FlexibleTimeWindow": {"Mode": "OFF"},
                "Target": {
                    "Arn": {"Fn::GetAtt": ["keeps", "Arn"]},
                    "RoleArn": {"Fn::GetAtt": ["Calls", "Arn"]},
                    "Input": json.dumps(
                        {"policy": "daily", "scheduled_at": "<aws.scheduler.scheduled-time>"}
                    ),
                    "RetryPolicy": {"MaximumRetryAttempts": 3},
                },
            },
        },
    )
    stack.deploy()
    return stack


def seen() -> list[Any]:
    """Events that the function got."""
    from scripted.keeps import seen as events

    return events


def test_a_schedule_tells_its_target_the_instant_it_was_due(scheduled):
    scheduled.sim.clock.advance_to(datetime(2026, 11, 4, tzinfo=UTC))

    assert seen() == [
        {"policy": "daily", "scheduled_at": "2026-11-02T01:00:00Z"},
        {"policy": "daily", "scheduled_at": "2026-11-03T01:00:00Z"},
    ]


def test_time_that_passes_in_one_step_or_many_fires_the_same(scheduled):
    for _ in range(48):
        scheduled.sim.clock.advance_to(scheduled.sim.clock.now() + timedelta(hours=1))

    assert len(seen()) == 2


def test_duplicates_come_when_asked_for(scheduled):
    scheduled.sim.schedules.duplicate = True

    scheduled.sim.run_schedules(datetime(2026, 11, 3, tzinfo=UTC))

    assert seen() == [{"policy": "daily", "scheduled_at": "2026-11-02T01:00:00Z"}] * 2


def test_a_target_that_refuses_is_tried_again(scheduled):
    scheduled.sim.faults.add(
        Fault(call="lambda:Invoke", effect="error", code="ServiceException", status=400, times=2)
    )

    scheduled.sim.clock.advance_to(datetime(2026, 11, 3, tzinfo=UTC))

    assert [bool(firing.error) for firing in scheduled.sim.schedules.fired] == [True, True, False]
    assert len(seen()) == 1


def test_a_disabled_schedule_does_not_fire_and_an_update_takes_effect(scheduled):
    schedule = scheduled.resources["Daily"]["Properties"]
    schedule["State"] = "DISABLED"
    scheduled.deploy()
    scheduled.sim.clock.advance_to(datetime(2026, 11, 3, tzinfo=UTC))
    assert scheduled.sim.schedules.fired == []

    schedule |= {"State": "ENABLED", "ScheduleExpression": "cron(0 5 * * ? *)"}
    scheduled.deploy()
    scheduled.sim.clock.advance_to(datetime(2026, 11, 4, tzinfo=UTC))

    assert [event["scheduled_at"] for event in seen()] == ["2026-11-03T04:00:00Z"]


def test_a_deleted_schedule_is_forgotten(scheduled):
    del scheduled.resources["Daily"]
    scheduled.deploy()

    assert scheduled.sim.schedules.upcoming() == []


def test_a_role_that_does_not_trust_the_scheduler_calls_nothing(scheduled):
    trust = scheduled.resources["Calls"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    trust["Principal"] = {"Service": "lambda.amazonaws.com"}
    scheduled.deploy()

    scheduled.sim.clock.advance_to(datetime(2026, 11, 3, tzinfo=UTC))

    assert "does not admit scheduler.amazonaws.com" in scheduled.sim.schedules.fired[0].error
    assert scheduled.sim.lambdas.counts["keeps"] == 0


def test_schedules_survive_closing_the_world(scheduled):
    directory, upcoming = scheduled.sim.directory, scheduled.sim.schedules.upcoming()
    scheduled.sim.close()

    with simulator.open(directory) as reopened:
        assert reopened.schedules.upcoming() == upcoming
        reopened.lambdas.package = "scripted"
        reopened.clock.advance_to(datetime(2026, 11, 3, tzinfo=UTC))
        assert len(seen()) == 1


def test_an_expression_that_the_service_refuses_fails_the_stack(scheduled):
    scheduled.resources["Daily"]["Properties"]["ScheduleExpression"] = "cron(0 2 * * * *)"

    with pytest.raises(ClientError, match="Invalid Schedule Expression"):
        scheduled.deploy()
