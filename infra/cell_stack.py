"""A cell: what protects and restores the instances of one Region, in that Region.

A cell knows the hub by names alone; a failed Region must not stop another one.
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from holdfast.model.configuration import Configuration
from infra.constructs.observability import deploy_alarms, deploy_dashboard
from infra.constructs.site import deploy_site, output
from infra.constructs.storage import alarm_topic
from infra.names import Place, Site


class CellStack(cdk.Stack):
    """Everything that exists once per protected Region."""

    def __init__(
        self, scope: Construct, name: str, configuration: Configuration, region: str, **options: object
    ) -> None:
        super().__init__(scope, name, **options)  # type: ignore[arg-type]
        site = Site(configuration, Place.CELL, region)
        deploy_site(self, site)
        # Alarms can only tell a topic of their own Region.
        topic = alarm_topic(self, "Alarms", site, f"{site.installation}-cell-alarms")
        deploy_dashboard(self, site, deploy_alarms(self, site, topic))
        output(
            self, "AlarmTopicArn", topic.topic_arn, "Subscribe here to be told about alarms of this Region"
        )
