"""One synthesis for the tests of infrastructure: an account by role, an Organization, three repositories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from infra.synth import synthesize

Template = dict[str, Any]

BACKUP_ACCOUNT = "111122223333"
PRODUCTION = "444455556666"
MANAGEMENT = "777788889999"
KEY = f"arn:aws:kms:eu-west-1:{BACKUP_ACCOUNT}:key/0a1b2c3d-0000-4000-8000-000000000000"


def a_configuration(**changes: Any) -> Configuration:
    """A configuration that uses everything that stacks are made from."""
    document: dict[str, Any] = {
        "backup_account": BACKUP_ACCOUNT,
        "hub_region": "eu-central-1",
        "roles": [
            {
                "name": "production",
                "arn": f"arn:aws:iam::{PRODUCTION}:role/protected/HoldfastBackup",
                "external_id": "ours-and-production",
            }
        ],
        "organizations": [
            {
                "name": "company",
                "management_role": f"arn:aws:iam::{MANAGEMENT}:role/HoldfastOrganization",
                "external_id": "ours-and-company",
            }
        ],
        "repositories": [
            {
                "name": "Main",
                "bucket": "main-bucket",
                "region": "eu-central-1",
                "prefix": "main",
                "encryption": {"kind": "kms"},
            },
            {
                "name": "vault",
                "bucket": "vault-bucket",
                "region": "eu-west-1",
                "immutable": True,
                "encryption": {
                    "kind": "password",
                    "secret_arn": f"arn:aws:secretsmanager:eu-west-1:{BACKUP_ACCOUNT}:secret:vault-AbCdEf",
                },
            },
            {
                "name": "own key",
                "bucket": "own-key-bucket",
                "region": "eu-west-1",
                "encryption": {
                    "kind": "kms",
                    "key_arn": KEY,
                },
            },
        ],
        "policies": [
            {
                "name": "Production daily",
                "time_zone": "Europe/Berlin",
                "source": {"role": "production"},
                "regions": ["eu-central-1", "eu-west-1"],
                "selection": {"all": True},
                "daily": {"snapshots": {"hours": [3, 15]}, "backups": {"hours": [3]}},
                "repository": "Main",
            },
            {
                "name": "Company, paused",
                "enabled": False,
                "source": {"organization": "company"},
                "regions": ["eu-west-1"],
                "selection": {"all": True},
                "daily": {"snapshots": {"hours": [5]}},
            },
        ],
        "notifications": {
            "sender": "holdfast@example.com",
            "recipients": ["operators@example.com"],
            "topic_arn": f"arn:aws:sns:eu-central-1:{BACKUP_ACCOUNT}:operators",
        },
    }
    return Configuration.model_validate({**document, **changes})


def read_templates(assembly: Path) -> dict[str, Template]:
    """Templates of an assembly by stack id."""
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(assembly.glob("*.template.json"))
    }


def resources(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Resources of one type by logical id."""
    return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}


def member_template(template: Template) -> Template:
    """The template inside the StackSet of an organization stack."""
    (stack_set,) = resources(template, "AWS::CloudFormation::StackSet").values()
    found: Template = json.loads(stack_set["Properties"]["TemplateBody"])
    return found


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return a_configuration()


@pytest.fixture(scope="session")
def assembly(configuration: Configuration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(configuration, tmp_path_factory.mktemp("assembly"), bundling=False)


@pytest.fixture(scope="session")
def templates(assembly: Path) -> dict[str, Template]:
    return read_templates(assembly)
