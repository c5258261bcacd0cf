"""Who may become whom, and what an Organization forbids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.identities import session_for
from simulator.simulator import Simulator
from simulator.world import Account, Denial, Organization, Unit, World

BACKUP, MANAGEMENT, SPOKE, OTHER = "111111111111", "999999999999", "222222222222", "333333333333"
REGION = "eu-central-1"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Simulator]:
    """An Organization with two units, a suspended account and a Region that one account has not enabled."""
    organization = Organization(
        management_account=MANAGEMENT,
        units=(Unit(name="Workloads", units=(Unit(name="Prod"),)), Unit(name="Sandbox")),
    )
    accounts = (
        Account(id=BACKUP, name="backup"),
        Account(id=SPOKE, name="spoke", unit="Workloads/Prod", disabled_regions=("ap-south-1",)),
        Account(id=OTHER, name="old", unit="Sandbox", status="SUSPENDED"),
    )
    world = World(
        backup_account=BACKUP, regions=(REGION, "ap-south-1"), organization=organization, accounts=accounts
    )
    with Simulator(tmp_path / "world", world) as opened:
        yield opened


def make_role(
    sim: Simulator, account: str, name: str, *statements: dict[str, Any], trust: dict[str, Any]
) -> str:
    """A role with a trust statement and what it may do."""
    iam = sim.control.client("iam", account, REGION)
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", **trust}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))
    if statements:
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]}
        iam.put_role_policy(RoleName=name, PolicyName="allowed", PolicyDocument=json.dumps(allowed))
    return str(made["Role"]["Arn"])


@pytest.fixture
def worker(company: Simulator) -> Any:
    """A session of a function's role in the backup account that may assume any role."""
    may = {"Action": "sts:AssumeRole", "Resource": "*"}
    arn = make_role(company, BACKUP, "worker", may, trust={"Principal": {"Service": "lambda.amazonaws.com"}})
    return session_for(company.identities.assume(BACKUP, arn), REGION)


def spoke_trust(**condition: Any) -> dict[str, Any]:
    """A trust statement for the backup account."""
    conditions = {"Condition": {"StringEquals": condition}} if condition else {}
    return {"Principal": {"AWS": f"arn:aws:iam::{BACKUP}:root"}, **conditions}


def assume(session: Any, role: str, **more: Any) -> dict[str, str]:
    """Credentials of a role."""
    answer = session.client("sts").assume_role(RoleArn=role, RoleSessionName="test", **more)
    return answer["Credentials"]


def test_a_role_that_trusts_the_caller_is_assumed_in_its_account(company, worker):
    arn = make_role(company, SPOKE, "Holdfast", trust=spoke_trust(**{"sts:ExternalId": "secret"}))

    credentials = assume(worker, arn, ExternalId="secret")

    assert company.identities.find(credentials["AccessKeyId"]).account == SPOKE


@pytest.mark.parametrize("given", [{}, {"ExternalId": "guess"}])
def test_a_wrong_or_missing_external_id_is_refused(company, worker, given):
    arn = make_role(company, SPOKE, "Holdfast", trust=spoke_trust(**{"sts:ExternalId": "secret"}))

    with pytest.raises(ClientError, match=r"AccessDenied.*not authorized to perform: sts:AssumeRole"):
        assume(worker, arn, **given)
    assert "external id" in company.control.refused[-1]


def test_a_role_that_does_not_exist_is_refused_like_any_other(company, worker):
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(worker, f"arn:aws:iam::{SPOKE}:role/Nobody")
    assert "does not exist" in company.control.refused[-1]


def test_a_role_that_trusts_somebody_else_is_refused(company, worker):
    arn = make_role(
        company, SPOKE, "Holdfast", trust={"Principal": {"AWS": f"arn:aws:iam::{BACKUP}:role/other"}}
    )

    with pytest.raises(ClientError, match="AccessDenied"):
        assume(worker, arn)


