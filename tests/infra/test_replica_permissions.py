"""Who may copy, lend and look at keys follows from what the configuration replicates."""

from __future__ import annotations

from typing import Any

from holdfast.model.configuration import Configuration
from infra.duties import spoke_roles
from infra.spoke_permissions import Spoke, backup, statements_of
from infra.statements import Statement

SHOP, VAULT = "222222222222", "444444444444"
SHOP_ROLE = {"name": "shop", "arn": f"arn:aws:iam::{SHOP}:role/HoldfastBackup"}
VAULT_ROLE = {"name": "vault", "arn": f"arn:aws:iam::{VAULT}:role/HoldfastVault"}


def configured(target: dict[str, str] | None, *roles: dict[str, str], **changes: Any) -> Configuration:
    """One policy of the shop that replicates to ``target``, if there is one."""
    replicas = {"replicas": {"hours": [7]}} if target is not None else {}
    return Configuration.model_validate(
        {
            "backup_account": "999999999999",
            "hub_region": "eu-central-1",
            "roles": [SHOP_ROLE, *roles],
            "policies": [
                {
                    "name": "daily",
                    "source": {"role": "shop"},
                    "regions": ["eu-central-1"],
                    "selection": {"all": True},
                    "daily": {"snapshots": {"hours": [7]}, **replicas},
                    "replication": [{"source_region": "eu-central-1", "region": "eu-west-1", **target}]
                    if target is not None
                    else [],
                }
            ],
            **changes,
        }
    )


def rights(configuration: Configuration, account: str) -> dict[str, Statement]:
    return {statement.sid: statement for statement in backup(Spoke(configuration, account))}


def test_the_default_key_is_looked_at_only_where_replicas_leave_the_account() -> None:
    to_vault = rights(configured({"role": "vault"}, VAULT_ROLE), SHOP)
    assert to_vault["FindDefaultKey"].actions == ("kms:DescribeKey",)
    assert to_vault["FindDefaultKey"].when == {"StringEquals": {"kms:RequestAlias": "alias/aws/ebs"}}
    for target in (None, {}, {"role": "shop"}):
        assert "FindDefaultKey" not in rights(configured(target, VAULT_ROLE), SHOP)
    assert "FindDefaultKey" not in rights(configured({"role": "vault"}, VAULT_ROLE), VAULT)


def test_an_account_that_only_receives_replicas_makes_reads_and_lends_no_snapshots() -> None:
    configuration = configured({"role": "vault"}, VAULT_ROLE)
    (vault,) = [role for role in spoke_roles(configuration) if role.account == VAULT]
    actions = {
        action
        for statement in backup(Spoke(configuration, VAULT))
        for action in statement.actions
        if not action.startswith("kms:")
    }
    assert actions == {
        "ec2:CopySnapshot",
        "ec2:CreateTags",
        "ec2:DeleteSnapshot",
        "ec2:DeleteTags",
        "ec2:DescribeAddresses",
        "ec2:DescribeInstanceAttribute",
        "ec2:DescribeInstances",
        "ec2:DescribeSnapshots",
        "ec2:DescribeVolumes",
    }
    assert "RemoveSnapshots" in {one.sid for one in statements_of(Spoke(configuration, VAULT), vault.duties)}


def test_an_account_alone_shares_with_nobody_and_copies_nobodys() -> None:
    alone = rights(configured({}), SHOP)
    assert {"ShareSnapshots", "CopySharedSources"} & alone.keys() == set()
    assert {"ShareSnapshots", "CopySharedSources"} <= rights(configured({}, VAULT_ROLE), SHOP).keys()


def test_roles_of_an_organization_look_at_the_default_key_when_its_policy_replicates_elsewhere() -> None:
    company = {
        "name": "company",
        "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization",
    }
    target = {"source_region": "eu-central-1", "region": "eu-west-1", "role": "vault"}
    policy = {
        "name": "company",
        "source": {"organization": "company"},
        "regions": ["eu-central-1"],
        "selection": {"all": True},
        "daily": {"replicas": {"hours": [7]}},
        "replication": [target],
    }
    wide = configured(None, VAULT_ROLE, organizations=[company], policies=[policy])
    assert "FindDefaultKey" in rights(wide, "${AWS::AccountId}")
    assert "FindDefaultKey" not in rights(wide, SHOP)
