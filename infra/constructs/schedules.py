"""EventBridge schedules: when each policy runs, and the daily retention of backups and manual snapshots.

The event carries the scheduled time, not the time of delivery: a session is named after it, so that an event
delivered twice or late starts nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.expressions import Expression, eventbridge_expressions, expressions_of
from holdfast.model.firings import closings, sla_firings
from holdfast.model.regions import TIME_ZONES
from infra.constructs.function import service_role
from infra.function_table import DAILY, SCHEDULED
from infra.names import Site, digest, slug
from infra.permissions import scheduler_role
from infra.statements import policy_document

SCHEDULED_TIME: Final = "<aws.scheduler.scheduled-time>"
RETENTION_HOUR: Final = 4
RETRIED_SECONDS: Final = 3600


def _schedule(
    scope: Construct,
    name: str,
    *,
    group: scheduler.CfnScheduleGroup,
    expression: str,
    time_zone: str,
    target_arn: str,
    role_arn: str,
    undelivered_arn: str,
    event: Mapping[str, object],
    description: str,
    enabled: bool = True,
) -> scheduler.CfnSchedule:
    schedule = scheduler.CfnSchedule(
        scope,
        name,
        name=name,
        group_name=group.name,
        description=description,
        schedule_expression=expression,
        schedule_expression_timezone=time_zone,
        state="ENABLED" if enabled else "DISABLED",
        flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
        target=scheduler.CfnSchedule.TargetProperty(
            arn=target_arn,
            role_arn=role_arn,
            input=json.dumps(event, sort_keys=True),
            retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=RETRIED_SECONDS, maximum_retry_attempts=60
            ),
            dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=undelivered_arn),
        ),
    )
    schedule.add_resource_dependency(group)
    return schedule


class _Timer(NamedTuple):
    """One expression of a policy, the function that it invokes, and its number among its like."""

    policy: AnyPolicy
    region: str
    verb: str
    number: int
    expression: Expression

    @property
    def name(self) -> str:
        end = "-close" if self.verb == "close_window" else ""
        unique = digest(self.policy.name + self.region)
        return f"{slug(self.policy.name)}-{unique}{end}-{self.number}"

    @property
    def description(self) -> str:
        what = "Windows of policy" if self.verb == "close_window" else "Policy"
        where = f" in {self.region}" if self.region else ""
        return f"{what} {self.policy.name}{where}"[:512]


def _timers(configuration: Configuration) -> Iterator[_Timer]:
    """Every expression of every policy; those of SLA-based ones Region by Region, in its time zone."""
    for policy in configuration.policies:
        for number, expression in enumerate(eventbridge_expressions(policy)):
            yield _Timer(policy, "", "start_session", number, expression)
    templates = {template.name: template for template in configuration.sla_templates}
    for sla in configuration.sla_policies:
        template = templates[sla.sla_template]
        for region in sorted(sla.regions):
            zone = configuration.region_time_zones.get(region) or TIME_ZONES[region]
            for verb, selected in (
                ("start_session", sla_firings(template)),
                ("close_window", closings(template)),
            ):
                for number, expression in enumerate(expressions_of(selected, zone)):
                    yield _Timer(sla, region, verb, number, expression)


def deploy_schedules(
    scope: Construct, configuration: Configuration, site: Site
) -> list[scheduler.CfnSchedule]:
    """Schedules of every policy, and the daily ones of retention, in the hub."""
    role = service_role(
        scope,
        "SchedulerRole",
        role_name=site.role_name("scheduler"),
        service="scheduler.amazonaws.com",
        document=policy_document(scheduler_role(site, SCHEDULED), "scheduler"),
        conditions={
            "StringEquals": {
                "aws:SourceAccount": site.account,
                "aws:SourceArn": site.arn("scheduler", f"schedule-group/{site.schedule_group}"),
            }
        },
    )
    group = scheduler.CfnScheduleGroup(scope, "Schedules", name=site.schedule_group)
    made = [
        _schedule(
            scope,
            timer.name,
            group=group,
            expression=timer.expression.cron,
            time_zone=timer.expression.time_zone,
            target_arn=site.function_arn(timer.verb),
            role_arn=role.role_arn,
            undelivered_arn=site.undelivered_arn,
            event={"policy": timer.policy.name, "scheduled_at": SCHEDULED_TIME}
            | ({"region": timer.region} if timer.region else {}),
            description=timer.description,
            enabled=timer.policy.enabled,
        )
        for timer in _timers(configuration)
    ]
    daily = [
        _schedule(
            scope,
            verb.replace("_", "-"),
            group=group,
            expression=f"cron(0 {RETENTION_HOUR} * * ? *)",
            time_zone=configuration.service_time_zone,
            target_arn=site.function_arn(verb),
            role_arn=role.role_arn,
            undelivered_arn=site.undelivered_arn,
            event={"scheduled_at": SCHEDULED_TIME},
            description=f"Daily: {verb.replace('_', ' ')}",
        )
        for verb in DAILY
    ]
    return [*made, *daily]
