"""Dashboard and alarms of an installation.

The dead-man alarm must not depend on Holdfast's own code: it counts executions as Step Functions does, and
missing data is its alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from holdfast.model.configuration import AnyPolicy, SlaPolicy, SlaTemplate
from holdfast.model.firings import firings, sla_firings
from holdfast.model.ids import metric_label
from holdfast.settings import Settings
from infra.constructs.state_machine import MACHINES
from infra.function_table import rows_at
from infra.names import Place, Site, digest, pascal, slug

FIVE_MINUTES: Final = cdk.Duration.minutes(5)
DAY: Final = cdk.Duration.days(1)
WEEK_DAYS: Final = 7
NAMESPACE: Final = Settings().metrics_namespace
TREAT_BREACHING: Final = cloudwatch.TreatMissingData.BREACHING
NOT_BREACHING: Final = cloudwatch.TreatMissingData.NOT_BREACHING


def weekdays_of(policy: AnyPolicy, templates: Mapping[str, SlaTemplate]) -> frozenset[int]:
    """Days of the week (0 is Monday) on which a policy runs every week; rarer runs do not count."""
    selected = (
        sla_firings(templates[policy.sla_template]) if isinstance(policy, SlaPolicy) else firings(policy)
    )
    every_week = [
        firing.days.weekdays
        for firing in selected
        if not firing.days.day and not firing.days.ordinal and len(firing.days.months) == 12
    ]
    return frozenset().union(*every_week)


def longest_silence(
    policies: Iterable[AnyPolicy], templates: Mapping[str, SlaTemplate] = MappingProxyType({})
) -> int | None:
    """Days after which one of the policies must have run, at most a week; None when none runs every week."""
    days = frozenset().union(*(weekdays_of(policy, templates) for policy in policies if policy.enabled))
    if not days:
        return None
    gaps = [min((later - day - 1) % WEEK_DAYS + 1 for later in days) for day in days]
    return max(gaps)


def _policies(site: Site) -> list[AnyPolicy]:
    return [*site.configuration.policies, *site.configuration.sla_policies]


def _templates(site: Site) -> dict[str, SlaTemplate]:
    return {template.name: template for template in site.configuration.sla_templates}


def _executions(site: Site, machine: str, name: str, period: cdk.Duration) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/States",
        metric_name=name,
        dimensions_map={"StateMachineArn": site.machine_arn(machine)},
        statistic="Sum",
        period=period,
    )


def _function_metric(site: Site, verb: str, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/Lambda",
        metric_name=name,
        dimensions_map={"FunctionName": site.named(verb)},
        statistic=statistic,
        period=FIVE_MINUTES,
        label=verb,
    )


def _alarm(
    scope: Construct,
    site: Site,
    name: str,
    *,
    metric: cloudwatch.IMetric,
    description: str,
    threshold: float = 0,
    periods: int = 1,
    comparison: cloudwatch.ComparisonOperator = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
    missing: cloudwatch.TreatMissingData = NOT_BREACHING,
    topic: sns.ITopic,
) -> cloudwatch.Alarm:
    alarm = cloudwatch.Alarm(
        scope,
        f"{name}Alarm",
        alarm_name=f"{site.installation}-{site.place}-{name}",
        alarm_description=description,
        metric=metric,
        threshold=threshold,
        evaluation_periods=periods,
        datapoints_to_alarm=periods,
        comparison_operator=comparison,
        treat_missing_data=missing,
    )
    alarm.add_alarm_action(actions.SnsAction(topic))
    return alarm


def deploy_alarms(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """Alarms of one place: failed executions, broken functions, events that were not delivered."""
    alarms = [
        _alarm(
            scope,
            site,
            f"{pascal(machine)}Broken",
            metric=cloudwatch.MathExpression(
                expression="failed + aborted + late",
                using_metrics={
                    "failed": _executions(site, machine, "ExecutionsFailed", FIVE_MINUTES),
                    "aborted": _executions(site, machine, "ExecutionsAborted", FIVE_MINUTES),
                    "late": _executions(site, machine, "ExecutionsTimedOut", FIVE_MINUTES),
                },
                period=FIVE_MINUTES,
                label=f"{machine} executions that did not end well",
            ),
            description=f"An execution of {site.named(machine)} failed, was stopped or ran out of time. "
            "Runbook: docs/runbooks/execution-failed.md",
            topic=topic,
        )
        for machine, place in MACHINES.items()
        if place is site.place
    ]
    alarms.append(
        _alarm(
            scope,
            site,
            "Undelivered",
            metric=cloudwatch.Metric(
                namespace="AWS/SQS",
                metric_name="ApproximateNumberOfMessagesVisible",
                dimensions_map={"QueueName": site.undelivered_name},
                statistic="Maximum",
                period=FIVE_MINUTES,
            ),
            description="A scheduled event could not be delivered, or its function failed for good. "
            "Runbook: docs/runbooks/undelivered-event.md",
            topic=topic,
        )
    )
    return alarms


def deploy_dead_man(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """The alarm that fires when no session succeeded for as long as the schedules allow; none without any."""
    silence = longest_silence(_policies(site), _templates(site))
    if silence is None:
        return []
    alarm = _alarm(
        scope,
        site,
        "NothingRan",
        metric=_executions(site, "session", "ExecutionsSucceeded", DAY),
        description=f"No session ended in {silence} day(s), although a policy is due at least that often. "
        "Runbook: docs/runbooks/nothing-ran.md",
        threshold=1,
        periods=silence,
        comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        missing=TREAT_BREACHING,
        topic=topic,
    )
    return [alarm]


def _reported(policy: AnyPolicy, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """A metric that sessions of a policy report at their end."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"Policy": metric_label(policy.name)},
        statistic=statistic,
        period=DAY,
    )


