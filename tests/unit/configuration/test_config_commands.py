"""``holdfast config`` and the files generated from the models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from holdfast.cli.config import app
from holdfast.model.configuration import Configuration
from holdfast.model.json_schema import configuration_schema
from holdfast.model.regions import TIME_ZONES, partition
from holdfast.yaml_tree import read_tree
from tools.generate_configuration_reference import generated

ROOT = Path(__file__).parents[3]
WRONG = """\
backup_account: "111122223333"
hub_region: eu-central-1
policies:
  - name: daily
    source: {role: production}
    regions: [eu-central-1]
    selection: {all: true}
"""


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_validate_prints_one_remark_a_line_and_fails(tmp_path):
    (tmp_path / "policies.yaml").write_text(WRONG)
    result = run("validate", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout == (
        f"{tmp_path}/policies.yaml:5:20: error: there is no role 'production' "
        "(nothing is configured under `roles`)\n"
    )


def test_validate_of_a_valid_configuration_says_so_and_leaves_stdout_empty():
    result = run("validate", str(ROOT / "config"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "valid: 2 policies in eu-central-1, us-east-1\n"


def test_a_warning_fails_only_when_it_is_asked_to(tmp_path):
    roles = 'roles: [{name: production, arn: "arn:aws:iam::444455556666:role/Backup"}]\n'
    (tmp_path / "a.yaml").write_text(WRONG.replace("all: true", "all: true, tags: [{key: x}]") + roles)
    assert run("validate", str(tmp_path)).exit_code == 0
    assert run("validate", "--strict", str(tmp_path)).exit_code == 1


def test_a_wrong_option_is_a_usage_error():
    assert run("validate", "--strickt").exit_code == 2


def test_the_schema_command_writes_the_schema(tmp_path):
    assert json.loads(run("schema").stdout) == configuration_schema()
    file = tmp_path / "schema.json"
    assert run("schema", "--write", str(file)).exit_code == 0
    assert json.loads(file.read_text()) == configuration_schema()


@pytest.mark.parametrize("path", sorted(generated()), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path):
    assert path.read_text(encoding="utf-8") == generated()[path], (
        "run tools/generate_configuration_reference.py"
    )


def test_the_example_files_name_the_schema_for_editors():
    files = sorted((ROOT / "config").glob("*.yaml"))
    assert files
    for file in files:
        assert file.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


def test_editors_accept_the_example_and_refuse_what_validate_refuses():
    validator = Draft202012Validator(configuration_schema())
    Draft202012Validator.check_schema(validator.schema)
    for file in sorted((ROOT / "config").glob("*.yaml")):
        validator.validate(read_tree(file.read_bytes(), file.name).value)
    assert not validator.is_valid({"polices": []})
    assert not validator.is_valid({"backup_account": 111122223333})
    assert not validator.is_valid({"session_records": "soon"})


def test_the_schema_knows_every_key_and_requires_none_at_the_top():
    schema = configuration_schema()
    assert set(schema["properties"]) == set(Configuration.model_fields)
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert any(option.get("type") == "string" for option in schema["$defs"]["Keep"]["anyOf"])


def test_loading_the_bundle_does_not_load_what_reads_yaml():
    program = "import sys, holdfast.bundle; print(sorted(name for name in sys.modules if 'yaml' in name))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "layers/core/python")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    "region, name",
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_a_region_names_its_partition(region, name):
    assert region in TIME_ZONES
    assert partition(region) == name


def test_regions_are_those_that_any_policy_protects():
    made = Configuration.model_validate(
        {"backup_account": "111122223333", "hub_region": "eu-central-1"}
        | {
            "policies": [
                {"name": "a", "source": {}, "regions": ["us-east-1", "eu-west-1"], "selection": {}},
                {"name": "b", "source": {}, "regions": ["us-east-1"], "selection": {}},
            ]
        }
    )
    assert made.regions() == ("eu-west-1", "us-east-1")
    assert made.policy("b") == made.policies[1]
    assert made.policy("c") is None
