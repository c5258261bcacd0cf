"""The roles that Holdfast assumes in a protected account.

The same roles reach the member accounts of an Organization by a StackSet; this stack is for accounts that are
configured one by one, and for the management account, which a StackSet leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from holdfast.model.configuration import Configuration
from infra.constructs.site import output
from infra.duties import Duty, SpokeRole
from infra.names import digest
from infra.spoke_permissions import Spoke, statements_of, trust
from infra.statements import acknowledge_wildcards, policy_document

ANY_ORGANIZATION: Final = "o-*"
_PURPOSES: Final = {
    Duty.BACKUP: "snapshots of instances, and reading them for image-level backups",
    Duty.RESTORE: "restores of volumes and instances",
    Duty.ORGANIZATION: "accounts and units of the Organization",
}


def organization_parameter(scope: Construct) -> cdk.CfnParameter:
    """The Organization that the backup account must belong to."""
    return cdk.CfnParameter(
        scope,
        "OrganizationId",
        default=ANY_ORGANIZATION,
        allowed_pattern=r"^o-(\*|[a-z0-9]{10,32})$",
        description="Organization (o-...) that callers must belong to; o-* accepts any Organization",
    )


def deploy_roles(
    scope: Construct, configuration: Configuration, roles: Sequence[SpokeRole], account: str
) -> None:
    """The given roles, with an output for the ARN of each."""
    belongs = (
        organization_parameter(scope).value_as_string if any(role.in_organization for role in roles) else ""
    )
    for role in roles:
        statements = statements_of(Spoke(configuration, account), role.duties)
        name = f"{''.join(duty.capitalize() for duty in role.duties)}{digest(role.path + role.name)}"
        description = f"Holdfast: {'; '.join(_PURPOSES[duty] for duty in role.duties)}"
        made = iam.Role(
            scope,
            name,
            role_name=role.name,
            path=role.path,
            description=description,
            max_session_duration=cdk.Duration.hours(1),
            assumed_by=iam.AccountPrincipal(configuration.backup_account),
            inline_policies={"Allowed": policy_document(statements, role.name)},
        )
        acknowledge_wildcards(made, statements)
        resource = made.node.default_child
        resource.assume_role_policy_document = trust(  # type: ignore[union-attr]
            configuration, role, belongs if role.in_organization else ""
        )
        output(scope, f"{name}RoleArn", made.role_arn, description)


class SpokeStack(cdk.Stack):
    """The roles of one account."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        configuration: Configuration,
        roles: Sequence[SpokeRole],
        **options: object,
    ) -> None:
        super().__init__(scope, name, **options)  # type: ignore[arg-type]
        deploy_roles(self, configuration, roles, roles[0].account)
