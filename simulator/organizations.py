"""The Organization: units, service control policies, suspended accounts, disabled Regions.

The tree itself is moto's; what follows from it for a request, and for stack sets when accounts come and go,
is here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError
from moto.organizations.models import FakeAccount, OrganizationsBackend, organizations_backends
from moto.organizations.responses import OrganizationsResponse

from simulator import policy
from simulator.patches import Patches
from simulator.stacksets import stack_sets

if TYPE_CHECKING:
    from simulator.simulator import Simulator


class Organizations:
    """The Organization of the world, also when there is none; ``simulator.organizations``."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._denials: list[tuple[str, policy.Document]] = []
        for denial in simulator.world.denials:
            self.deny(denial.target, denial.actions)

    def deny(
        self, target: str, actions: Sequence[str], *, condition: Mapping[str, Any] | None = None
    ) -> None:
        """Attach a policy that denies ``actions`` in an account, a unit (path or id) or ``/`` (the root)."""
        statement = {"Effect": "Deny", "Action": list(actions), "Resource": "*"}
        if condition:
            statement["Condition"] = dict(condition)
        self._denials.append((target, {"Statement": [statement]}))
        self._changed()

    def allow_again(self) -> None:
        """Take back every denial made with :meth:`deny` or the world file."""
        self._denials.clear()
        self._changed()

    def _changed(self) -> None:
        recorder = vars(self._simulator).get("recorder")
        if recorder is not None:
            recorder.forget_verdicts()

    def policies(self, account: str) -> list[tuple[str, policy.Document]]:
        """Service control policies that bind an account; none bind the management account."""
        management = self._management()
        if account == management:
            return []
        denying = [(target, f"scp {target}", document) for target, document in self._denials]
        if management is not None:
            denying += self._attached(management)
        if not denying:
            return []
        places = self._places(account)
        return [(name, document) for target, name, document in denying if target in places]

    def _attached(self, management: str) -> list[tuple[str, str, policy.Document]]:
        """Places, names and documents of attached service control policies that deny something."""
        return [
            (getattr(target, "id", target), f"scp {attached.name}", document)
            for attached in organizations_backends[management]["aws"].policies
            if attached.type == "SERVICE_CONTROL_POLICY"
            for document in [json.loads(attached.content)]
            if any(statement["Effect"] == "Deny" for statement in policy.statements(document))
            for target in attached.attachments
        ]

    def context(self, account: str) -> dict[str, list[str]]:
        """Condition keys that a caller's account brings."""
        management = self._management()
        if management is None or not self._is_member(account):
            return {}
        return {"aws:principalorgid": [organizations_backends[management]["aws"].org.id]}

    def unusable(self, account: str) -> str:
        """Why nobody can work in an account; empty when one can."""
        for listed in self._accounts():
            if listed.id == account and listed.status != "ACTIVE":
                return f"the account {account} is {listed.status}"
        return ""

    def suspended(self) -> set[str]:
        """Accounts of the Organization in which nobody can work."""
        return {one.id for one in self._accounts() if one.status != "ACTIVE"}

    def is_disabled(self, account: str, region: str) -> bool:
        """Whether a Region is not enabled in an account."""
        return any(
            one.id == account and region in one.disabled_regions for one in self._simulator.world.accounts
        )

    def active_accounts_below(self, units: Iterable[str]) -> list[str]:
        """Active accounts in units (or the root) and the units below them, without the management account."""
        management = self._management()
        if management is None:
            return []
        backend = organizations_backends[management]["aws"]
        inside = set(units)
        grown = True
        while grown:
            more = {unit.id for unit in backend.ou if unit.parent_id in inside} - inside
            inside |= more
            grown = bool(more)
        return sorted(
            one.id
            for one in backend.accounts
            if one.parent_id in inside and one.status == "ACTIVE" and one.id != management
        )

    def _places(self, account: str) -> set[str]:
        """Every name under which a policy can be attached above an account: ids, unit paths, ``/``."""
        places = {account, "/"}
        management = self._management()
        if management is None:
            return places
        backend = organizations_backends[management]["aws"]
        parents = {one.id: one.parent_id for one in (*backend.accounts, *backend.ou)}
        names = {unit.id: unit.name for unit in backend.ou}
        chain = []
        place = parents.get(account)
        while place:
            chain.append(place)
            place = parents.get(place)
        places.update(chain)
        path = ""
        for unit in reversed([one for one in chain if one in names and not one.startswith("r-")]):
            path = f"{path}/{names[unit]}" if path else names[unit]
            places.add(path)
        return places

    def _management(self) -> str | None:
        organization = self._simulator.world.organization
        if organization is None:
            return None
        backend = organizations_backends[organization.management_account]["aws"]
        return organization.management_account if backend.org is not None else None

    def _accounts(self) -> list[FakeAccount]:
        management = self._management()
        return [] if management is None else list(organizations_backends[management]["aws"].accounts)

    def _is_member(self, account: str) -> bool:
        return any(one.id == account for one in self._accounts())


def install(simulator: Simulator, patches: Patches) -> None:
    """Tell stack sets of accounts that come and go; let delegated administrators read."""
    _follow_accounts(patches)

    def backend_of(response: OrganizationsResponse) -> OrganizationsBackend:
        own = organizations_backends[response.current_account][response.partition]
        organization = simulator.world.organization
        if organization is None or own.org is not None:
            return own
        above = organizations_backends[organization.management_account][response.partition]
        delegated = response.current_account in {admin.account.id for admin in above.admins}
        action = response._get_action()
        if above.org is None or response.current_account not in {one.id for one in above.accounts}:
            return own
        if action == "DescribeOrganization" or (delegated and action.startswith(("List", "Describe"))):
            return above
        raise JsonRESTError("AccessDeniedException", "You don't have permissions to access this resource.")

    patches.set(OrganizationsResponse, "organizations_backend", property(backend_of))


def uninstall() -> None:
    """Forget who belongs to whom: moto keeps that beyond the end of its mock."""
    organizations_backends.master_accounts.clear()


def _follow_accounts(patches: Patches) -> None:
    """Deploy stack sets where accounts appear, and take them away where they leave."""

    def create_account(backend: OrganizationsBackend, **given: Any) -> dict[str, Any]:
        status: dict[str, Any] = original_create(backend, **given)
        for one in stack_sets():
            one.account_joined(backend.accounts[-1].id)
        return status

    def move_account(backend: OrganizationsBackend, **given: Any) -> None:
        original_move(backend, **given)
        for one in stack_sets():
            if one.reaches(given["AccountId"]):
                one.account_joined(given["AccountId"])
            else:
                one.account_left(given["AccountId"])

    def remove_account(backend: OrganizationsBackend, **given: str) -> None:
        original_remove(backend, **given)
        for one in stack_sets():
            one.account_left(given["AccountId"])

    original_create = patches.set(OrganizationsBackend, "create_account", create_account)
    original_move = patches.set(OrganizationsBackend, "move_account", move_account)
    original_remove = patches.set(OrganizationsBackend, "remove_account_from_organization", remove_account)