def test_trust_can_be_bound_to_the_organization_and_to_the_callers_name(company, worker):
    bound = spoke_trust()
    bound["Condition"] = {
        "StringLike": {"aws:PrincipalOrgID": "o-*"},
        "ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{BACKUP}:role/work*"},
    }
    assert assume(worker, make_role(company, SPOKE, "Holdfast", trust=bound))
    bound["Condition"]["StringLike"] = {"aws:PrincipalOrgID": "o-elsewhere"}
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(worker, make_role(company, SPOKE, "Elsewhere", trust=bound))


def test_a_caller_without_the_right_to_assume_is_refused(company):
    arn = make_role(company, SPOKE, "Holdfast", trust=spoke_trust())
    idle = make_role(company, BACKUP, "idle", trust={"Principal": {"Service": "lambda.amazonaws.com"}})
    session = session_for(company.identities.assume(BACKUP, idle), REGION)

    with pytest.raises(ClientError, match="no identity-based policy allows"):
        assume(session, arn)


def test_a_chained_session_lasts_an_hour_at_most(company, worker):
    arn = make_role(company, SPOKE, "Holdfast", trust=spoke_trust())
    company.control.client("iam", SPOKE, REGION).update_role(RoleName="Holdfast", MaxSessionDuration=43_200)

    with pytest.raises(ClientError, match="role chaining"):
        assume(worker, arn, DurationSeconds=7_200)
    assert assume(worker, arn, DurationSeconds=3_600)


def test_a_session_ends_by_the_virtual_clock(company, worker):
    arn = make_role(company, SPOKE, "Holdfast", {"Action": "ec2:*", "Resource": "*"}, trust=spoke_trust())
    credentials = assume(worker, arn)
    ec2 = session_for(company.identities.find(credentials["AccessKeyId"]), REGION).client("ec2")
    ec2.describe_instances()

    company.clock.advance_to(company.clock.now() + timedelta(hours=1, seconds=1))

    with pytest.raises(ClientError, match="RequestExpired"):
        ec2.describe_instances()


@pytest.mark.parametrize("target", [SPOKE, "Workloads/Prod", "Workloads", "/"])
def test_a_denial_of_the_organization_beats_what_a_role_allows(company, worker, target):
    arn = make_role(company, SPOKE, "Holdfast", {"Action": "ec2:*", "Resource": "*"}, trust=spoke_trust())
    credentials = assume(worker, arn)
    ec2 = session_for(company.identities.find(credentials["AccessKeyId"]), REGION).client("ec2")
    company.organizations.deny(target, ("ec2:Describe*",))

    with pytest.raises(ClientError, match="explicit deny in a service control policy"):
        ec2.describe_instances()

    company.organizations.allow_again()
    ec2.describe_instances()


def test_a_denial_binds_neither_another_unit_nor_the_management_account(company):
    company.organizations.deny("Sandbox", ("ec2:*",))
    company.control.client("ec2", SPOKE, REGION).describe_instances()
    company.organizations.deny("/", ("organizations:*",))
    company.control.client("organizations", MANAGEMENT, "us-east-1").list_roots()


def test_denials_of_the_world_file_hold(tmp_path):
    world = World(backup_account=BACKUP, regions=(REGION,), denials=(Denial(target="/", actions=("ec2:*",)),))
    with (
        Simulator(tmp_path / "world", world) as sim,
        pytest.raises(ClientError, match="UnauthorizedOperation"),
    ):
        sim.control.client("ec2", BACKUP, REGION).describe_instances()


def test_nobody_works_in_a_suspended_account(company):
    with pytest.raises(ClientError, match="suspended"):
        company.control.client("ec2", OTHER, REGION).describe_instances()


def test_a_region_that_is_not_enabled_refuses(company):
    with pytest.raises(ClientError, match="AuthFailure"):
        company.control.client("ec2", SPOKE, "ap-south-1").describe_instances()
    company.control.client("ec2", BACKUP, "ap-south-1").describe_instances()


