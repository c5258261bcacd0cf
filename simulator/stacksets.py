"""Stack sets: a template in every account of organizational units, also in accounts that appear later.

The instances are ordinary stacks of their accounts, so that what they create is found, changed and deleted
there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from moto.cloudformation.models import cloudformation_backends
from moto.core.common_models import CloudFormationModel

from simulator.change_sets import template_at
from simulator.resources import Properties, Resource


class StackSet(Resource, CloudFormationModel):
    TYPE = "AWS::CloudFormation::StackSet"
    NAME = "StackSetName"

    def create(self) -> None:
        if self.properties.get("PermissionModel") != "SERVICE_MANAGED":
            raise ValueError(f"stack set {self.id}: only SERVICE_MANAGED stack sets are deployed here")
        self.instances: dict[tuple[str, str], str] = {}
        self.id = f"{self.name}:{self.account}-{self.region}"
        self.attributes = {"StackSetId": self.id}
        self.deploy()

    def update(self, before: Properties) -> None:
        self.deploy()

    def remove(self) -> None:
        for account, region in list(self.instances):
            self._delete_instance(account, region)

    def reaches(self, account: str) -> bool:
        """Whether an account is a target of the set as it is now."""
        return account in {target for target, _ in self._targets()}

    def account_joined(self, account: str) -> None:
        """Deploy into an account that appeared in, or moved to, a unit of the set."""
        if self._is_automatic() and self.reaches(account):
            self.deploy()

    def account_left(self, account: str) -> None:
        """Remove the stacks of an account that left, unless the set retains them."""
        automatic = self.properties.get("AutoDeployment", {})
        if str(automatic.get("RetainStacksOnAccountRemoval", "false")).lower() == "true":
            return
        for target, region in list(self.instances):
            if target == account:
                self._delete_instance(target, region)

    def deploy(self) -> None:
        """Bring the instances to the targets and the template of the set."""
        wanted = dict.fromkeys(self._targets())
        for account, region in [key for key in self.instances if key not in wanted]:
            self._delete_instance(account, region)
        given = {
            one["ParameterKey"]: str(one["ParameterValue"]) for one in self.properties.get("Parameters", ())
        }
        for account, region in wanted:
            backend = cloudformation_backends[account][region]
            name = f"StackSet-{self.name}"
            if (account, region) in self.instances:
                parameters = [
                    {"parameter_key": key, "parameter_value": value} for key, value in given.items()
                ]
                backend.update_stack(name, self._template(), None, parameters, None)
            else:
                stack = backend.create_stack(name, self._template(), given)
                self.instances[account, region] = stack.stack_id

    def _is_automatic(self) -> bool:
        return str(self.properties.get("AutoDeployment", {}).get("Enabled", "false")).lower() == "true"

    def _template(self) -> str:
        if "TemplateBody" in self.properties:
            body = self.properties["TemplateBody"]
            return body if isinstance(body, str) else json.dumps(body)
        return template_at(self.properties["TemplateURL"], self.account)

    def _targets(self) -> Iterator[tuple[str, str]]:
        """Accounts and Regions of the set; the management account is never one of them."""
        organizations = _control().organizations
        for group in self.properties.get("StackInstancesGroup", ()):
            targets = group["DeploymentTargets"]
            accounts = organizations.active_accounts_below(targets.get("OrganizationalUnitIds", ()))
            listed = set(targets.get("Accounts", ()))
            kind = targets.get("AccountFilterType", "NONE")
            if kind == "INTERSECTION":
                accounts = [account for account in accounts if account in listed]
            elif kind == "DIFFERENCE":
                accounts = [account for account in accounts if account not in listed]
            elif kind == "UNION":
                accounts = sorted({*accounts, *listed})
            for account in accounts:
                for region in group["Regions"]:
                    yield account, region

    def _delete_instance(self, account: str, region: str) -> None:
        stack_id = self.instances.pop((account, region))
        cloudformation_backends[account][region].delete_stack(stack_id)


def stack_sets() -> list[StackSet]:
    """Every stack set of the world."""
    return [
        resource
        for regions in list(cloudformation_backends.values())
        for backend in list(regions.values())
        for stack in list(backend.stacks.values())
        for resource in list(stack.resource_map._parsed_resources.values())
        if isinstance(resource, StackSet)
    ]


def _control() -> Any:
    from simulator.simulator import current

    return current().control
