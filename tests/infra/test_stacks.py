"""What the synthesized templates deploy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.bundle import load_bundle
from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration
from holdfast.settings import Settings
from infra.constructs.layers import LEFT_OUT
from infra.constructs.state_machine import DIRECTORY, MACHINES, placeholders, resolve, substitutions
from infra.function_table import BY_VERB, FUNCTIONS_DIRECTORY, ROWS, SCHEDULED
from infra.names import Place, Site, distinct_slugs, with_keys
from infra.synth import synthesize
from tests.infra.conftest import (
    BACKUP_ACCOUNT,
    MANAGEMENT,
    PRODUCTION,
    Template,
    a_configuration,
    member_template,
    read_templates,
    resources,
)

HUB, CELL = "holdfast-hub", "holdfast-cell-eu-west-1"

# What the templates may consist of: plain resources that a simulation can make too, and no custom resources.
KNOWN_TYPES = {
    "AWS::CloudFormation::StackSet",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::DynamoDB::Table",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::StepFunctions::StateMachine",
}


def by_name(template: Template, kind: str, key: str) -> dict[str, dict[str, Any]]:
    """Properties of the resources of one type by one of them."""
    return {found["Properties"][key]: found["Properties"] for found in resources(template, kind).values()}


def functions(template: Template) -> dict[str, dict[str, Any]]:
    return by_name(template, "AWS::Lambda::Function", "FunctionName")


def test_every_function_file_has_a_row_and_every_row_a_file():
    assert {path.stem for path in FUNCTIONS_DIRECTORY.glob("[!_]*.py")} == set(BY_VERB)


def test_every_state_machine_file_is_deployed_and_every_machine_has_a_file():
    assert {path.name.removesuffix(".asl.json") for path in DIRECTORY.glob("*.asl.json")} == set(MACHINES)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_every_placeholder_of_a_state_machine_has_a_value_at_its_place(
    machine: str, configuration: Configuration
):
    text = (DIRECTORY / f"{machine}.asl.json").read_text()
    known = substitutions(Site(configuration, MACHINES[machine], "eu-west-1"))
    assert placeholders(text)
    assert set(placeholders(text)) <= set(known)


def test_an_unknown_placeholder_is_an_error_that_names_it():
    with pytest.raises(ConfigurationError, match=r"NoSuchFunctionArn.*function_table"):
        resolve('{"Resource": "${NoSuchFunctionArn}"}', {}, "session.asl.json")


def test_each_stack_is_bound_to_its_account_and_region(assembly: Path):
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    places = {
        name: found["environment"]
        for name, found in artifacts.items()
        if found["type"] == "aws:cloudformation:stack"
    }
    assert places == {
        "holdfast-repository-main": f"aws://{BACKUP_ACCOUNT}/eu-central-1",
        "holdfast-repository-own-key": f"aws://{BACKUP_ACCOUNT}/eu-west-1",
        "holdfast-repository-vault": f"aws://{BACKUP_ACCOUNT}/eu-west-1",
        "holdfast-hub": f"aws://{BACKUP_ACCOUNT}/eu-central-1",
        "holdfast-cell-eu-central-1": f"aws://{BACKUP_ACCOUNT}/eu-central-1",
        "holdfast-cell-eu-west-1": f"aws://{BACKUP_ACCOUNT}/eu-west-1",
        f"holdfast-spoke-{PRODUCTION}": f"aws://{PRODUCTION}/eu-central-1",
        f"holdfast-spoke-{MANAGEMENT}": f"aws://{MANAGEMENT}/eu-central-1",
        "holdfast-organization": f"aws://{MANAGEMENT}/eu-central-1",
    }


def test_templates_consist_of_known_resources_alone(templates: dict[str, Template]):
    kinds = {found["Type"] for template in templates.values() for found in template["Resources"].values()}
    assert kinds == KNOWN_TYPES


def test_no_template_asks_for_the_version_of_a_bootstrap_stack(templates: dict[str, Template]):
    assert [name for name, template in templates.items() if "Rules" in template] == []


def test_stacks_take_no_values_from_each_other(templates: dict[str, Template]):
    text = json.dumps(templates)
    assert "Fn::ImportValue" not in text
    assert "Fn::GetStackOutput" not in text


def test_everything_that_can_be_tagged_names_its_installation(templates: dict[str, Template]):
    untaggable = {
        "AWS::CloudWatch::Dashboard",
        "AWS::IAM::ManagedPolicy",
        "AWS::KMS::Alias",
        "AWS::Lambda::LayerVersion",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::Scheduler::Schedule",
    }
    tag = {"Key": "holdfast:installation", "Value": "holdfast"}
    bare = [
        (stack, name)
        for stack, template in templates.items()
        for name, found in template["Resources"].items()
        if found["Type"] not in untaggable and tag not in found["Properties"].get("Tags", [])
    ]
    assert bare == []


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_functions_run_on_arm64_with_layers_logs_and_no_reserved_concurrency(
    stack: str, templates: dict[str, Template]
):
    place = Place.HUB if stack == HUB else Place.CELL
    found = functions(templates[stack])
    assert set(found) == {f"holdfast-{row.verb.replace('_', '-')}" for row in ROWS if row.place is place}
    for name, properties in found.items():
        assert properties["Architectures"] == ["arm64"], name
        assert properties["Runtime"] == "python3.13", name
        assert len(properties["Layers"]) == 3, name
        assert "ReservedConcurrentExecutions" not in properties, name
        assert properties["Handler"] == f"{name.removeprefix('holdfast-').replace('-', '_')}.handler"


def test_only_the_workers_that_move_blocks_are_not_traced(templates: dict[str, Template]):
    modes = {
        name: properties["TracingConfig"]["Mode"]
        for stack in (HUB, CELL)
        for name, properties in functions(templates[stack]).items()
    }
    untraced = {name for name, mode in modes.items() if mode != "Active"}
    assert untraced == {"holdfast-move-segment", "holdfast-restore-segment"}


def test_functions_that_events_invoke_keep_what_failed_for_good(templates: dict[str, Template]):
    keeping = {
        name
        for name, properties in functions(templates[HUB]).items()
        if "TargetArn" in properties.get("DeadLetterConfig", {})
    }
    assert keeping == {f"holdfast-{verb.replace('_', '-')}" for verb in SCHEDULED}


def test_every_log_group_forgets_after_three_months(templates: dict[str, Template]):
    days = {
        properties["RetentionInDays"]
        for stack in (HUB, CELL)
        for properties in by_name(templates[stack], "AWS::Logs::LogGroup", "LogGroupName").values()
    }
    assert days == {90}


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_the_environment_of_a_function_names_what_is_deployed(stack: str, templates: dict[str, Template]):
    (table,) = by_name(templates[HUB], "AWS::DynamoDB::Table", "TableName")
    (bucket,) = by_name(templates[stack], "AWS::S3::Bucket", "BucketName")
    machines = by_name(templates[CELL], "AWS::StepFunctions::StateMachine", "StateMachineName")
    for properties in functions(templates[stack]).values():
        settings = Settings.parse(properties["Environment"]["Variables"])
        assert settings.installation == "holdfast"
        assert (settings.table_name, settings.work_bucket) == (table, bucket)
        assert {settings.cell_machine_name, settings.restore_machine_name} == set(machines)
        assert settings.configuration == "/opt/configuration.json"
        assert settings.session_machine_arn == (
            f"arn:aws:states:eu-central-1:{BACKUP_ACCOUNT}:stateMachine:holdfast-session"
        )


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_state_machines_are_deployed_whole_and_do_not_log_what_they_carry(
    stack: str, templates: dict[str, Template]
):
    for name, properties in by_name(
        templates[stack], "AWS::StepFunctions::StateMachine", "StateMachineName"
    ).items():
        assert "${" not in properties["DefinitionString"], name
        assert json.loads(properties["DefinitionString"])["QueryLanguage"] == "JSONata"
        assert properties["LoggingConfiguration"]["Level"] == "ALL"
        assert properties["LoggingConfiguration"]["IncludeExecutionData"] is False


def test_the_catalog_survives_mistakes(templates: dict[str, Template]):
    (table,) = resources(templates[HUB], "AWS::DynamoDB::Table").values()
    properties = table["Properties"]
    assert table["DeletionPolicy"] == "Retain"
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert [index["IndexName"] for index in properties["GlobalSecondaryIndexes"]] == ["by-time"]


def test_each_expression_of_a_policy_is_a_schedule_in_the_policys_time_zone(templates: dict[str, Template]):
    schedules = by_name(templates[HUB], "AWS::Scheduler::Schedule", "Name")
    mine = [found for name, found in schedules.items() if name.startswith("production-daily-")]
    assert {found["ScheduleExpression"] for found in mine} == {"cron(0 3,15 * * ? *)"}
    (found,) = mine
    assert found["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert found["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert found["State"] == "ENABLED"
    target = found["Target"]
    assert json.loads(target["Input"]) == {
        "policy": "Production daily",
        "scheduled_at": "<aws.scheduler.scheduled-time>",
    }
    assert target["Arn"] == f"arn:aws:lambda:eu-central-1:{BACKUP_ACCOUNT}:function:holdfast-start-session"
    assert target["DeadLetterConfig"]["Arn"].endswith(":holdfast-hub-undelivered")
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 60}


def test_the_schedule_of_a_disabled_policy_is_disabled(templates: dict[str, Template]):
    schedules = by_name(templates[HUB], "AWS::Scheduler::Schedule", "Name")
    (state,) = [found["State"] for name, found in schedules.items() if name.startswith("company-paused-")]
    assert state == "DISABLED"


@pytest.mark.parametrize("name", ["start-retention", "expire-manual-snapshots"])
def test_retention_runs_daily_in_the_service_time_zone(name: str, templates: dict[str, Template]):
    found = by_name(templates[HUB], "AWS::Scheduler::Schedule", "Name")[name]
    assert (found["ScheduleExpression"], found["ScheduleExpressionTimezone"]) == ("cron(0 4 * * ? *)", "UTC")
    assert found["Target"]["Arn"].endswith(f":function:holdfast-{name}")


def bucket_policy(template: Template) -> list[dict[str, Any]]:
    (policy,) = resources(template, "AWS::S3::BucketPolicy").values()
    return list(policy["Properties"]["PolicyDocument"]["Statement"])


def test_every_bucket_is_private_encrypted_retained_and_open_to_tls_alone(templates: dict[str, Template]):
    checked = 0
    for name, template in templates.items():
        for bucket in resources(template, "AWS::S3::Bucket").values():
            properties = bucket["Properties"]
            assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}, name
            assert properties["BucketEncryption"], name
            assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain", name
            conditions = [found["Condition"] for found in bucket_policy(template) if "Condition" in found]
            assert {"Bool": {"aws:SecureTransport": "false"}} in conditions, name
            assert {"NumericLessThan": {"s3:TlsVersion": "1.2"}} in conditions, name
            checked += 1
    assert checked == 6


@pytest.mark.parametrize("stack", [HUB, CELL])
def test_lists_of_executions_are_forgotten_after_a_month(stack: str, templates: dict[str, Template]):
    (bucket,) = resources(templates[stack], "AWS::S3::Bucket").values()
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert (rule["ExpirationInDays"], rule["Status"]) == (30, "Enabled")


@pytest.mark.parametrize("repository", ["main", "vault", "own-key"])
def test_no_lifecycle_rule_removes_a_current_object_of_a_repository(
    repository: str, templates: dict[str, Template]
):
    (bucket,) = resources(templates[f"holdfast-repository-{repository}"], "AWS::S3::Bucket").values()
    for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]:
        assert not {"ExpirationInDays", "ExpirationDate", "Transitions"} & set(rule)


def test_object_lock_is_on_where_a_repository_is_immutable_and_has_no_default_retention(
    templates: dict[str, Template],
):
    locked = {}
    for name in ("main", "vault", "own-key"):
        (bucket,) = resources(templates[f"holdfast-repository-{name}"], "AWS::S3::Bucket").values()
        properties = bucket["Properties"]
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        assert "ObjectLockConfiguration" not in properties
        locked[name] = properties.get("ObjectLockEnabled", False)
    assert locked == {"main": False, "vault": True, "own-key": False}


def test_only_retention_may_delete_from_a_repository_and_nobody_by_passes_a_lock(
    templates: dict[str, Template],
):
    statements = {
        found["Sid"]: found
        for found in bucket_policy(templates["holdfast-repository-vault"])
        if "Sid" in found
    }
    assert statements["DenyBypassOfLocks"]["Action"] == "s3:BypassGovernanceRetention"
    assert "Condition" not in statements["DenyBypassOfLocks"]
    assert set(statements["DenyDeletion"]["Action"]) == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert statements["DenyDeletion"]["Condition"] == {
        "ArnNotLike": {"aws:PrincipalArn": [f"arn:aws:iam::{BACKUP_ACCOUNT}:role/holdfast-*-expire-backups"]}
    }
    assert statements["DenyOtherAccounts"]["Condition"]["StringNotEquals"] == {
        "aws:PrincipalAccount": BACKUP_ACCOUNT
    }


def test_a_key_is_made_only_for_a_repository_that_wants_one_and_names_none(templates: dict[str, Template]):
    keys = {name: resources(template, "AWS::KMS::Key") for name, template in templates.items()}
    assert {name for name, found in keys.items() if found} == {"holdfast-repository-main"}
    (key,) = keys["holdfast-repository-main"].values()
    assert key["Properties"]["EnableKeyRotation"] is True
    (denial,) = [found for found in key["Properties"]["KeyPolicy"]["Statement"] if found["Effect"] == "Deny"]
    assert denial["Principal"] == {"AWS": "*"}
    assert {"kms:Decrypt", "kms:Encrypt"} <= set(denial["Action"])
    assert denial["Condition"] == {"Null": {"kms:EncryptionContext:holdfast:repository": "true"}}
    assert key["DeletionPolicy"] == "Retain"


def test_functions_know_the_key_that_is_made_by_its_alias(
    configuration: Configuration, templates: dict[str, Template]
):
    (alias,) = resources(templates["holdfast-repository-main"], "AWS::KMS::Alias").values()
    seen = {found.name: found.encryption.key_arn for found in with_keys(configuration).repositories}
    name = alias["Properties"]["AliasName"]
    assert seen["Main"] == f"arn:aws:kms:eu-central-1:{BACKUP_ACCOUNT}:{name}"
    assert seen["vault"] == ""
    assert seen["own key"] == configuration.repositories[2].encryption.key_arn


def layer_directory(assembly: Path, stack: str, layer: str) -> Path:
    """The content of a layer's asset."""
    (found,) = [
        properties["Content"]["S3Key"]
        for name, properties in (
            (name, found["Properties"])
            for name, found in resources(
                json.loads((assembly / f"{stack}.template.json").read_text()), "AWS::Lambda::LayerVersion"
            ).items()
        )
        if name.startswith(layer)
    ]
    files = json.loads((assembly / f"{stack}.assets.json").read_text())["files"]
    return assembly / str(files[found.removesuffix(".zip")]["source"]["path"])


