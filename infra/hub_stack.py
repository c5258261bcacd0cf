"""The hub: schedules, sessions, the catalog, notifications and what people invoke, in one Region.

The table and its name must survive an accidental deletion of the stack: it is retained and protected.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from holdfast.model.configuration import Configuration
from infra.constructs.observability import (
    deploy_alarms,
    deploy_coverage,
    deploy_dashboard,
    deploy_dead_man,
    deploy_overdue,
    deploy_retention,
    deploy_sla_missed,
)
from infra.constructs.operators import deploy_operator_policies
from infra.constructs.schedules import deploy_schedules
from infra.constructs.site import deploy_site, output
from infra.constructs.storage import alarm_topic
from infra.names import Site


class HubStack(cdk.Stack):
    """Everything that exists once per installation."""

    def __init__(self, scope: Construct, name: str, configuration: Configuration, **options: object) -> None:
        super().__init__(scope, name, **options)  # type: ignore[arg-type]
        site = Site.hub(configuration)
        table = _catalog(self, site)
        topic = alarm_topic(self, "Results", site, site.topic_name)
        deploy_site(self, site)
        schedules = deploy_schedules(self, configuration, site)
        alarms = [
            alarm
            for deploy in (
                deploy_dead_man,
                deploy_alarms,
                deploy_overdue,
                deploy_coverage,
                deploy_retention,
                deploy_sla_missed,
            )
            for alarm in deploy(self, site, topic)
        ]
        deploy_dashboard(self, site, alarms)
        deploy_operator_policies(self, site)
        output(self, "CatalogTableName", table.table_name, "Catalog of sessions and restore points")
        output(self, "CatalogTableArn", table.table_arn, "Catalog of sessions and restore points")
        output(self, "ResultTopicArn", topic.topic_arn, "Subscribe here to be told about results and alarms")
        output(self, "ScheduleCount", str(len(schedules)), "Schedules, including the daily retention")


def _catalog(scope: Construct, site: Site) -> dynamodb.Table:
    table = dynamodb.Table(
        scope,
        "Catalog",
        table_name=site.table_name,
        partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=True
        ),
        deletion_protection=True,
        time_to_live_attribute="expires_at",
        encryption=dynamodb.TableEncryption.DEFAULT,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    table.add_global_secondary_index(
        index_name="by-time",
        partition_key=dynamodb.Attribute(name="gpk", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="gsk", type=dynamodb.AttributeType.STRING),
    )
    return table
