"""All stacks of an installation, from its configuration.

Each stack is bound to its account and Region, so that one `cdk deploy` by name never lands elsewhere; nothing
is looked up, so that synthesis works offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import aws_cdk as cdk

from holdfast.model.configuration import Configuration
from infra.cell_stack import CellStack
from infra.duties import spoke_roles
from infra.hub_stack import HubStack
from infra.names import distinct_slugs
from infra.organization_stack import OrganizationStack
from infra.repository_stack import RepositoryStack
from infra.spoke_stack import SpokeStack

INSTALLATION_TAG = "holdfast:installation"


def build(app: cdk.App, configuration: Configuration) -> Sequence[cdk.Stack]:
    """Add every stack to ``app``; the ids are what `cdk deploy` takes."""
    name = configuration.installation
    backup = configuration.backup_account

    def placed(account: str, region: str, description: str) -> dict[str, object]:
        # The version rule asks for an SSM parameter at deployment, which other accounts and simulations lack.
        return {
            "env": cdk.Environment(account=account, region=region),
            "synthesizer": cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
            "description": f"Holdfast {name}: {description}",
        }

    stacks: list[cdk.Stack] = []
    slugs = distinct_slugs([repository.name for repository in configuration.repositories])
    for repository in configuration.repositories:
        options = placed(backup, repository.region, f"repository {repository.name}")
        stacks.append(
            RepositoryStack(
                app, f"{name}-repository-{slugs[repository.name]}", configuration, repository, **options
            )
        )
    stacks.append(
        HubStack(app, f"{name}-hub", configuration, **placed(backup, configuration.hub_region, "hub"))
    )
    for region in configuration.regions():
        options = placed(backup, region, f"cell of {region}")
        stacks.append(CellStack(app, f"{name}-cell-{region}", configuration, region, **options))
    for account, roles in groupby(spoke_roles(configuration), key=lambda role: role.account):
        options = placed(account, configuration.hub_region, f"roles in {account}")
        stacks.append(SpokeStack(app, f"{name}-spoke-{account}", configuration, tuple(roles), **options))
    for organization in configuration.organizations:
        account = organization.management_role.split(":")[4]
        options = placed(account, configuration.hub_region, f"roles in the accounts of {organization.name}")
        several = len(configuration.organizations) > 1
        stack_id = f"{name}-organization-{account}" if several else f"{name}-organization"
        stacks.append(OrganizationStack(app, stack_id, configuration, organization, **options))
    for stack in stacks:
        cdk.Tags.of(stack).add(INSTALLATION_TAG, name)
    return stacks