def test_the_configuration_layer_carries_the_configuration_as_functions_read_it(
    assembly: Path, configuration: Configuration
):
    bundle = layer_directory(assembly, CELL, "Configuration") / "configuration.json"
    assert load_bundle(bundle) == with_keys(configuration)


def test_the_core_layer_is_the_library_without_command_line_and_leftovers(assembly: Path):
    library = layer_directory(assembly, HUB, "Core") / "python" / "holdfast"
    files = [path.relative_to(library) for path in library.rglob("*")]
    assert Path("settings.py") in files
    assert [
        path for path in files if path.suffix == ".pyc" or path.name.startswith((".", "__pycache__"))
    ] == []
    assert [path for path in files if path.parts[0] in LEFT_OUT] == []


def test_functions_are_deployed_as_they_lie_in_their_directory(assembly: Path):
    template = json.loads((assembly / f"{HUB}.template.json").read_text())
    (key,) = {properties["Code"]["S3Key"] for properties in functions(template).values()}
    deployed = assembly / f"asset.{key.removesuffix('.zip')}"
    assert {path.stem for path in deployed.iterdir()} == set(BY_VERB)


@pytest.mark.parametrize(
    "stack,named",
    [
        (
            HUB,
            ("StartSessionFunctionArn", "SessionMachineArn", "ManualSnapshotMachineArn", "CatalogTableArn"),
        ),
        (HUB, ("ResultTopicArn", "WorkBucketName", "TakeManualSnapshotFunctionArn", "OperatorPolicyArn")),
        (CELL, ("CellMachineArn", "RestoreMachineArn", "MoveSegmentFunctionArn", "AlarmTopicArn")),
        ("holdfast-repository-main", ("BucketArn", "KeyArn")),
        ("holdfast-organization", ("StackSetId",)),
    ],
)
def test_outputs_name_what_people_need(stack: str, named: tuple[str, ...], templates: dict[str, Template]):
    assert set(named) <= set(templates[stack]["Outputs"])


