"""The tree of an AWS Organization, read under its management role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.aws.clients import CONFIG
from holdfast.aws.faults import translating
from holdfast.ports import OrganizationAccount

if TYPE_CHECKING:
    import boto3


class AwsOrganization:
    """`ports.OrganizationTree`."""

    def __init__(self, session: boto3.Session, role: str) -> None:
        self._client = session.client("organizations", config=CONFIG)
        self._role = role

    def roots(self) -> Sequence[str]:
        return [one["Id"] for one in self._pages("list_roots", "Roots")]

    def units(self, parent: str) -> Sequence[str]:
        found = self._pages("list_organizational_units_for_parent", "OrganizationalUnits", ParentId=parent)
        return [one["Id"] for one in found]

    def accounts(self, parent: str) -> Sequence[OrganizationAccount]:
        return [
            OrganizationAccount(one["Id"], one.get("Name", ""), one.get("State") or one.get("Status", ""))
            for one in self._pages("list_accounts_for_parent", "Accounts", ParentId=parent)
        ]

    def _pages(self, operation: str, items: str, **arguments: Any) -> Iterator[Any]:
        action = "organizations:" + "".join(word.capitalize() for word in operation.split("_"))
        with translating(action, role=self._role, resource=arguments.get("ParentId", "")):
            for page in self._client.get_paginator(operation).paginate(**arguments):
                yield from page[items]
