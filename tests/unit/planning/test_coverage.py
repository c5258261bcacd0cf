"""Who owns an instance, and the ledger of what is covered."""

from __future__ import annotations

from datetime import date

import pytest

from holdfast.errors import IntegrityError
from holdfast.model.configuration import Account, Configuration
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.planning.coverage import Standing, day
from holdfast.planning.ownership import opinions, owner_of
from holdfast.planning.selection import Coverage
from tests.vectors.policies import BASIS, REGION, configuration

OWN, MEMBER, SANDBOX = "444455556666", "000000000001", "000000000002"
TODAY = date(2026, 11, 22)
COMPANY = {"name": "company", "management_role": "arn:aws:iam::777788889999:role/Organization"}
ACCOUNTS = [
    Account(account=OWN, name="production"),
    Account(account=MEMBER, name="member", organization="company", units=("r-root",)),
    Account(account=SANDBOX, name="sandbox", organization="company", units=("r-root", "ou-root-sandboxes")),
]


def instance(number: int, account: str = OWN, **tags: str) -> Instance:
    volume = AttachedVolume(volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=1 << 30)
    return Instance(
        instance_id=f"i-{number:017x}", account=account, region=REGION, tags=tags, volumes=(volume,)
    )


def made() -> Configuration:
    company = {"organization": "company", "exclude_units": ["ou-root-sandboxes"]}
    return configuration(
        BASIS | {"name": "tagged", "selection": {"tags": [{"key": "gold"}]}, "priority": 1},
        BASIS | {"name": "off", "priority": 2, "enabled": False},
        BASIS
        | {"name": "account", "selection": {"all": True, "exclude_tags": [{"key": "skip"}]}, "priority": 3},
        BASIS | {"name": "company", "source": company, "priority": 4},
        organizations=[COMPANY],
    )


def test_every_policy_says_why_in_order_of_precedence():
    found = opinions(made(), instance(1, gold="yes"), ACCOUNTS[0])
    assert [(each.policy, each.owns, each.reason) for each in found] == [
        ("tagged", True, "the tag gold is selected"),
        ("off", False, "the policy is disabled (all instances are selected)"),
        ("account", False, "the policy 'tagged' owns the instance"),
        ("company", False, f"the policy does not enter the account {OWN}"),
    ]


def test_a_disabled_policy_owns_nothing_and_the_next_one_takes_over():
    owner = owner_of(made(), instance(1), ACCOUNTS[0])
    assert owner is not None
    assert owner.name == "account"


def test_nobody_owns_an_instance_that_all_policies_leave_out():
    assert owner_of(made(), instance(1, SANDBOX), ACCOUNTS[2]) is None


def test_every_instance_has_one_line_and_the_sum_is_the_inventory():
    instances = [
        instance(1, gold="yes"),
        instance(2),
        instance(3, skip=""),
        instance(4, MEMBER),
        instance(5, SANDBOX),
        instance(6, "999999999999"),
    ]
    failed = {instance(2).instance_id: "the snapshot ended in error"}
    found = day(made(), TODAY, instances, ACCOUNTS, failed=failed, unreachable={MEMBER: "the role is gone"})
    assert [(line.instance_id[-1], line.standing.value) for line in found.lines] == [
        ("4", "unreachable"),
        ("5", "not selected"),
        ("1", "protected"),
        ("2", "failed"),
        ("3", "excluded"),
        ("6", "not selected"),
    ]
    assert sum(found.counts().values()) == len(instances)
    assert found.counts()[Standing.PROTECTED] == 1
    excluded = next(line for line in found.lines if line.standing is Standing.EXCLUDED)
    assert excluded.reason == "account: the instance has the excluded tag skip"
    protected = next(line for line in found.lines if line.standing is Standing.PROTECTED)
    assert (protected.policy, protected.reason) == ("tagged", "the tag gold is selected")


def test_accounts_are_listed_with_and_without_instances():
    found = day(made(), TODAY, [instance(1)], ACCOUNTS, unreachable={"888888888888": "not there"})
    assert [(each.account, each.instances, each.reachable) for each in found.accounts] == [
        (MEMBER, 0, True),
        (SANDBOX, 0, True),
        (OWN, 1, True),
        ("888888888888", 0, False),
    ]


def test_failures_unreachable_accounts_and_new_bare_accounts_alarm():
    before = day(made(), TODAY, [], ACCOUNTS[:1])
    instances = [instance(1), instance(5, SANDBOX), instance(4, MEMBER)]
    found = day(
        made(),
        TODAY,
        instances,
        ACCOUNTS,
        failed={instance(1).instance_id: "the volume is gone"},
        unreachable={MEMBER: "the role is gone"},
        before=before,
    )
    assert found.alarms == (
        f"{instance(1).instance_id}: the volume is gone",
        f"account {MEMBER}: the role is gone",
        f"account {SANDBOX} is new and has no protected instance",
    )


def test_a_new_account_with_a_protected_instance_does_not_alarm():
    before = day(made(), TODAY, [], ACCOUNTS[1:])
    assert day(made(), TODAY, [instance(1)], ACCOUNTS, before=before).alarms == ()
    assert day(made(), TODAY, [], ACCOUNTS, before=before).alarms == ()


def test_the_first_day_calls_no_account_new():
    assert not any(each.new for each in day(made(), TODAY, [], ACCOUNTS).accounts)


def test_an_instance_that_stands_twice_in_the_inventory_is_refused():
    with pytest.raises(IntegrityError, match="stands twice"):
        day(made(), TODAY, [instance(1), instance(1)], ACCOUNTS)


def test_without_policies_everything_is_not_selected():
    (line,) = day(configuration(), TODAY, [instance(1)], ACCOUNTS).lines
    assert (line.standing, line.reason) == (Standing.NOT_SELECTED, "there is no policy")
    assert Coverage.NOT_SELECTED.value == Standing.NOT_SELECTED.value
