"""Alarms and dashboard: silence is an alarm, and every alarm names its runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sns as sns
from aws_cdk.assertions import Template as Synthesized

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.ids import metric_label
from infra.constructs.observability import deploy_overdue, longest_silence
from infra.names import Site
from tests.infra.conftest import Template, a_configuration, resources
from tests.retention_play import PassWorld, play_pass

ROOT = Path(__file__).parents[2]
HUB, CELL = "holdfast-hub", "holdfast-cell-eu-west-1"


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    return {
        found["Properties"]["AlarmName"]: found["Properties"]
        for found in resources(template, "AWS::CloudWatch::Alarm").values()
    }


def policy(*, enabled: bool = True, **schedules: Any) -> SchedulePolicy:
    return SchedulePolicy.model_validate(
        {
            "name": "policy",
            "enabled": enabled,
            "source": {"role": "production"},
            "regions": ["eu-central-1"],
            "selection": {"all": True},
            **schedules,
        }
    )


def daily(days: Any) -> SchedulePolicy:
    return policy(daily={"days": days, "snapshots": {"hours": [1]}})


@pytest.mark.parametrize(
    "policies,days",
    [
        ([], None),
        ([daily("every_day")], 1),
        ([daily("weekdays")], 3),
        ([daily(["sun"])], 7),
        ([daily(["mon", "thu"])], 4),
        ([daily(["mon"]), daily(["thu"])], 4),
        ([daily("weekdays"), daily(["sat", "sun"])], 1),
        ([policy(enabled=False, daily={"days": "every_day", "snapshots": {"hours": [1]}})], None),
        ([policy(monthly={"run_on": {"day": 1}, "snapshots": {"months": "all", "keep": 1}})], None),
    ],
)
def test_silence_is_as_long_as_the_longest_pause_of_the_week(
    policies: list[SchedulePolicy], days: int | None
):
    assert longest_silence(policies) == days


def test_nothing_having_run_is_an_alarm_also_when_there_is_no_data(templates: dict[str, Template]):
    found = alarms(templates[HUB])["holdfast-hub-NothingRan"]
    assert found["TreatMissingData"] == "breaching"
    assert (found["Namespace"], found["MetricName"]) == ("AWS/States", "ExecutionsSucceeded")
    assert (found["ComparisonOperator"], found["Threshold"]) == ("LessThanThreshold", 1)
    assert (found["Period"], found["EvaluationPeriods"]) == (86_400, 1)


def test_an_enabled_policy_without_a_good_session_is_an_alarm(templates: dict[str, Template]):
    overdue = {name: found for name, found in alarms(templates[HUB]).items() if "-Overdue-" in name}
    (name,) = overdue  # the other policy is disabled
    assert name.startswith("holdfast-hub-Overdue-production-daily-")
    found = overdue[name]
    assert found["TreatMissingData"] == "breaching"
    stats = [metric["MetricStat"]["Metric"] for metric in found["Metrics"] if "MetricStat" in metric]
    assert {metric["MetricName"] for metric in stats} == {"Sessions", "SessionsFailed"}
    assert {str(metric["Dimensions"]) for metric in stats} == {
        str([{"Name": "Policy", "Value": "Production daily"}])
    }


def test_a_policy_whose_name_is_not_ascii_is_watched_too():
    watched = policy(daily={"snapshots": {"hours": [7]}}).model_copy(update={"name": "Täglich"})
    site = Site.hub(a_configuration().model_copy(update={"policies": (watched,), "sla_policies": ()}))
    stack = cdk.Stack(cdk.App(), "stack")
    deploy_overdue(stack, site, sns.Topic(stack, "Topic"))
    (found,) = alarms(Synthesized.from_stack(stack).to_json()).values()
    stats = [metric["MetricStat"]["Metric"] for metric in found["Metrics"] if "MetricStat" in metric]
    assert {metric["Dimensions"][0]["Value"] for metric in stats} == {metric_label("Täglich")}


@pytest.mark.parametrize(
    "stack,names",
    [
        (
            HUB,
            {
                "SessionBroken",
                "ManualSnapshotBroken",
                "CloseWindowBroken",
                "RetentionBroken",
                "RetentionNotRun",
                "RetentionShortened",
                "Undelivered",
                "NothingRan",
            },
        ),
        (CELL, {"CellBroken", "RestoreBroken", "Undelivered"}),
    ],
)
def test_alarms_of_each_place_tell_the_topic_of_their_region(
    stack: str, names: set[str], templates: dict[str, Template]
):
    found = alarms(templates[stack])
    by_name = {name.split("-")[2] for name in found}
    assert {name for name in by_name if not name.startswith(("Overdue", "Coverage"))} == names
    (topic,) = resources(templates[stack], "AWS::SNS::Topic")
    assert {json.dumps(properties["AlarmActions"]) for properties in found.values()} == {
        json.dumps([{"Ref": topic}])
    }


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_every_alarm_names_a_runbook_that_exists(stack: str, templates: dict[str, Template]):
    for name, found in alarms(templates[stack]).items():
        (runbook,) = re.findall(r"Runbook: (\S+)", found["AlarmDescription"])
        assert (ROOT / runbook).is_file(), name


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_alarms_of_the_account_may_publish_to_the_topic_and_nothing_without_tls(
    stack: str, templates: dict[str, Template]
):
    (policy,) = resources(templates[stack], "AWS::SNS::TopicPolicy").values()
    statements = {found["Sid"]: found for found in policy["Properties"]["PolicyDocument"]["Statement"]}
    allowed = statements["AlarmsOfThisAccount"]
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert "aws:SourceAccount" in allowed["Condition"]["StringEquals"]
    assert [found["Effect"] for found in statements.values()].count("Deny") == 1


def test_the_dashboard_follows_every_function_and_what_sessions_report(templates: dict[str, Template]):
    (dashboard,) = resources(templates[HUB], "AWS::CloudWatch::Dashboard").values()
    text = json.dumps(dashboard["Properties"]["DashboardBody"])
    assert "holdfast-conclude-session" in text
    assert "{Holdfast,Policy}" in text


def test_alarms_of_retention_watch_what_a_pass_publishes(templates: dict[str, Template]):
    world = PassWorld()
    play_pass(world)
    published = {name for policy, metrics in world.metrics if policy == "" for name in metrics}
    for name, missing in (("RetentionNotRun", "breaching"), ("RetentionShortened", "notBreaching")):
        found = alarms(templates[HUB])[f"holdfast-hub-{name}"]
        assert found["MetricName"] in published
        assert (found.get("Dimensions", []), found["TreatMissingData"]) == ([], missing)
