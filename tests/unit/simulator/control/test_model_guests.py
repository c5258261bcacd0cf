"""Commands run against model guests as Systems Manager would show them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.simulator import Simulator
from simulator.world import Instance, Volume, World

ACCOUNT, REGION = "111111111111", "eu-central-1"
GUESTS = {
    "linux": {
        "scripts": [
            {"matches": "/opt/freeze.sh*", "seconds": 20, "output": "frozen\n"},
            {"matches": "/opt/broken.sh", "exit": 3, "error": "disk full\n"},
            {"matches": "/opt/stuck.sh", "hangs": True},
        ]
    },
    "asleep": {"agent": "offline"},
    "windows": {"vss": "installed"},
    "bare": {"vss": "missing"},
}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulator]:
    """An instance per kind of guest, and one without any."""
    disks = (Volume(device="/dev/xvda", size_gib=1), Volume(device="/dev/xvdb", size_gib=1))
    place = {"account": ACCOUNT, "region": REGION, "volumes": disks}
    instances = [Instance(name=name, guest=name, **place) for name in GUESTS]
    instances += [
        Instance(name="plain", **place),
        Instance(name="stopped", guest="linux", state="stopped", **place),
    ]
    world = World(backup_account=ACCOUNT, regions=(REGION,), instances=tuple(instances), guests=GUESTS)
    with Simulator(tmp_path / "world", world) as opened:
        yield opened


def instance(sim: Simulator, name: str) -> str:
    """The id of an instance."""
    filters = [{"Name": "tag:Name", "Values": [name]}]
    found = sim.control.client("ec2", ACCOUNT, REGION).describe_instances(Filters=filters)
    return str(found["Reservations"][0]["Instances"][0]["InstanceId"])


def send(sim: Simulator, name: str, *lines: str, document: str = "AWS-RunShellScript", **more: Any) -> Any:
    """Send a command; returns a function that tells how it stands."""
    client = sim.control.client("ssm", ACCOUNT, REGION)
    target = instance(sim, name)
    parameters = {"commands": list(lines), **more} if lines else more
    command = client.send_command(DocumentName=document, InstanceIds=[target], Parameters=parameters)[
        "Command"
    ]
    return lambda: client.get_command_invocation(CommandId=command["CommandId"], InstanceId=target)


def later(sim: Simulator, seconds: float) -> None:
    """Let virtual time pass."""
    sim.clock.advance_to(sim.clock.now() + timedelta(seconds=seconds))


def test_a_script_runs_for_its_time_and_then_shows_its_output(sim):
    state = send(sim, "linux", "/opt/freeze.sh --all")

    assert (state()["Status"], state()["StandardOutputContent"]) == ("InProgress", "")
    later(sim, 20)
    assert (state()["Status"], state()["StandardOutputContent"]) == ("Success", "frozen\n")


@pytest.mark.parametrize(
    "script, status, code, error",
    [
        ("/opt/broken.sh", "Failed", 3, "disk full\n"),
        ("/opt/nowhere.sh", "Failed", 127, "/opt/nowhere.sh: not found\n"),
    ],
)
def test_a_script_that_fails_or_is_missing_says_so(sim, script, status, code, error):
    state = send(sim, "linux", script)
    later(sim, 60)

    shown = state()
    assert (shown["Status"], shown["ResponseCode"], shown["StandardErrorContent"]) == (status, code, error)


def test_a_script_that_hangs_times_out(sim):
    state = send(sim, "linux", "/opt/stuck.sh", executionTimeout=["120"])

    later(sim, 119)
    assert state()["Status"] == "InProgress"
    later(sim, 1)
    assert state()["Status"] == "TimedOut"


def test_a_command_is_cancelled_while_it_runs(sim):
    state = send(sim, "linux", "/opt/stuck.sh")
    sim.control.client("ssm", ACCOUNT, REGION).cancel_command(CommandId=state()["CommandId"])

    assert state()["Status"] == "Cancelled"


def test_an_agent_that_lost_its_connection_never_gets_the_command(sim):
    state = send(sim, "asleep", "/opt/freeze.sh")

    assert state()["Status"] == "Pending"
    later(sim, 3_600)
    assert state()["Status"] == "DeliveryTimedOut"


@pytest.mark.parametrize("name", ["plain", "stopped"])
def test_an_instance_without_a_running_agent_takes_no_command(sim, name):
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        send(sim, name, "/opt/freeze.sh")


def test_only_agents_that_are_known_are_listed(sim):
    listed = sim.control.client("ssm", ACCOUNT, REGION).describe_instance_information()[
        "InstanceInformationList"
    ]

    assert {one["InstanceId"]: one["PingStatus"] for one in listed} == {
        instance(sim, "linux"): "Online",
        instance(sim, "asleep"): "ConnectionLost",
        instance(sim, "windows"): "Online",
        instance(sim, "bare"): "Online",
    }


def test_an_application_aware_snapshot_is_made_by_the_instance_itself(sim):
    state = send(sim, "windows", document="AWSEC2-CreateVssSnapshot", tags=["Key=by,Value=us"])
    later(sim, 10)

    made = state()["StandardOutputContent"].split()
    described = sim.control.client("ec2", ACCOUNT, REGION).describe_snapshots(SnapshotIds=made)["Snapshots"]
    assert len(described) == 2
    assert {"Key": "AppConsistent", "Value": "True"} in described[0]["Tags"]


def test_without_the_components_there_is_no_application_aware_snapshot(sim):
    state = send(sim, "bare", document="AWSEC2-CreateVssSnapshot")
    later(sim, 10)

    assert (state()["Status"], state()["StandardErrorContent"]) == (
        "Failed",
        "VSS components are not installed",
    )
