"""What other people's rules say about the templates: cdk-nag's AwsSolutions and cfn-lint."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import aws_cdk as cdk
import cfnlint.api
import pytest
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks

from holdfast.model.configuration import Configuration
from infra.statements import acknowledge_wildcards, allow, policy_document
from infra.synth import application, build
from tests.infra.conftest import Template, member_template

# W3005: CDK orders every function after its role, for policies that it might attach later.
ACCEPTED_BY_CFN_LINT = ["W3005"]


def check(app: cdk.App) -> list[dict[str, str]]:
    """Findings that nobody acknowledged, after synthesis with the checks."""
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with suppress(RuntimeError):  # a finding fails the synthesis; the report below tells which
        app.synth()
    (report,) = json.loads((Path(app.outdir) / "validation-report.json").read_text())["pluginReports"]
    assert report["pluginName"] == "AwsSolutions"
    return [
        {"rule": found["ruleName"], "construct": construct["constructPath"]}
        for found in report["violations"]
        for construct in found["violatingConstructs"]
    ]


def test_no_finding_of_the_security_rules_is_without_a_reason(configuration: Configuration, tmp_path: Path):
    app = application(tmp_path, bundling=False)
    build(app, configuration)
    assert check(app) == []


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_wildcard_is_a_finding_until_it_is_acknowledged_with_its_reason(acknowledged: bool, tmp_path: Path):
    app = cdk.App(outdir=str(tmp_path), analytics_reporting=False)
    statements = [allow("Broad", "ec2:DescribeInstances", "*", because="EC2 offers no resources here.")]
    role = iam.Role(
        cdk.Stack(app, "Stack"),
        "Role",
        assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        inline_policies={"Allowed": policy_document(statements, "test")},
    )
    if acknowledged:
        acknowledge_wildcards(role, statements)
    found = [finding["rule"] for finding in check(app)]
    assert found == ([] if acknowledged else ["AwsSolutions-IAM5[Resource::*]"])


@pytest.mark.parametrize(
    "stack",
    [
        "holdfast-hub",
        "holdfast-cell-eu-west-1",
        "holdfast-repository-main",
        "holdfast-repository-vault",
        "holdfast-spoke-777788889999",
        "holdfast-organization",
        "members",
    ],
)
def test_templates_and_definitions_pass_cfn_lint(stack: str, templates: dict[str, Template]):
    template = member_template(templates["holdfast-organization"]) if stack == "members" else templates[stack]
    config = cfnlint.api.ManualArgs(regions=["eu-central-1"], ignore_checks=ACCEPTED_BY_CFN_LINT)
    found = cfnlint.api.lint(json.dumps(template), config=config)
    assert [f"{match.rule.id} {match.message}" for match in found] == []
