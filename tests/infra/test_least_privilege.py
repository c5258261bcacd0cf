"""What no role may do, whatever the tables say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration
from infra.duties import Duty, assumable, spoke_roles
from infra.function_table import BY_VERB, ROWS, assumers
from infra.names import Place, Site
from infra.operator_permissions import POLICIES
from infra.spoke_permissions import PIECES, Spoke, statements_of, trust
from infra.statements import allow, policy_document, without_repeats
from tests.infra.conftest import (
    BACKUP_ACCOUNT,
    MANAGEMENT,
    PRODUCTION,
    Template,
    a_configuration,
    member_template,
    resources,
)

TAG = "aws:ResourceTag/holdfast:installation"
CELL = "holdfast-cell-eu-west-1"

# Rights that would defeat the purpose of backups, or that no step of Holdfast needs.
NEVER = [
    "*",
    "*:*",
    "dynamodb:DeleteTable",
    "ec2:DeleteVolume",
    "ec2:TerminateInstances",
    "iam:*Policy*",
    "iam:*Role",
    "kms:Disable*",
    "kms:PutKeyPolicy",
    "kms:ScheduleKeyDeletion",
    "lambda:Update*",
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket*",
    "s3:DeleteObjectVersion",
    "s3:PutBucket*",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "secretsmanager:Put*",
    "states:UpdateStateMachine",
    "sts:AssumeRoleWith*",
]
ALLOWED_FROM_NEVER = {"iam:PassRole"}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements_in(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that a role or managed policy of a template allows, with the logical id."""
    for name, found in resources(template, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in found["Properties"], name
        for policy in found["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement
    for name, found in resources(template, "AWS::IAM::ManagedPolicy").items():
        for statement in found["Properties"]["PolicyDocument"]["Statement"]:
            yield name, statement


@pytest.fixture(scope="module")
def granted(templates: dict[str, Template]) -> list[tuple[str, dict[str, Any]]]:
    """All statements of all templates, those inside the StackSet too."""
    every = {**templates, "members": member_template(templates["holdfast-organization"])}
    return [
        (f"{stack}/{name}", statement)
        for stack, template in every.items()
        for name, statement in statements_in(template)
    ]


def test_every_permission_is_in_the_policy_of_its_own_role(templates: dict[str, Template]):
    attached = [
        name
        for template in templates.values()
        for name, found in template["Resources"].items()
        if found["Type"] == "AWS::IAM::Policy"
    ]
    assert attached == []


@pytest.mark.parametrize("forbidden", NEVER)
def test_no_role_holds_a_right_that_defeats_backups(
    forbidden: str, granted: list[tuple[str, dict[str, Any]]]
):
    held = [
        (name, action)
        for name, statement in granted
        for action in as_list(statement["Action"])
        if fnmatchcase(action, forbidden) and action not in ALLOWED_FROM_NEVER
        if forbidden not in ("*", "*:*") or action == forbidden
    ]
    assert held == []


def test_no_action_is_a_pattern(granted: list[tuple[str, dict[str, Any]]]):
    assert [(name, found["Action"]) for name, found in granted if "*" in json.dumps(found["Action"])] == []


def test_only_reads_and_traces_and_log_deliveries_reach_every_resource(
    granted: list[tuple[str, dict[str, Any]]],
):
    harmless = ("Describe", "List", "Get", "PutTraceSegments", "PutTelemetryRecords")
    elsewhere = {
        action
        for _, statement in granted
        if "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
        if not action.split(":")[1].startswith(harmless)
    }
    assert elsewhere == {
        f"logs:{action}"
        for action in ("CreateLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "PutResourcePolicy")
    }


def test_removing_and_reading_ec2_resources_takes_our_tag(granted: list[tuple[str, dict[str, Any]]]):
    bound = {
        "ebs:GetSnapshotBlock",
        "ebs:PutSnapshotBlock",
        "ec2:DeleteSnapshot",
        "ec2:DeleteTags",
        "ec2:DeregisterImage",
        "ec2:ModifySnapshotAttribute",
    }
    seen = set()
    for name, statement in granted:
        for action in bound & set(as_list(statement["Action"])):
            assert statement["Condition"]["StringEquals"][TAG] == "holdfast", name
            seen.add(action)
    assert seen == bound


def test_tags_are_given_in_the_call_that_creates_or_to_what_is_ours(
    granted: list[tuple[str, dict[str, Any]]],
):
    tagging = [(name, found) for name, found in granted if "ec2:CreateTags" in as_list(found["Action"])]
    assert tagging
    for name, statement in tagging:
        conditions = statement["Condition"]["StringEquals"]
        assert set(conditions) in ({"ec2:CreateAction"}, {TAG}), name


def test_a_condition_on_all_values_asks_that_there_is_one(granted: list[tuple[str, dict[str, Any]]]):
    people = [one.document() for make in POLICIES.values() for one in make(a_configuration())]
    found = []
    for statement in (*people, *(statement for _, statement in granted)):
        condition = statement.get("Condition", {})
        for operator in condition:
            if operator.startswith("ForAllValues:"):
                found += condition[operator]
                assert condition["Null"] == dict.fromkeys(condition[operator], "false")
    assert set(found) == {"aws:TagKeys", "dynamodb:LeadingKeys"}


def test_what_is_created_must_carry_our_tag(granted: list[tuple[str, dict[str, Any]]]):
    creating = {
        "ec2:CreateVolume": "volume/*",
        "ebs:StartSnapshot": "snapshot/*",
        "ec2:RegisterImage": "image/*",
    }
    for action, kind in creating.items():
        found = [
            statement
            for _, statement in granted
            if action in as_list(statement["Action"])
            and json.dumps(statement["Resource"]).rstrip('"]}').endswith(kind)
        ]
        assert found
        for statement in found:
            assert statement["Condition"]["StringEquals"] == {
                "aws:RequestTag/holdfast:installation": "holdfast"
            }


def test_roles_are_passed_to_ec2_alone(granted: list[tuple[str, dict[str, Any]]]):
    passing = [found for _, found in granted if "iam:PassRole" in as_list(found["Action"])]
    assert passing
    for statement in passing:
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_objects_are_deleted_by_retention_alone_and_only_manifests(granted: list[tuple[str, dict[str, Any]]]):
    deleting = [(name, found) for name, found in granted if "s3:DeleteObject" in as_list(found["Action"])]
    assert [name.split("/")[1][: len("ExpireBackups")] for name, _ in deleting] == ["ExpireBackups"]
    for resource in as_list(deleting[0][1]["Resource"]):
        assert resource.endswith(("/points/*", "/candidates/*"))


def test_keys_of_repositories_wrap_keys_of_repositories_alone(granted: list[tuple[str, dict[str, Any]]]):
    using = [
        statement
        for name, statement in granted
        if "kms:Decrypt" in as_list(statement["Action"])
        and "-spoke-" not in name
        and not name.startswith("members")
    ]
    assert using
    for statement in using:
        assert statement["Condition"]["Null"] == {"kms:EncryptionContext:holdfast:repository": "false"}


def test_keys_of_volumes_are_used_through_ebs_alone(granted: list[tuple[str, dict[str, Any]]]):
    using = [
        found
        for _, found in granted
        if found.get("Sid") in {"UseKeys", "GrantKeys"} and "kms:ViaService" in json.dumps(found)
    ]
    assert len(using) == 2 * 5
    for statement in using:
        if "kms:CreateGrant" in as_list(statement["Action"]):
            assert statement["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}


def test_a_state_machine_calls_the_functions_of_its_definition_and_no_other(templates: dict[str, Template]):
    for stack in ("holdfast-hub", CELL):
        machines = resources(templates[stack], "AWS::StepFunctions::StateMachine")
        for machine in machines.values():
            (role_id, _) = machine["Properties"]["RoleArn"]["Fn::GetAtt"]
            role = templates[stack]["Resources"][role_id]["Properties"]
            (invoke,) = [
                found
                for found in role["Policies"][0]["PolicyDocument"]["Statement"]
                if found["Sid"] == "InvokeFunctions"
            ]
            text = machine["Properties"]["DefinitionString"]
            allowed = set(as_list(invoke["Resource"]))
            assert all(f'"{arn}"' in text for arn in allowed)
            assert text.count(":function:") >= len(allowed)
            assert {word for word in text.split('"') if ":function:" in word} == allowed


def trusted_patterns(template: Template) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """By role name: patterns of callers, and the whole condition."""
    found = {}
    for role in resources(template, "AWS::IAM::Role").values():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"AWS": f"arn:aws:iam::{BACKUP_ACCOUNT}:root"}
        assert statement["Action"] == "sts:AssumeRole"
        condition = statement["Condition"]
        found[role["Properties"]["RoleName"]] = (condition["ArnLike"]["aws:PrincipalArn"], condition)
    return found


@pytest.mark.parametrize(
    "account,role,duties",
    [
        (PRODUCTION, "HoldfastBackup", (Duty.BACKUP, Duty.RESTORE)),
        (MANAGEMENT, "HoldfastBackup", (Duty.BACKUP,)),
        (MANAGEMENT, "HoldfastRestore", (Duty.RESTORE,)),
        (MANAGEMENT, "HoldfastOrganization", (Duty.ORGANIZATION,)),
    ],
)
def test_a_spoke_role_trusts_the_functions_of_its_duties_and_no_other(
    account: str,
    role: str,
    duties: tuple[Duty, ...],
    templates: dict[str, Template],
    configuration: Configuration,
):
    patterns, _ = trusted_patterns(templates[f"holdfast-spoke-{account}"])[role]
    wanted = {verb for duty in duties for verb in assumers(duty)}
    for row in ROWS:
        region = configuration.hub_region if row.place is Place.HUB else "eu-west-1"
        name = Site(configuration, row.place, region).role_name(row.verb)
        arn = f"arn:aws:iam::{BACKUP_ACCOUNT}:role/{name}"
        assert any(fnmatchcase(arn, pattern) for pattern in patterns) is (row.verb in wanted), row.verb


def test_every_spoke_role_asks_for_its_external_id(templates: dict[str, Template]):
    asked = {
        (account, name): condition["StringEquals"]
        for account in (PRODUCTION, MANAGEMENT)
        for name, (_, condition) in trusted_patterns(templates[f"holdfast-spoke-{account}"]).items()
    }
    assert asked[PRODUCTION, "HoldfastBackup"] == {"sts:ExternalId": ["ours-and-production"]}
    assert {str(found) for (account, _), found in asked.items() if account == MANAGEMENT} == {
        str({"sts:ExternalId": ["ours-and-company"]})
    }


def test_roles_of_an_organization_ask_that_the_caller_belongs_to_it(templates: dict[str, Template]):
    for template in (
        templates[f"holdfast-spoke-{MANAGEMENT}"],
        member_template(templates["holdfast-organization"]),
    ):
        for _, condition in trusted_patterns(template).values():
            assert condition["StringLike"] == {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}
    for _, condition in trusted_patterns(templates[f"holdfast-spoke-{PRODUCTION}"]).values():
        assert "StringLike" not in condition


def test_functions_may_assume_the_roles_that_trust_them(templates: dict[str, Template]):
    for stack in ("holdfast-hub", CELL):
        for role in resources(templates[stack], "AWS::IAM::Role").values():
            verb = (
                role["Properties"]["RoleName"]
                .removeprefix("holdfast-eu-central-1-")
                .removeprefix("holdfast-eu-west-1-")
            )
            row = BY_VERB.get(verb.replace("-", "_"))
            assumed = [
                resource
                for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
                if "sts:AssumeRole" in as_list(statement["Action"])
                for resource in as_list(statement["Resource"])
            ]
            expected = {
                arn
                for duty in (row.assumes if row else ())
                for arn in assumable(a_configuration(), duty, "aws")
            }
            assert set(assumed) == expected, verb


LONGEST = "a-very-long-name-abc"
FAR = "ap-northeast-1"


def longest_configuration() -> Configuration:
    regions = ["eu-central-1", "eu-west-1", "us-east-1", FAR]
    policies = [
        {**policy.model_dump(mode="json"), "regions": regions} for policy in a_configuration().policies
    ]
    return a_configuration(installation=LONGEST, policies=policies)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.verb)
def test_role_names_and_policies_fit_with_the_longest_installation_name(row: Any):
    site = Site(longest_configuration(), row.place, FAR)
    assert len(site.role_name(row.verb)) <= 64
    policy_document(row.statements(site), row.verb)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_policies_of_people_fit_with_the_longest_installation_name(name: str):
    policy_document(POLICIES[name](longest_configuration()), name, 6_144)


def test_trust_and_permissions_of_spoke_roles_fit_with_the_longest_installation_name():
    configuration = longest_configuration()
    for role in spoke_roles(configuration):
        policy_document(statements_of(Spoke(configuration, role.account), role.duties), role.name)
        assert len(json.dumps(trust(configuration, role, "o-*"), separators=(",", ":"))) <= 2_048


def test_permissions_that_iam_would_refuse_are_refused_with_a_remedy():
    many = [allow(f"S{number}", "s3:GetObject", f"arn:aws:s3:::bucket-{number}/key") for number in range(200)]
    with pytest.raises(ConfigurationError, match=r"move_segment.*IAM allows 10240.*Name fewer"):
        policy_document(many, "move_segment")


@pytest.mark.parametrize("place", [{"resources": "*"}, {"actions": "s3:Get*"}])
def test_a_wildcard_without_a_reason_cannot_be_written(place: dict[str, str]):
    with pytest.raises(ValueError, match="without a reason"):
        allow(
            "Broad", place.get("actions", "s3:GetObject"), place.get("resources", "arn:aws:s3:::bucket/key")
        )


def test_a_reason_without_a_wildcard_cannot_be_written():
    with pytest.raises(ValueError, match="no wildcard"):
        allow("Narrow", "s3:GetObject", "arn:aws:s3:::bucket/key", because="there once was one")


def test_pieces_may_repeat_a_statement_but_not_contradict_it():
    one = allow("Read", "s3:GetObject", "arn:aws:s3:::bucket/a")
    other = allow("Read", "s3:GetObject", "arn:aws:s3:::bucket/b")
    assert without_repeats([one, one]) == (one,)
    with pytest.raises(ValueError, match="called Read"):
        without_repeats([one, other])


def test_every_duty_has_permissions():
    assert set(PIECES) == set(Duty)
