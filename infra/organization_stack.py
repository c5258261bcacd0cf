"""The spoke roles in every member account of an Organization: a StackSet that also follows new accounts.

Deployed in the management account, or in an account that is a delegated administrator of StackSets. A
StackSet never reaches the management account itself: that one gets a spoke stack.
"""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from holdfast.model.configuration import Configuration, Organization
from infra.constructs.site import output
from infra.duties import member_roles
from infra.spoke_stack import deploy_roles, organization_parameter


def member_template(configuration: Configuration, organization: Organization) -> dict[str, Any]:
    """The template that every member account gets; it fits any account and Region."""
    synthesizer = cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    with TemporaryDirectory() as scratch:  # an app of its own, away from the output of the app around it
        app = cdk.App(outdir=scratch, analytics_reporting=False)
        stack = cdk.Stack(app, "Spoke", synthesizer=synthesizer)
        deploy_roles(stack, configuration, member_roles(organization), cdk.Aws.ACCOUNT_ID)
        template: dict[str, Any] = app.synth().get_stack_by_name("Spoke").template
    return template


class OrganizationStack(cdk.Stack):
    """The StackSet of one Organization."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        configuration: Configuration,
        organization: Organization,
        **options: object,
    ) -> None:
        super().__init__(scope, name, **options)  # type: ignore[arg-type]
        organization_id = organization_parameter(self)
        units = cdk.CfnParameter(
            self,
            "OrganizationalUnitIds",
            type="CommaDelimitedList",
            default=",".join(_units(configuration, organization)) or None,
            description="Root (r-...) or units (ou-...) whose accounts get the roles, now and when they join",
        )
        caller = cdk.CfnParameter(
            self,
            "CallAs",
            default="SELF",
            allowed_values=["SELF", "DELEGATED_ADMIN"],
            description="SELF in the management account, DELEGATED_ADMIN in a delegated administrator's",
        )
        stack_set = cdk.CfnStackSet(
            self,
            "Spokes",
            stack_set_name=f"{configuration.installation}-spoke",
            description="Roles that Holdfast assumes in protected accounts",
            permission_model="SERVICE_MANAGED",
            call_as=caller.value_as_string,
            auto_deployment=cdk.CfnStackSet.AutoDeploymentProperty(
                enabled=True, retain_stacks_on_account_removal=False
            ),
            managed_execution={"Active": True},
            capabilities=["CAPABILITY_NAMED_IAM"],
            parameters=[
                cdk.CfnStackSet.ParameterProperty(
                    parameter_key="OrganizationId", parameter_value=organization_id.value_as_string
                )
            ],
            operation_preferences=cdk.CfnStackSet.OperationPreferencesProperty(
                # One broken account must not keep the others from being protected.
                failure_tolerance_percentage=100,
                max_concurrent_percentage=100,
                region_concurrency_type="PARALLEL",
            ),
            stack_instances_group=[
                cdk.CfnStackSet.StackInstancesProperty(
                    deployment_targets=cdk.CfnStackSet.DeploymentTargetsProperty(
                        organizational_unit_ids=units.value_as_list
                    ),
                    regions=[configuration.hub_region],  # IAM is global: one Region is enough
                )
            ],
            template_body=json.dumps(member_template(configuration, organization), separators=(",", ":")),
        )
        output(self, "StackSetId", stack_set.ref, f"Roles in the accounts of {organization.name}")


def _units(configuration: Configuration, organization: Organization) -> list[str]:
    """The units that policies name; none when a policy covers the entire Organization."""
    policies = (*configuration.policies, *configuration.sla_policies)
    chosen = [policy.source.units for policy in policies if policy.source.organization == organization.name]
    return sorted({unit for units in chosen for unit in units}) if chosen and all(chosen) else []
