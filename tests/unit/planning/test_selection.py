"""Whose and which instances a policy protects."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Account, Configuration
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.planning.selection import Coverage, precedence, rivals, scope, select, targets
from tests.vectors.policies import BASIS, REGION, configuration, policy

OWN = "444455556666"
COMPANY = {
    "name": "company",
    "management_role": "arn:aws-us-gov:iam::777788889999:role/Organization",
    "external_id": "secret",
    "backup_role_name": "Backup",
}


def volume(number: int, **more: object) -> AttachedVolume:
    whole = {"volume_id": f"vol-{number:017x}", "device": f"/dev/sd{number}", "size_bytes": 1 << 30}
    return AttachedVolume.model_validate(whole | more)


def instance(number: int = 1, **more: object) -> Instance:
    whole = {
        "instance_id": f"i-{number:017x}",
        "account": OWN,
        "region": REGION,
        "volumes": (volume(1, root=True),),
    }
    return Instance.model_validate(whole | more)


def verdict(selection: dict, subject: Instance, **parts: object):
    (found,) = select(policy(selection=selection, **parts), [subject]).verdicts
    return found


def company(**source: object) -> Configuration:
    return configuration(BASIS | {"source": {"organization": "company", **source}}, organizations=[COMPANY])


def test_every_instance_gets_one_verdict_in_a_stable_order():
    instances = [instance(3), instance(1), instance(2, account="111122223333")]
    found = select(policy(), instances).verdicts
    assert [each.instance.instance_id[-1] for each in found] == ["2", "1", "3"]
    assert {each.coverage for each in found} == {Coverage.PROTECTED}


@pytest.mark.parametrize(
    "tags, match, have, selected",
    [
        ([{"key": "a"}], "any", {"a": "anything"}, True),
        ([{"key": "a", "value": "1"}], "any", {"a": "2"}, False),
        ([{"key": "a", "value": "1"}, {"key": "b"}], "any", {"b": ""}, True),
        ([{"key": "a", "value": "1"}, {"key": "b"}], "all", {"b": ""}, False),
        ([{"key": "a", "value": "1"}, {"key": "b"}], "all", {"a": "1", "b": "x", "c": ""}, True),
        ([{"key": "A"}], "any", {"a": ""}, False),
    ],
)
def test_tags_select_by_key_and_value(tags, match, have, selected):
    found = verdict({"tags": tags, "tags_match": match}, instance(tags=have))
    assert (found.coverage is Coverage.PROTECTED) is selected


def test_ids_and_tags_are_a_union_and_the_reason_names_the_one_that_matched():
    chosen = {
        "instances": [instance(1).instance_id],
        "tags": [{"key": "backup", "value": "yes"}],
        "tags_match": "all",
    }
    assert verdict(chosen, instance(1)).reason == "the instance is listed"
    assert verdict(chosen, instance(2, tags={"backup": "yes"})).reason == "the tag backup=yes is selected"
    assert verdict(chosen, instance(2)).reason == "neither its id nor its tags are selected"


def test_exclusion_wins_over_every_inclusion_and_says_why():
    subject = instance(tags={"backup": "no"})
    listed = {"all": True, "instances": [subject.instance_id]}
    by_tag = verdict({**listed, "exclude_tags": [{"key": "backup", "value": "no"}]}, subject)
    by_id = verdict({**listed, "exclude_instances": [subject.instance_id]}, subject)
    assert (by_tag.coverage, by_tag.reason) == (
        Coverage.EXCLUDED,
        "the instance has the excluded tag backup=no",
    )
    assert (by_id.coverage, by_id.reason) == (
        Coverage.EXCLUDED,
        "the instance is excluded by exclude_instances",
    )


@pytest.mark.parametrize("state", ["terminated", "shutting-down"])
def test_what_is_going_away_is_not_selected(state):
    assert verdict({"all": True}, instance(state=state)).coverage is Coverage.NOT_SELECTED


def test_another_region_is_not_selected():
    found = verdict({"all": True}, instance(region="eu-west-1"))
    assert (found.coverage, found.reason) == (
        Coverage.NOT_SELECTED,
        "the Region eu-west-1 is not in the policy",
    )


def test_volumes_are_left_out_by_kind_id_and_tag_with_reasons():
    volumes = (volume(1, root=True), volume(2), volume(3, tags={"scratch": ""}), volume(4))
    exclusion = {"system_volumes": True, "volumes": [volumes[1].volume_id], "tags": [{"key": "scratch"}]}
    found = verdict({"all": True}, instance(volumes=volumes), exclude_volumes=exclusion)
    assert found.coverage is Coverage.PROTECTED
    assert found.volumes == (volumes[3],)
    assert [each.reason for each in found.excluded_volumes] == [
        "system volumes are excluded",
        "the volume is listed in exclude_volumes",
        "the volume has the excluded tag scratch",
    ]


def test_an_instance_without_a_volume_to_protect_is_excluded():
    none = verdict({"all": True}, instance(volumes=()))
    all_out = verdict({"all": True}, instance(), exclude_volumes={"system_volumes": True})
    assert none.reason == "the instance has no EBS volume"
    assert (all_out.coverage, all_out.reason) == (Coverage.EXCLUDED, "all its volumes are excluded")


def test_an_account_source_enters_the_account_of_its_role():
    made = configuration(BASIS)
    (found,) = targets(made, made.policies[0])
    assert (found.account, found.role_arn) == (OWN, "arn:aws:iam::444455556666:role/HoldfastBackup")


def test_an_organization_source_enters_each_account_by_the_role_name():
    made = company()
    accounts = [
        Account(account="000000000002", name="b"),
        Account(account="000000000001", organization="company"),
    ]
    found = targets(made, made.policies[0], accounts)
    assert [each.role_arn for each in found] == [
        "arn:aws-us-gov:iam::000000000001:role/Backup",
        "arn:aws-us-gov:iam::000000000002:role/Backup",
    ]
    assert {each.external_id for each in found} == {"secret"}


def test_accounts_are_left_out_with_reasons():
    made = company(
        units=["ou-root-included"], exclude_units=["ou-root-excluded"], exclude_accounts=["000000000001"]
    )
    accounts = [
        Account(account="000000000001", units=("r-root", "ou-root-included")),
        Account(
            account="000000000002",
            units=("r-root", "ou-root-included", "ou-root-excluded", "ou-root-deepest0"),
        ),
        Account(account="000000000003", units=("r-root",)),
        Account(account="000000000004", units=("r-root", "ou-root-included", "ou-root-deepest0")),
        Account(account="000000000005", units=("r-root", "ou-root-included"), active=False),
        Account(account="000000000006", organization="another"),
    ]
    found = scope(made, made.policies[0], accounts)
    assert [each.account for each in found.targets] == ["000000000004"]
    assert {each.account[-1]: each.reason for each in found.left_out} == {
        "1": "the account is excluded by exclude_accounts",
        "2": "the account lies in the excluded unit ou-root-excluded",
        "3": "the account lies in none of the chosen units",
        "5": "the account is not active",
    }


def test_a_missing_role_or_organization_is_a_clear_error():
    made = configuration(BASIS | {"source": {"role": "gone"}}, sla_policies=[])
    with pytest.raises(ConfigurationError, match="no role 'gone'"):
        scope(made, made.policies[0])
    made = configuration(BASIS | {"source": {"organization": "gone"}})
    with pytest.raises(ConfigurationError, match="no organization 'gone'"):
        scope(made, made.policies[0])


def contested() -> Configuration:
    return configuration(
        BASIS | {"name": "second", "priority": 2},
        BASIS | {"name": "first", "priority": 1},
        BASIS | {"name": "last"},
        BASIS | {"name": "off", "priority": 1, "enabled": False},
        BASIS | {"name": "company-wide", "priority": 1, "source": {"organization": "company"}},
        organizations=[COMPANY],
        sla_templates=[{"name": "t", "snapshots": {"daily": {"hours": 1}}}],
        sla_policies=[BASIS | {"name": "sla", "priority": 9, "sla_template": "t"}],
    )


def test_sla_policies_come_first_then_priority_then_creation():
    names = [each.name for each in precedence(contested())]
    assert names == ["sla", "first", "off", "company-wide", "second", "last"]


def test_rivals_are_enabled_policies_that_come_before_and_enter_the_account():
    made = contested()
    last = made.policy("last")
    assert [each.name for each in rivals(made, last, OWN)] == ["sla", "first", "second"]
    member = Account(account="000000000001", organization="company")
    assert [each.name for each in rivals(made, last, member)] == ["company-wide"]
    assert rivals(made, made.policy("sla"), OWN) == ()


def test_an_instance_that_a_rival_selects_belongs_to_the_rival():
    mine, rival = policy(name="mine"), policy(name="rival", selection={"tags": [{"key": "rival"}]})
    found = select(mine, [instance(1), instance(2, tags={"rival": ""})], {OWN: [rival]})
    assert [each.coverage for each in found.verdicts] == [Coverage.PROTECTED, Coverage.NOT_SELECTED]
    assert found.verdicts[1].reason == "the policy 'rival' owns the instance"
    assert found.protected == found.verdicts[:1]