def test_a_delegated_administrator_reads_the_organization_and_a_member_does_not(company):
    management = company.control.client("organizations", MANAGEMENT, "us-east-1")
    member = company.control.client("organizations", BACKUP, "us-east-1")
    with pytest.raises(ClientError):
        member.list_roots()
    assert member.describe_organization()["Organization"]["MasterAccountId"] == MANAGEMENT

    management.register_delegated_administrator(AccountId=BACKUP, ServicePrincipal="ssm.amazonaws.com")

    assert len(member.list_accounts()["Accounts"]) == 4


def stack_set(units: list[str], **more: Any) -> str:
    """A template with a stack set that makes a role."""
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", **spoke_trust()}]}
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {"RoleName": "Holdfast", "AssumeRolePolicyDocument": trust, **more},
    }
    properties = {
        "StackSetName": "spoke",
        "PermissionModel": "SERVICE_MANAGED",
        "AutoDeployment": {"Enabled": True, "RetainStacksOnAccountRemoval": False},
        "StackInstancesGroup": [{"DeploymentTargets": {"OrganizationalUnitIds": units}, "Regions": [REGION]}],
        "TemplateBody": json.dumps({"Resources": {"Role": role}}),
    }
    return json.dumps(
        {"Resources": {"Set": {"Type": "AWS::CloudFormation::StackSet", "Properties": properties}}}
    )


def accounts_with_role(sim: Simulator) -> list[str]:
    """Accounts in which the stack set made its role."""
    from simulator import iam

    known = [*sim.world.account_ids(), *(one.id for one in sim.organizations._accounts())]
    return sorted({account for account in known if iam.find_role(f"arn:aws:iam::{account}:role/Holdfast")})


def test_a_stack_set_reaches_every_active_account_and_follows_those_that_come_and_go(company):
    management = company.control.client("organizations", MANAGEMENT, "us-east-1")
    cloudformation = company.control.client("cloudformation", MANAGEMENT, REGION)
    root = management.list_roots()["Roots"][0]["Id"]
    cloudformation.create_stack(StackName="set", TemplateBody=stack_set([root]))
    assert accounts_with_role(company) == [BACKUP, SPOKE]

    status = management.create_account(Email="new@example.com", AccountName="new")["CreateAccountStatus"]
    assert accounts_with_role(company) == sorted([BACKUP, SPOKE, status["AccountId"]])

    management.remove_account_from_organization(AccountId=status["AccountId"])
    assert accounts_with_role(company) == [BACKUP, SPOKE]

    cloudformation.update_stack(StackName="set", TemplateBody=stack_set([root], MaxSessionDuration=7200))
    described = company.control.client("iam", SPOKE, REGION).get_role(RoleName="Holdfast")["Role"]
    assert described["MaxSessionDuration"] == 7200

    cloudformation.delete_stack(StackName="set")
    assert accounts_with_role(company) == []


def test_a_stack_set_of_one_unit_leaves_when_an_account_moves_away(company):
    management = company.control.client("organizations", MANAGEMENT, "us-east-1")
    root = management.list_roots()["Roots"][0]["Id"]
    units = {
        unit["Name"]: unit["Id"]
        for unit in management.list_organizational_units_for_parent(ParentId=root)["OrganizationalUnits"]
    }
    cloudformation = company.control.client("cloudformation", MANAGEMENT, REGION)
    cloudformation.create_stack(StackName="set", TemplateBody=stack_set([units["Workloads"]]))
    assert accounts_with_role(company) == [SPOKE]

    parent = management.list_parents(ChildId=SPOKE)["Parents"][0]["Id"]
    management.move_account(AccountId=SPOKE, SourceParentId=parent, DestinationParentId=units["Sandbox"])

    assert accounts_with_role(company) == []
