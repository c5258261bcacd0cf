"""What hub and cells have in common: a work bucket, a queue, layers, functions, state machines.

Outputs name every ARN that a person needs; their names are part of what users script against.
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from holdfast.settings import Settings
from infra.constructs.function import deploy_function
from infra.constructs.layers import CONFIGURATION_PATH, layers
from infra.constructs.state_machine import MACHINES, deploy_machine
from infra.constructs.storage import undelivered_queue, work_bucket
from infra.function_table import rows_at
from infra.names import Site, pascal


def output(scope: Construct, name: str, value: str, description: str) -> None:
    """One stack output."""
    cdk.CfnOutput(scope, name, value=value, description=description)


def settings_of(site: Site) -> Settings:
    """What every function of a site is told."""
    hub = site.configuration.hub_region
    return Settings(
        installation=site.installation,
        hub_region=hub,
        configuration=CONFIGURATION_PATH,
        table_name=site.table_name,
        work_bucket=site.work_bucket,
        topic_arn=site.topic_arn,
        session_machine_arn=site.machine_arn("session", region=hub),
        cell_machine_name=site.named("cell"),
        restore_machine_name=site.named("restore"),
    )


def deploy_site(scope: Construct, site: Site) -> None:
    """The work bucket, queue, functions and state machines of a hub or cell, with their outputs."""
    bucket = work_bucket(scope, site)
    undelivered = undelivered_queue(scope, site)
    shared = layers(scope, site.configuration)
    settings = settings_of(site)
    for row in rows_at(site.place):
        function = deploy_function(
            scope, row, site, layers=shared, settings=settings, undelivered=undelivered
        )
        output(scope, f"{pascal(row.verb)}FunctionArn", function.function_arn, f"Function {row.verb}")
    for machine, place in MACHINES.items():
        if place is site.place:
            deployed = deploy_machine(scope, machine, site)
            output(scope, f"{pascal(machine)}MachineArn", deployed.attr_arn, f"State machine {machine}")
    output(scope, "WorkBucketName", bucket.bucket_name, "Lists of running executions")
    output(scope, "UndeliveredQueueUrl", undelivered.queue_url, "Events that could not be delivered")
