"""The whole inventory: every instance of every account, whether a policy wants it or not.

One account is one task that goes through its Regions: an account that answers slowly holds up nobody else,
and what was not looked at in time is told as such, never left out.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from holdfast.errors import HoldfastError
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import Instance
from holdfast.model.scope import Account
from holdfast.operations.coverage.coverage_ledger import Known, Place
from holdfast.operations.services import OnDemandServices
from holdfast.operations.sessions.resolve_scope import accounts_of

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Accounts that are looked at together."""
MARGIN: Final = 240.0
"""Seconds kept for judging and recording."""
PATIENCE: Final = timedelta(seconds=120)
"""How long one account may take before its further Regions are given up."""
LATE: Final = "the time of the run was over before this account was looked at"
SLOW: Final = "the account answered too slowly"


@dataclass(slots=True)
class Inventory:
    """What was found. ``closed`` says why an account and Region could not be looked at.

    ``accounts`` were looked at, out of ``everyone``; ``default_keys`` are the keys that AWS manages for EBS,
    where something is encrypted.
    """

    accounts: list[Account]
    everyone: list[Account] = field(default_factory=list)
    found: dict[Place, tuple[Instance, ...]] = field(default_factory=dict)
    closed: dict[Place, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    default_keys: dict[Place, str] = field(default_factory=dict)

    def everything(self, known: Known) -> list[Instance]:
        """Every instance: of what could not be looked at, what was last known of it."""
        places = {**known.instances, **self.found}
        wanted = self.found.keys() | self.closed.keys()
        return [one for place in sorted(wanted) for one in places.get(place, ())]


def look_around(services: OnDemandServices, known: Known, only: Collection[str] = ()) -> Inventory:
    """Look at every account of every Organization and role, in every Region; ``only`` limits the accounts.

    An Organization that cannot be read is taken as it was last known.
    """
    accounts, unread = _accounts(services, known)
    wanted = [one for one in accounts.values() if not only or one.account in only]
    result = Inventory(wanted)
    regions = services.configuration.regions()
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        tasks = [pool.submit(_look_at, one, regions, services, result) for one in wanted]
        budget = services.remaining() - MARGIN
        wait(tasks, timeout=None if budget == float("inf") else max(0.0, budget))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()  # a defect must not look like an account that is unreachable
    # A task that is late may still write: what counts is what is there now.
    late = Inventory(
        wanted,
        list(accounts.values()),
        dict(result.found),
        dict(result.closed),
        unread,
        dict(result.default_keys),
    )
    for one in wanted:
        for region in regions:
            if (one.account, region) not in late.found:
                late.closed.setdefault((one.account, region), LATE)
    return late


def _accounts(services: OnDemandServices, known: Known) -> tuple[dict[str, Account], dict[str, str]]:
    """Every account that the configuration leads to, and the Organizations that could not be read."""
    configuration = services.configuration
    found = {role.account: Account(account=role.account, name=role.name) for role in configuration.roles}
    unread: dict[str, str] = {}
    for organization in configuration.organizations:
        try:
            members: Iterable[Account] = list(accounts_of(organization.name, services))
        except HoldfastError as error:
            log.error("the Organization %s cannot be read: %s", organization.name, error)
            unread[organization.name] = error.message
            members = [
                one for one in (known.accounts or {}).values() if one.organization == organization.name
            ]
        found |= {one.account: one for one in members}
    return dict(sorted(found.items())), unread


def accesses(configuration: Configuration, account: Account) -> tuple[str, ...]:
    """Names of the roles and Organizations by which the account may be entered, its own roles first."""
    sources = {each.source.role for each in (*configuration.policies, *configuration.sla_policies)}
    own = [
        role.name
        for role in configuration.roles
        if role.account == account.account and (role.name in sources or "restore" not in role.name.lower())
    ]
    return (*own, *([account.organization] if account.organization else []))


def _look_at(account: Account, regions: Iterable[str], services: OnDemandServices, result: Inventory) -> None:
    """Look at one account, Region by Region."""
    began = services.clock.now()
    names = accesses(services.configuration, account)
    for region in regions:
        place = (account.account, region)
        if not account.active:
            result.closed[place] = "the account is not active"
        elif services.remaining() < MARGIN:
            result.closed[place] = LATE
        elif services.clock.now() - began > PATIENCE:
            result.closed[place] = SLOW
        else:
            _look_into(place, names, services, result)


def _look_into(place: Place, names: Iterable[str], services: OnDemandServices, result: Inventory) -> None:
    """What the first access that works finds; why none does."""
    reasons: list[str] = []
    for name in names:
        try:
            found = tuple(services.spoke_in(*place, name).inventory())
        except HoldfastError as error:
            reasons.append(f"{error.code}: {error.message}")
            continue
        if any(volume.encrypted for one in found for volume in one.volumes):
            result.default_keys[place] = _default_key(place, name, services)
        result.found[place] = found
        return
    result.closed[place] = reasons[0] if reasons else "no role leads into the account"


def _default_key(place: Place, name: str, services: OnDemandServices) -> str:
    """The key that AWS manages for EBS there; empty when it may not be asked for, which hides no instance."""
    try:
        return services.snapshot_copier(*place, name).default_key()
    except HoldfastError as error:
        log.warning("the default key of %s in %s is not known: %s", *place, error)
        return ""
