"""What the ledger and the sessions report is what the alarms watch, down to the dimensions."""

from __future__ import annotations

import io
import json
from datetime import date

from holdfast.metrics import DIMENSION, publish
from holdfast.model.configuration import Configuration
from holdfast.operations.coverage.record_coverage import ledger_metrics
from holdfast.planning.coverage import Day
from infra.operator_permissions import POLICIES
from tests.infra.conftest import Template, resources

WATCHED = {"InstancesUnprotected", "AccountsOutOfReach", "AccountsNew", "LedgersRecorded"}


def watched(template: Template) -> list[tuple[str, tuple[str, ...]]]:
    """Names and dimensions of our own metrics in all alarms."""
    alarms = [found["Properties"] for found in resources(template, "AWS::CloudWatch::Alarm").values()]
    metrics = [
        one.get("MetricStat", {}).get("Metric", {}) for found in alarms for one in found.get("Metrics", ())
    ]
    return [
        (one["MetricName"], tuple(each["Name"] for each in one.get("Dimensions", ())))
        for one in (*alarms, *metrics)
        if one.get("Namespace") == "Holdfast"
    ]


def test_alarms_of_the_ledger_watch_what_it_publishes(templates: dict[str, Template]) -> None:
    published = ledger_metrics(Day(date(2026, 11, 22), (), ()))
    without = {name for name, dimensions in watched(templates["holdfast-hub"]) if not dimensions}
    assert without >= WATCHED
    assert published.keys() >= WATCHED


def test_alarms_name_metrics_by_the_dimension_under_which_they_are_published(
    templates: dict[str, Template],
) -> None:
    stream = io.StringIO()
    publish({"Sessions": 1}, policy="daily", namespace="Holdfast", stream=stream)
    described = json.loads(stream.getvalue())["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    of_policies = {dimensions for _, dimensions in watched(templates["holdfast-hub"]) if dimensions}
    assert of_policies == {(DIMENSION,)}
    assert described == [[DIMENSION]]


def test_who_may_read_the_deployed_configuration_and_who_may_look_at_accounts(
    configuration: Configuration,
) -> None:
    def invokable(people: str) -> set[str]:
        return {
            resource.rpartition(":")[2]
            for statement in POLICIES[people](configuration)
            if "lambda:InvokeFunction" in statement.actions
            for resource in statement.resources
        }

    assert "holdfast-show-configuration" in invokable("read-only")
    assert "holdfast-record-coverage" not in invokable("read-only")
    assert {"holdfast-show-configuration", "holdfast-record-coverage"} <= invokable("operator")
