"""The real CDK command line bootstraps, deploys, updates and destroys against the simulator on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3

from simulator.simulator import Simulator
from simulator.world import World

ROOT = Path(__file__).parent.parent.parent
ACCOUNT, REGION = "111111111111", "eu-central-1"
ENVIRONMENT = f"aws://{ACCOUNT}/{REGION}"

pytestmark = pytest.mark.cdk_cli

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Simulator]:
    """A world at the machine's own time, by which the command line judges its credentials."""
    described = World(backup_account=ACCOUNT, regions=(REGION,), starts_at=datetime.now(UTC))
    with Simulator(tmp_path / "world", described) as opened:
        yield opened


@pytest.fixture
def command_line(world: Simulator, tmp_path: Path) -> CommandLine:
    """Runs ``cdk`` with the operator's credentials and the simulator as AWS."""
    operator = world.identities.assume(ACCOUNT, "Operator", seconds=86_400)
    program = ROOT / "node_modules" / ".bin" / "cdk"
    assert program.exists(), "the pinned CDK command line is not installed: run `npm ci`"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": operator.access_key,
        "AWS_SECRET_ACCESS_KEY": operator.secret,
        "AWS_SESSION_TOKEN": operator.token,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": world.server.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_VERSION_CHECK": "1",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CI": "1",
    }

    def run(*arguments: str, app: Path | None = None) -> subprocess.CompletedProcess[str]:
        chosen = ["--app", str(app)] if app else []
        command = [str(program), *chosen, "--no-notices", "--no-version-reporting", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def synthesized(folder: Path, *, greeting: str, bucket: bool = True) -> Path:
    """The assembly of a small app: a function, and a bucket unless it is left out."""
    app = cdk.App(outdir=str(folder), analytics_reporting=False)
    stack = cdk.Stack(app, "Demo", env=cdk.Environment(account=ACCOUNT, region=REGION))
    asset = folder.parent / "asset"
    asset.mkdir(exist_ok=True)
    (asset / "hello.py").write_text("def handler(event, context):\n    return 'hello'\n")
    lambda_.Function(
        stack,
        "Hello",
        function_name="hello",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="hello.handler",
        code=lambda_.Code.from_asset(str(asset)),
        environment={"GREETING": greeting},
    )
    if bucket:
        made = s3.Bucket(stack, "Data", versioned=True, removal_policy=cdk.RemovalPolicy.DESTROY)
        cdk.CfnOutput(stack, "BucketName", value=made.bucket_name)
    app.synth()
    return folder


def test_an_app_is_deployed_updated_and_destroyed(world, command_line, tmp_path):
    bootstrapped = command_line("bootstrap", ENVIRONMENT)
    assert bootstrapped.returncode == 0, bootstrapped.stderr

    first = command_line(
        "deploy", "--require-approval", "never", app=synthesized(tmp_path / "first", greeting="a")
    )
    assert first.returncode == 0, first.stderr
    assert "Demo.BucketName = demo-" in first.stdout + first.stderr
    functions = world.control.client("lambda", ACCOUNT, REGION)
    variables = functions.get_function_configuration(FunctionName="hello")["Environment"]["Variables"]
    assert variables == {"GREETING": "a"}

    changed = synthesized(tmp_path / "second", greeting="b", bucket=False)
    second = command_line("deploy", "--require-approval", "never", app=changed)
    assert second.returncode == 0, second.stderr
    variables = functions.get_function_configuration(FunctionName="hello")["Environment"]["Variables"]
    assert variables == {"GREETING": "b"}
    buckets = [one["Name"] for one in world.control.client("s3", ACCOUNT, REGION).list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith("demo-")]

    destroyed = command_line("destroy", "--force", "--all", app=changed)
    assert destroyed.returncode == 0, destroyed.stderr
    assert functions.list_functions()["Functions"] == []
    assert world.recorder.violations() == []


def test_a_stack_that_cannot_be_built_fails_with_its_reason(command_line, world, tmp_path):
    world.control.deployer.bootstrap(ACCOUNT, REGION)
    app = cdk.App(outdir=str(tmp_path / "odd"), analytics_reporting=False)
    stack = cdk.Stack(app, "Odd", env=cdk.Environment(account=ACCOUNT, region=REGION))
    cdk.CfnResource(stack, "Computer", type="AWS::Quantum::Computer")
    app.synth()

    failed = command_line("deploy", "--require-approval", "never", app=tmp_path / "odd")

    assert failed.returncode == 1
    assert "AWS::Quantum::Computer" in failed.stdout + failed.stderr
