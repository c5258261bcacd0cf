"""What is deployed for SLA-based policies: schedules by Region, alarms by policy, rights of functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.model.configuration import SlaPolicy, SlaTemplate
from infra.constructs.observability import longest_silence
from infra.synth import synthesize
from tests.infra.conftest import Template, a_configuration, read_templates, resources

TOPIC = "arn:aws:sns:eu-central-1:999999999999:sla"
GOLD = {
    "name": "gold",
    "source": {"role": "production"},
    "regions": ["eu-central-1", "us-east-1"],
    "selection": {"all": True},
    "sla_template": "nights",
    "storage_template": "places",
    "notifications": {"topic_arn": TOPIC},
}
NIGHTS = {
    "name": "nights",
    "snapshots": {"daily": {"hours": 4}},
    "snapshot_window": {"start": "20:00", "end": "06:00"},
    "backups": {"weekly": {"days": ["sun"]}},
    "backup_window": {"start": "22:00", "end": "06:30"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Template:
    configuration = a_configuration(
        policies=[],
        sla_policies=[GOLD, GOLD | {"name": "paused", "enabled": False}],
        sla_templates=[NIGHTS],
        storage_templates=[{"name": "places", "backups": "Main"}],
    )
    assembly = synthesize(configuration, tmp_path_factory.mktemp("assembly"), bundling=False)
    return read_templates(assembly)["holdfast-hub"]


def schedules(hub: Template, function: str, policy: str = "gold") -> list[dict[str, Any]]:
    found = [one["Properties"] for one in resources(hub, "AWS::Scheduler::Schedule").values()]
    return [
        one
        for one in found
        if one["Target"]["Arn"].endswith(f":holdfast-{function}")
        and json.loads(one["Target"]["Input"]).get("policy") == policy
    ]


def test_windows_close_at_the_end_of_the_later_one_by_the_clock_of_each_region(hub: Template):
    closing = schedules(hub, "close-window")
    told = {
        (json.loads(one["Target"]["Input"])["region"], one["ScheduleExpressionTimezone"]) for one in closing
    }
    assert told == {("eu-central-1", "Europe/Berlin"), ("us-east-1", "America/New_York")}
    assert {one["ScheduleExpression"] for one in closing} == {"cron(30 6 * * ? *)"}
    assert {one["State"] for one in closing} == {"ENABLED"}
    assert {one["State"] for one in schedules(hub, "close-window", "paused")} == {"DISABLED"}


def test_slots_are_those_of_the_template_by_the_clock_of_each_region(hub: Template):
    berlin = [
        one["ScheduleExpression"]
        for one in schedules(hub, "start-session")
        if one["ScheduleExpressionTimezone"] == "Europe/Berlin"
    ]
    assert sorted(berlin) == ["cron(0 0,4,20 * * ? *)", "cron(0 22 ? * SUN *)"]


def test_a_missed_sla_and_a_silent_policy_are_alarms(hub: Template):
    found = [one["Properties"] for one in resources(hub, "AWS::CloudWatch::Alarm").values()]
    alarms = {one["AlarmName"].removeprefix("holdfast-hub-"): one for one in found}
    (name,) = [name for name in alarms if name.startswith("SlaMissed-gold-")]
    missed = alarms[name]
    assert (missed["MetricName"], missed["Statistic"], missed["Threshold"]) == ("SlaMissed", "Maximum", 0)
    assert missed["Dimensions"] == [{"Name": "Policy", "Value": "gold"}]
    assert missed["TreatMissingData"] == "notBreaching"
    assert "Overdue" + name.removeprefix("SlaMissed") in alarms
    assert not any("paused" in name for name in alarms)
    assert "NothingRan" in alarms


def test_the_dashboard_shows_the_ratio_of_every_product(hub: Template):
    (dashboard,) = resources(hub, "AWS::CloudWatch::Dashboard").values()
    text = json.dumps(dashboard["Properties"]["DashboardBody"])
    for metric in ("SlaSnapshotPercent", "SlaReplicaPercent", "SlaBackupPercent"):
        assert metric in text


def test_functions_may_tell_the_topic_of_an_sla_policy_and_start_retention(hub: Template):
    roles = {one["Properties"]["RoleName"]: one for one in resources(hub, "AWS::IAM::Role").values()}

    def allowed(role: str) -> str:
        return json.dumps(roles[f"holdfast-eu-central-1-{role}"]["Properties"]["Policies"])

    assert TOPIC in allowed("report-day")
    assert "stateMachine:holdfast-retention" in allowed("close-day")
    assert "stateMachine:holdfast-close-window" in allowed("close-window")
    assert "function:holdfast-close-window" in allowed("scheduler")


@pytest.mark.parametrize(
    "parts, days",
    [
        ({}, 1),
        ({"snapshots": None}, 7),
        ({"snapshots": {"weekly": {"days": ["mon", "thu"]}}, "backups": None}, 4),
        ({"snapshots": {"monthly": {}}, "backups": None}, None),
    ],
)
def test_silence_of_an_sla_policy_is_as_long_as_its_template_allows(parts: dict[str, Any], days: int | None):
    template = SlaTemplate.model_validate(NIGHTS | parts)
    assert longest_silence([SlaPolicy.model_validate(GOLD)], {"nights": template}) == days
