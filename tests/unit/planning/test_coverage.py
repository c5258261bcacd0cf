"""Who owns an instance, and the ledger of what is covered."""

from __future__ import annotations

from datetime import date

import pytest

from holdfast.errors import IntegrityError
from holdfast.model.configuration import Account, AnyPolicy, Configuration
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.planning.coverage import day
from holdfast.planning.ownership import opinions, owner_of
from holdfast.planning.selection import Coverage
from holdfast.planning.standing import Judged, Standing
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


def judged(**failed: str):
    """Whatever a policy owns is protected, but for the instances that are named with a reason."""

    def judge(one: Instance, owner: AnyPolicy) -> Judged:
        reason = failed.get(one.instance_id.replace("-", "_"))
        return Judged(Standing.FAILED, reason) if reason else Judged(Standing.PROTECTED, "it has a point")

    return judge


def test_every_instance_has_one_line_and_the_sum_is_the_inventory():
    instances = [
        instance(1, gold="yes"),
        instance(2),
        instance(3, skip=""),
        instance(4, MEMBER),
        instance(5, SANDBOX),
        instance(6, "999999999999"),
    ]
    judge = judged(**{instance(2).instance_id.replace("-", "_"): "the snapshot ended in error"})
    found = day(
        made(), TODAY, instances, ACCOUNTS, judge=judge, unreachable={(MEMBER, REGION): "the role is gone"}
    )
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
    assert (protected.policy, protected.reason) == ("tagged", "it has a point")


def test_accounts_are_listed_with_and_without_instances():
    closed = {("888888888888", REGION): "not there"}
    found = day(made(), TODAY, [instance(1)], ACCOUNTS, judge=judged(), unreachable=closed)
    assert [(each.account, each.instances, each.reachable) for each in found.accounts] == [
        (MEMBER, 0, True),
        (SANDBOX, 0, True),
        (OWN, 1, True),
        ("888888888888", 0, False),
    ]


def test_an_account_is_unreachable_where_it_could_not_be_looked_at_and_counted_elsewhere():
    closed = {(MEMBER, "eu-west-1"): "denied", (MEMBER, "sa-east-1"): "denied", (MEMBER, "us-west-2"): "late"}
    found = day(made(), TODAY, [instance(4, MEMBER)], ACCOUNTS, judge=judged(), unreachable=closed)
    (member,) = found.unreachable
    assert member.reason == "denied (in eu-west-1, sa-east-1); late (in us-west-2)"
    assert [line.standing for line in found.lines] == [Standing.PROTECTED]


def test_failures_unreachable_and_new_accounts_alarm():
    instances = [instance(1), instance(5, SANDBOX), instance(4, MEMBER)]
    found = day(
        made(),
        TODAY,
        instances,
        ACCOUNTS,
        judge=judged(**{instance(1).instance_id.replace("-", "_"): "the volume is gone"}),
        unreachable={(MEMBER, REGION): "the role is gone"},
        known={OWN, MEMBER},
        unread={"company": "AccessDenied"},
    )
    assert found.alarms == (
        f"{instance(1).instance_id} in account {OWN}: the volume is gone",
        "Organization company could not be read: AccessDenied",
        f"account {MEMBER} (member) is unreachable: the role is gone (in {REGION})",
        f"account {SANDBOX} (sandbox) is new: 0 of 1 instances protected",
    )


def test_an_account_that_no_policy_enters_is_listed_and_raises_no_alarm():
    """Its instances, where some were known, are what the policies say of them: nobody asked to reach it."""
    closed = {(SANDBOX, REGION): "no role"}
    found = day(made(), TODAY, [instance(5, SANDBOX)], ACCOUNTS, judge=judged(), unreachable=closed)
    (sandbox,) = (each for each in found.accounts if each.account == SANDBOX)
    assert (sandbox.in_scope, sandbox.reachable, found.alarms) == (False, False, ())
    assert [line.standing for line in found.lines] == [Standing.NOT_SELECTED]


def test_the_first_day_calls_no_account_new():
    assert not any(each.new for each in day(made(), TODAY, [], ACCOUNTS, judge=judged()).accounts)


def test_an_instance_that_stands_twice_in_the_inventory_is_refused():
    with pytest.raises(IntegrityError, match="stands twice"):
        day(made(), TODAY, [instance(1), instance(1)], ACCOUNTS, judge=judged())


def test_without_policies_everything_is_not_selected():
    (line,) = day(configuration(), TODAY, [instance(1)], ACCOUNTS, judge=judged()).lines
    assert (line.standing, line.reason) == (Standing.NOT_SELECTED, "there is no policy")
    assert Coverage.NOT_SELECTED.value == Standing.NOT_SELECTED.value
