"""Under which policy the instance of a chain stands, by the inventory of the account that it is in.

Every inventory is read once in an invocation. An instance that it does not show is asked for once more by its
id before anybody believes that it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind
from holdfast.model.scope import Account
from holdfast.operations.retention.snapshot_retention import Chain, Sets
from holdfast.operations.services import OnDemandServices
from holdfast.planning.ruling import Ruler, Standing, ruler_of
from holdfast.ports import Spoke

Place = tuple[str, str]
"""Account and Region."""


@dataclass(slots=True)
class Rulers:
    """What one invocation knows of accounts and instances.

    ``accounts`` says where accounts lie, ``access`` by which role each is entered, ``unread`` which
    Organizations could not be walked.
    """

    configuration: Configuration
    accounts: Mapping[str, Account]
    access: Mapping[str, str]
    unread: Iterable[str]
    services: OnDemandServices
    _found: dict[Place, dict[str, Instance] | HoldfastError] = field(default_factory=dict)

    def spoke(self, place: Place) -> Spoke:
        """EC2 of an account and Region, under its backup role. Raises ConfigurationError."""
        return self.services.spoke_in(*place, self.access.get(place[0], ""))

    def account(self, number: str) -> Account:
        """Where an account lies; one that no Organization showed lies in none."""
        return self.accounts.get(number) or Account(account=number)

    def inventory(self, place: Place) -> dict[str, Instance]:
        """The instances of a place by id. Raises HoldfastError, the same one every time."""
        if place not in self._found:
            try:
                self._found[place] = {one.instance_id: one for one in self.spoke(place).instances()}
            except HoldfastError as error:
                self._found[place] = error
        found = self._found[place]
        if isinstance(found, HoldfastError):
            raise found
        return found

    def of_instance(self, instance_id: str, place: Place) -> Ruler:
        """The judge of what was made of an instance. Raises HoldfastError when its place cannot be read."""
        inventory = self.inventory(place)
        instance = inventory.get(instance_id) or next(iter(self.spoke(place).instances([instance_id])), None)
        return ruler_of(self.configuration, instance, self.account(place[0]), tuple(self.unread))

    def of_chain(self, chain: Chain, sets: Sets) -> tuple[Ruler, str]:
        """The judge of a chain, and the Region of its instance; UNKNOWN when that cannot be found out."""
        own = (chain.account, chain.region)
        place = own if chain.kind is Kind.SNAPSHOT else _source(chain, sets, self.services)
        if place is None:
            return Ruler(Standing.UNKNOWN, "where their instance is, is not known"), chain.region
        if not self._is_ours(place[0]):
            return Ruler(Standing.UNKNOWN, f"account {place[0]} is in no scope"), chain.region
        try:
            return self.of_instance(chain.instance_id, place), place[1]
        except HoldfastError as error:
            reason = f"account {place[0]} could not be looked at in {place[1]}: {error.message}"
            return Ruler(Standing.UNKNOWN, reason), place[1]

    def _is_ours(self, account: str) -> bool:
        """Whether the plan or the configuration leads there: tags alone never make us enter an account."""
        return account in self.access or any(
            role.account == account for role in self.services.configuration.roles
        )


def _source(chain: Chain, sets: Sets, services: OnDemandServices) -> Place | None:
    """Where the instance of replicas is: what all copies say, and all that was made of it; None in doubt."""
    told = [one.tags.get(names.SOURCE, "").split("/") for snapshots in sets.values() for one in snapshots]
    places = {(parts[0], parts[1]) for parts in told if len(parts) == 3}
    places |= {
        (point.account, point.region)
        for point in services.catalog.points(chain.instance_id)
        if point.kind in (Kind.SNAPSHOT, Kind.BACKUP)
    }
    return places.pop() if len(places) == 1 else None