def test_the_stack_set_follows_new_accounts_of_the_units_that_are_asked_for(templates: dict[str, Template]):
    (stack_set,) = resources(templates["holdfast-organization"], "AWS::CloudFormation::StackSet").values()
    properties = stack_set["Properties"]
    assert properties["PermissionModel"] == "SERVICE_MANAGED"
    assert properties["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": False}
    (group,) = properties["StackInstancesGroup"]
    assert group["DeploymentTargets"] == {"OrganizationalUnitIds": {"Ref": "OrganizationalUnitIds"}}
    assert len(properties["TemplateBody"]) < 51_200


def test_member_accounts_get_the_same_roles_as_the_management_account(templates: dict[str, Template]):
    members = member_template(templates["holdfast-organization"])
    names = by_name(members, "AWS::IAM::Role", "RoleName")
    management = by_name(templates[f"holdfast-spoke-{MANAGEMENT}"], "AWS::IAM::Role", "RoleName")
    assert set(names) == {"HoldfastBackup", "HoldfastRestore"}
    assert set(management) == {*names, "HoldfastOrganization"}
    for name, properties in names.items():
        here = json.dumps(properties["AssumeRolePolicyDocument"], sort_keys=True)
        assert here == json.dumps(management[name]["AssumeRolePolicyDocument"], sort_keys=True)


