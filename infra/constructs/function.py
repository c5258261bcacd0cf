"""One factory for all functions: role, log group and function from a row of the function table.

A role has only the statements of its row: nothing here may add a permission behind the table's back.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from holdfast.settings import Settings
from infra.constructs.layers import ARCHITECTURE, GENERATED, RUNTIME, Layers
from infra.function_table import FUNCTIONS_DIRECTORY, Row
from infra.names import Site, pascal
from infra.statements import acknowledge, acknowledge_wildcards, policy_document

LOG_RETENTION: Final = logs.RetentionDays.THREE_MONTHS


def service_role(
    scope: Construct,
    name: str,
    *,
    role_name: str,
    service: str,
    document: iam.PolicyDocument,
    conditions: dict[str, object] | None = None,
) -> iam.Role:
    """A role for an AWS service with one inline policy and a name that others can refer to."""
    return iam.Role(
        scope,
        name,
        role_name=role_name,
        assumed_by=iam.ServicePrincipal(service, conditions=conditions),
        inline_policies={"Allowed": document},
    )


def deploy_function(
    scope: Construct, row: Row, site: Site, *, layers: Layers, settings: Settings, undelivered: sqs.IQueue
) -> lambda_.Function:
    """The function of a row at a site."""
    statements = row.statements(site)
    home = Construct(scope, pascal(row.verb))
    role = service_role(
        home,
        "Role",
        role_name=site.role_name(row.verb),
        service="lambda.amazonaws.com",
        document=policy_document(statements, row.verb),
    )
    acknowledge_wildcards(role, statements)
    name = site.named(row.verb)
    group = logs.LogGroup(
        home,
        "Logs",
        log_group_name=f"/aws/lambda/{name}",
        retention=LOG_RETENTION,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    function = lambda_.Function(
        home,
        "Function",
        function_name=name,
        description=f"Holdfast: {row.verb.replace('_', ' ')}",
        runtime=RUNTIME,
        architecture=ARCHITECTURE,
        handler=f"{row.verb}.handler",
        code=lambda_.Code.from_asset(str(FUNCTIONS_DIRECTORY), exclude=[*GENERATED, "__init__.py"]),
        layers=layers.all(),
        memory_size=row.memory_mb,
        timeout=cdk.Duration.seconds(row.timeout_seconds),
        environment=settings.render(),
        role=role.without_policy_updates(),
        log_group=group,
        tracing=lambda_.Tracing.ACTIVE if row.traced else lambda_.Tracing.PASS_THROUGH,
        dead_letter_queue=undelivered if row.event_driven else None,
    )
    acknowledge(
        function,
        "L1",
        "Python 3.13 is supported, and the libraries are locked for it: both change together.",
    )
    return function
