"""The managed policies for people, to attach to the roles of an identity provider.

Their names are what others attach by: a renamed policy locks people out.
"""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.constructs.site import output
from infra.names import Site, pascal
from infra.operator_permissions import POLICIES
from infra.statements import MANAGED_LIMIT, acknowledge_wildcards, policy_document


def deploy_operator_policies(scope: Construct, site: Site) -> None:
    """One managed policy for each kind of person, with an output for its ARN."""
    for name, statements_of in POLICIES.items():
        statements = statements_of(site.configuration)
        home = pascal(name.replace("-", "_"))
        policy = iam.ManagedPolicy(
            scope,
            f"{home}Policy",
            managed_policy_name=site.named(name),
            description=(statements_of.__doc__ or "").splitlines()[0],
            document=policy_document(statements, name, MANAGED_LIMIT),
        )
        acknowledge_wildcards(policy, statements)
        output(scope, f"{home}PolicyArn", policy.managed_policy_arn, f"For people: {name}")
