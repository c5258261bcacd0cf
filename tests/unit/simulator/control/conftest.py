"""Small worlds, functions written in the test, and CloudFormation templates written by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from simulator.deploy import archive
from simulator.simulator import Simulator, current
from simulator.world import World

BACKUP = "111111111111"
REGION = "eu-central-1"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    """A world with one account and two Regions."""
    opened = Simulator(tmp_path / "world", World(backup_account=BACKUP, regions=(REGION, "eu-west-1")))
    try:
        yield opened
    finally:
        with suppress(ConfigurationError):  # the test closed it
            current().close()


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Writes handlers: keyword = module, value = source. Returns the folder of the asset."""
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(**sources: str) -> Path:
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(dedent(source))
        return folder

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "scripted"]:
        del sys.modules[name]


def trust(service: str) -> dict[str, Any]:
    """A trust policy for a service."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": f"{service}.amazonaws.com"},
            }
        ],
    }


def role(service: str, *statements: dict[str, Any]) -> dict[str, Any]:
    """A role that a service assumes; each statement allows its actions."""
    policies = []
    if statements:
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]}
        policies = [{"PolicyName": "inline", "PolicyDocument": document}]
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": trust(service), "Policies": policies},
    }


class Stack:
    """A template that a test composes, and its deployment."""

    def __init__(
        self, sim: Simulator, *, account: str = BACKUP, region: str = REGION, name: str = "Stack"
    ) -> None:
        self.sim, self.account, self.region, self.name = sim, account, region, name
        self.resources: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def add(self, **resources: dict[str, Any]) -> None:
        """Add resources by logical id."""
        self.resources |= resources

    def function(self, name: str, asset: Path, *statements: dict[str, Any], **properties: Any) -> None:
        """A function ``name`` with a role that allows ``statements``."""
        bucket = self.sim.control.deployer.bootstrap(self.account, self.region)
        client = self.sim.control.client("s3", self.account, self.region)
        key = f"{name}.zip"
        client.put_object(Bucket=bucket, Key=key, Body=archive(asset))
        self.sim.lambdas.package = asset.name
        self.resources[f"{name}Role"] = role("lambda", *statements)
        self.resources[name] = {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": name,
                "Code": {"S3Bucket": bucket, "S3Key": key},
                "Handler": f"{name}.handler",
                "Runtime": "python3.13",
                "Role": {"Fn::GetAtt": [f"{name}Role", "Arn"]},
                "Timeout": 60,
                **properties,
            },
        }

    def machine(self, name: str, definition: dict[str, Any], *statements: dict[str, Any]) -> str:
        """A state machine; returns its ARN-to-be."""
        maps = ["states:StartExecution", "states:DescribeExecution", "states:StopExecution"]
        runs = {"Action": ["lambda:InvokeFunction", *maps], "Resource": "*"}
        self.resources[f"{name}Role"] = role("states", runs, *statements)
        self.resources[name] = {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "StateMachineName": name,
                "DefinitionString": json.dumps({"QueryLanguage": "JSONata", **definition}),
                "RoleArn": {"Fn::GetAtt": [f"{name}Role", "Arn"]},
            },
        }
        return f"arn:aws:states:{self.region}:{self.account}:stateMachine:{name}"

    def template(self) -> str:
        """The template as it is now."""
        return json.dumps({"Resources": self.resources, "Outputs": self.outputs})

    def deploy(self) -> dict[str, str]:
        """Create or update the stack; returns its outputs."""
        client = self.sim.control.client("cloudformation", self.account, self.region)
        names = [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]
        act = client.update_stack if self.name in names else client.create_stack
        act(StackName=self.name, TemplateBody=self.template(), Capabilities=["CAPABILITY_NAMED_IAM"])
        found = client.describe_stacks(StackName=self.name)["Stacks"][0]
        assert found["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
        return {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}

    def run(self, machine: str, value: Any = None) -> Any:
        """Run a state machine of the stack to its end."""
        client = self.sim.control.client("stepfunctions", self.account, self.region)
        arn = f"arn:aws:states:{self.region}:{self.account}:stateMachine:{machine}"
        started = client.start_execution(
            stateMachineArn=arn, input=json.dumps(value if value is not None else {})
        )
        return self.sim.executions.wait(started["executionArn"])


def call(stack: Any, name: str, event: Any = None, **more: Any) -> tuple[Any, str]:
    """Invoke a function through the API: its answer, and the kind of failure."""
    client = stack.sim.control.client("lambda", stack.account, stack.region)
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **more)
    body = answer["Payload"].read()
    return (json.loads(body) if body else None), answer.get("FunctionError", "")


@pytest.fixture
def stack(sim: Simulator) -> Stack:
    """An empty stack in the home Region."""
    return Stack(sim)


@pytest.fixture
def new_stack(sim: Simulator) -> Callable[..., Stack]:
    """Makes empty stacks elsewhere."""
    return lambda **place: Stack(sim, **place)