def deploy_sla_missed(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """For each enabled SLA-based policy, the alarm that fires when the ledger of a day says: missed."""
    return [
        _alarm(
            scope,
            site,
            f"SlaMissed-{slug(policy.name)}-{digest(policy.name)}",
            metric=_reported(policy, "SlaMissed", "Maximum"),
            description=f"A product of policy {policy.name} missed its SLA. "
            "Runbook: docs/runbooks/sla-missed.md",
            topic=topic,
        )
        for policy in site.configuration.sla_policies
        if policy.enabled
    ]


def deploy_overdue(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """For each enabled policy, the alarm that fires when none of its sessions did well for too long."""
    alarms = []
    for policy in _policies(site):
        silence = longest_silence([policy], _templates(site))
        if silence is None:
            continue
        alarms.append(
            _alarm(
                scope,
                site,
                f"Overdue-{slug(policy.name)}-{digest(policy.name)}",
                metric=cloudwatch.MathExpression(
                    expression="sessions - failed",
                    using_metrics={
                        "sessions": _reported(policy, "Sessions"),
                        "failed": _reported(policy, "SessionsFailed"),
                    },
                    period=DAY,
                    label="sessions that did not fail",
                ),
                description=f"No session of policy {policy.name} did well in {silence} day(s). "
                "Runbook: docs/runbooks/policy-overdue.md",
                threshold=1,
                periods=silence,
                comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
                missing=TREAT_BREACHING,
                topic=topic,
            )
        )
    return alarms


def deploy_coverage(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """Alarms of the coverage ledger: failed instances, accounts out of reach or new, and a missing ledger."""
    watched = {
        "InstancesUnprotected": "Instances that a policy selects had no restore point made.",
        "AccountsOutOfReach": "Accounts of a policy's scope could not be looked at.",
        "AccountsNew": "Accounts appeared that were not there the day before.",
    }
    alarms = [
        _alarm(
            scope,
            site,
            f"Coverage{name}",
            metric=_of_ledger(name),
            description=f"{text} Runbook: docs/runbooks/coverage.md",
            topic=topic,
        )
        for name, text in watched.items()
    ]
    alarms.append(
        _alarm(
            scope,
            site,
            "CoverageNotRecorded",
            metric=_of_ledger("LedgersRecorded"),
            description="No coverage ledger was written for two days. Runbook: docs/runbooks/coverage.md",
            threshold=1,
            periods=2,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            missing=TREAT_BREACHING,
            topic=topic,
        )
    )
    return alarms


def deploy_retention(scope: Construct, site: Site, topic: sns.ITopic) -> list[cloudwatch.Alarm]:
    """Alarms of the daily retention pass: it did not run, or a shorter retention waits to be confirmed."""
    return [
        _alarm(
            scope,
            site,
            "RetentionNotRun",
            metric=_of_pass("RetentionPasses", "Sum"),
            description="No retention pass ended for two days. Runbook: docs/runbooks/retention.md",
            threshold=1,
            periods=2,
            comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            missing=TREAT_BREACHING,
            topic=topic,
        ),
        _alarm(
            scope,
            site,
            "RetentionShortened",
            metric=_of_pass("RestorePointsHeld", "Maximum"),
            description="Restore points would go by a retention that nobody has confirmed. "
            "Runbook: docs/runbooks/retention.md",
            topic=topic,
        ),
    ]


def _of_pass(name: str, statistic: str) -> cloudwatch.Metric:
    """A metric of the retention passes of a day."""
    return cloudwatch.Metric(namespace=NAMESPACE, metric_name=name, statistic=statistic, period=DAY)


def _of_ledger(name: str) -> cloudwatch.Metric:
    """A metric of the coverage ledger; a day that is recorded again counts once."""
    return cloudwatch.Metric(namespace=NAMESPACE, metric_name=name, statistic="Maximum", period=DAY)


def deploy_dashboard(
    scope: Construct, site: Site, alarms: Sequence[cloudwatch.Alarm]
) -> cloudwatch.Dashboard:
    """One page: alarms, executions, functions, in this Region."""
    dashboard = cloudwatch.Dashboard(
        scope, "Dashboard", dashboard_name=f"{site.installation}-{site.place}-{site.region}"
    )
    machines = [machine for machine, place in MACHINES.items() if place is site.place]
    outcomes = ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut")
    verbs = [row.verb for row in rows_at(site.place)]
    dashboard.add_widgets(cloudwatch.AlarmStatusWidget(alarms=list(alarms), title="Alarms", width=24))
    dashboard.add_widgets(
        *(
            cloudwatch.GraphWidget(
                title=f"Executions: {machine}",
                left=[_executions(site, machine, outcome, FIVE_MINUTES) for outcome in outcomes],
                width=24 // len(machines),
            )
            for machine in machines
        )
    )
    for title, name, statistic in (
        ("Errors by function", "Errors", "Sum"),
        ("Duration by function (ms, 99 of 100)", "Duration", "p99"),
        ("Throttles by function", "Throttles", "Sum"),
    ):
        metrics = [_function_metric(site, verb, name, statistic) for verb in verbs]
        dashboard.add_widgets(cloudwatch.GraphWidget(title=title, left=metrics, width=24))
    if site.place is Place.HUB:
        outcomes_of_sessions = _outcome_widgets()
        dashboard.add_widgets(*outcomes_of_sessions[:3])
        dashboard.add_widgets(*outcomes_of_sessions[3:])
        dashboard.add_widgets(*_sla_widgets())
        dashboard.add_widgets(_coverage_widget())
    return dashboard


def _every_policy(name: str, statistic: str) -> cloudwatch.MathExpression:
    """A metric of each policy that ever reported it, day by day."""
    expression = f"SEARCH('{{{NAMESPACE},Policy}} MetricName=\"{name}\"', '{statistic}', 86400)"
    return cloudwatch.MathExpression(expression=expression, using_metrics={}, period=DAY, label="")


def _sla_widgets() -> list[cloudwatch.IWidget]:
    """What the ledgers of SLA-based policies say, by product."""
    return [
        cloudwatch.GraphWidget(
            title=f"SLA: {product}s (%)",
            left=[_every_policy(f"Sla{product.capitalize()}Percent", "Minimum")],
            width=8,
        )
        for product in ("snapshot", "replica", "backup")
    ]


def _outcome_widgets() -> list[cloudwatch.IWidget]:
    """What sessions reported, by policy and day."""
    return [
        cloudwatch.GraphWidget(title=title, left=[_every_policy(name, "Sum")], width=8)
        for title, name in (
            ("Instances by policy and day", "Instances"),
            ("Failed instances", "InstancesFailed"),
            ("Unreachable accounts", "AccountsUnreachable"),
            ("Bytes read", "BytesRead"),
            ("Bytes stored", "BytesStored"),
            ("Duration (s)", "DurationSeconds"),
        )
    ]


def _coverage_widget() -> cloudwatch.IWidget:
    """How every instance stood, day by day."""
    names = ("Protected", "Unprotected", "Excluded", "NotSelected", "Unreachable")
    metrics = [_of_ledger(f"Instances{name}") for name in names]
    return cloudwatch.GraphWidget(title="Coverage: every instance", left=metrics, stacked=True, width=24)