def test_the_units_that_all_policies_name_are_the_default_of_the_stack_set(tmp_path: Path):
    policy = a_configuration().policies[1].model_dump(mode="json")
    policy["source"]["units"] = ["ou-ab12-11112222", "ou-ab12-33334444"]
    configuration = a_configuration(policies=[policy])
    template = read_templates(synthesize(configuration, tmp_path, bundling=False))["holdfast-organization"]
    assert template["Parameters"]["OrganizationalUnitIds"]["Default"] == "ou-ab12-11112222,ou-ab12-33334444"


def test_an_installation_without_policies_is_a_hub_alone(tmp_path: Path):
    nothing = Configuration(backup_account=BACKUP_ACCOUNT, hub_region="us-east-1")
    templates = read_templates(synthesize(nothing, tmp_path, bundling=False))
    assert set(templates) == {"holdfast-hub"}
    assert set(by_name(templates["holdfast-hub"], "AWS::Scheduler::Schedule", "Name")) == {
        "expire-manual-snapshots",
        "record-coverage",
        "start-retention",
    }


def test_names_that_would_be_equal_as_identifiers_stay_apart():
    slugs = distinct_slugs(["Main", "main", "vault", "仓库"])
    assert len(set(slugs.values())) == 4
    assert slugs["vault"] == "vault"
    assert all(found and found.strip("-") == found for found in slugs.values())
