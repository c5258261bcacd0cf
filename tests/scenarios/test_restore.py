"""Restores on the deployed templates in a simulated AWS: what comes back, and what stays when it goes wrong.

Every scenario begins after a real session has backed the shop up. State machines, handlers and roles are the
real ones; a call that a deployed role would not allow fails the scenario.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

import simulator
from holdfast.aws.http import HttpClient
from holdfast.aws.wire import Timeouts
from holdfast.cli.context import remote_error
from holdfast.errors import HoldfastError
from holdfast.settings import Settings
from simulator.faults import Fault
from simulator.lambdas import after_calls
from tests.disks import fingerprint, noise
from tests.scenarios.conftest import BACKUP, HUB, SHOP, WEST, Installation

BLOCKS = (0, 1, 100, 2047)
LAST = 2 * 2048 - 1


@pytest.fixture(scope="module")
def backed_up(
    deployed: tuple[Path, Settings], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Settings]:
    """The deployed installation after its first session."""
    directory = tmp_path_factory.mktemp("backed-up") / "aws"
    shutil.copytree(deployed[0], directory, symlinks=True)
    with simulator.open(directory) as sim:
        installation = Installation(sim, deployed[1])
        for name in ("web", "db"):
            for volume_id in installation.volumes(name).values():
                for index in BLOCKS:
                    sim.ebs.write_blocks(volume_id, index, noise(f"{volume_id} {index}"))
        sim.ebs.write_blocks(installation.volumes("web")["/dev/sdb"], LAST, noise("last"))
        installation.run_until(7)
    return directory, deployed[1]


@dataclass
class Scene:
    """An installation with a backup of the instance `web`, and what its restores do."""

    installation: Installation
    source: dict[str, str]
    before: set[str]

    @property
    def sim(self) -> Any:
        return self.installation.sim

    def request(self, kind: str = "volume", **changes: Any) -> dict[str, Any]:
        instance_id = self.installation.instance_id("web")
        points = list(self.installation.catalog.points(instance_id))
        target = {
            "account": SHOP,
            "region": HUB,
            **({"availability_zone": f"{HUB}a"} if kind == "volume" else {}),
        }
        return {
            "restore_id": "restore-1",
            "kind": kind,
            "instance_id": instance_id,
            "point_id": points[0].point_id,
            "repository": "main",
            "target": target | changes.pop("target", {}),
            **changes,
        }

    def start(self, event: dict[str, Any], region: str = HUB) -> str:
        """The ARN of the execution of a restore."""
        client = self.sim.session(BACKUP, HUB).client("stepfunctions", region_name=region)
        arn = f"arn:aws:states:{region}:{BACKUP}:stateMachine:holdfast-restore"
        started = client.start_execution(
            stateMachineArn=arn, name=event["restore_id"], input=json.dumps(event)
        )
        return str(started["executionArn"])

    def run(self, event: dict[str, Any], region: str = HUB) -> Any:
        """The execution of a restore, ended."""
        return self.sim.executions.wait(self.start(event, region))

    def restored(self, event: dict[str, Any]) -> dict[str, Any]:
        """What a restore that succeeds made."""
        ended = self.run(event)
        assert ended.status == "SUCCEEDED", f"{ended.error}: {ended.cause}"
        output: dict[str, Any] = json.loads(ended.output)
        return output

    def refused(self, event: dict[str, Any]) -> HoldfastError:
        """The error of a restore that fails, as a person is told it."""
        ended = self.run(event)
        assert ended.status == "FAILED"
        return remote_error(ended.error, ended.cause)

    def resources(self, account: str = SHOP, region: str = HUB) -> set[str]:
        """Ids of every snapshot, image, volume and instance of an account."""
        ec2 = self.installation.ec2(account, region)
        instances = (one for r in ec2.describe_instances()["Reservations"] for one in r["Instances"])
        return {
            *(one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]),
            *(one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]),
            *(one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]),
            *(one["InstanceId"] for one in instances),
        }

    def made(self) -> set[str]:
        """Ids of what is there now and was not before."""
        gone = self.before - self.resources()
        assert gone == set()
        return self.resources() - self.before

    def is_repeated_removal(self, violation: Any) -> bool:
        """Whether what was to be removed is gone: rights that hang on its tags deny to remove it again."""
        removing = violation.action in ("ec2:DeleteSnapshot", "ec2:DeregisterImage")
        return removing and violation.resource.rpartition("/")[2] not in self.resources()

    def contents(self, plan: dict[str, Any]) -> dict[str, str]:
        """What the restored volumes hold, by device."""
        return {
            one["source"]["device"]: fingerprint(self.sim.ebs.volume_content(one["volume_id"]))
            for one in plan["volumes"]
        }


@pytest.fixture
def scene(backed_up: tuple[Path, Settings], tmp_path: Path) -> Iterator[Scene]:
    """A copy of the installation after its first session."""
    shutil.copytree(backed_up[0], tmp_path / "aws", symlinks=True)
    with simulator.open(tmp_path / "aws") as sim:
        installation = Installation(sim, backed_up[1])
        volumes = installation.volumes("web").items()
        made = Scene(
            installation, {device: fingerprint(sim.ebs.volume_content(one)) for device, one in volumes}, set()
        )
        made.before = made.resources()
        yield made
        assert [one for one in sim.recorder.violations() if not made.is_repeated_removal(one)] == []


def test_volumes_come_back_as_they_were_and_nothing_else_stays(scene: Scene) -> None:
    for volume_id in scene.installation.volumes("web").values():
        scene.sim.ebs.write_blocks(volume_id, 1, noise("written after the backup"))
    plan = scene.restored(scene.request())
    assert scene.contents(plan) == scene.source
    assert scene.made() == {volume["volume_id"] for volume in plan["volumes"]}


def test_an_instance_comes_back_with_its_disks_and_nothing_temporary_stays(scene: Scene) -> None:
    settings = {"name": "web again", "instance_type": "m7g.xlarge"}
    plan = scene.restored(scene.request("instance", instance=settings))
    assert scene.contents(plan) == scene.source
    assert scene.made() == {plan["instance_id"], *(volume["volume_id"] for volume in plan["volumes"])}
    instance = scene.installation.instance("web again")
    source = scene.installation.instance("web")
    assert instance["InstanceId"] == plan["instance_id"]
    assert (instance["InstanceType"], instance["SubnetId"]) == ("m7g.xlarge", source["SubnetId"])
    assert len(instance["NetworkInterfaces"]) == 1
    assert instance["PrivateIpAddress"] != source["PrivateIpAddress"]
    attribute = scene.installation.ec2().describe_instance_attribute(
        InstanceId=plan["instance_id"], Attribute="userData"
    )
    assert attribute["UserData"]["Value"] == "IyEvYmluL3NoCmVjaG8gaGVsbG8K"


def test_restored_volumes_carry_the_tags_of_their_sources(scene: Scene) -> None:
    plan = scene.restored(scene.request(target={"tags": {"case": "7"}}))
    found = scene.installation.ec2().describe_volumes(
        VolumeIds=[volume["volume_id"] for volume in plan["volumes"]]
    )["Volumes"]
    tags = [{tag["Key"]: tag["Value"] for tag in volume["Tags"]} for volume in found]
    assert {one["data"] for one in tags} == {"system", "orders"}
    assert {(one["case"], one["holdfast:restore"]) for one in tags} == {("7", "restore-1")}


def test_a_cloud_native_snapshot_is_restored_without_moving_a_block(scene: Scene) -> None:
    before = scene.sim.requests.copy()
    plan = scene.restored(scene.request(repository=""))
    assert scene.contents(plan) == scene.source
    assert scene.made() == {volume["volume_id"] for volume in plan["volumes"]}
    assert {name for name in scene.sim.requests - before if name.startswith("ebs:")} == set()


def test_an_instance_is_restored_from_its_cloud_native_snapshot(scene: Scene) -> None:
    plan = scene.restored(scene.request("instance", repository=""))
    assert scene.contents(plan) == scene.source
    assert scene.made() == {plan["instance_id"], *(volume["volume_id"] for volume in plan["volumes"])}


def test_a_restore_into_another_region_reads_the_repository_from_there(scene: Scene) -> None:
    before = scene.resources(region=WEST)
    event = scene.request(target={"region": WEST, "availability_zone": f"{WEST}a"})
    ended = scene.run(event, WEST)
    assert ended.status == "SUCCEEDED"
    plan = json.loads(ended.output)
    assert scene.contents(plan) == scene.source
    assert scene.resources(region=WEST) - before == {volume["volume_id"] for volume in plan["volumes"]}


@pytest.mark.parametrize("repository", ["main", ""])
def test_restored_volumes_are_encrypted_with_the_key_asked_for(scene: Scene, repository: str) -> None:
    key = scene.sim.session(SHOP, HUB).client("kms").create_key()["KeyMetadata"]["Arn"]
    plan = scene.restored(scene.request(repository=repository, target={"kms_key_arn": key}))
    found = scene.installation.ec2().describe_volumes(
        VolumeIds=[volume["volume_id"] for volume in plan["volumes"]]
    )["Volumes"]
    assert {(volume["Encrypted"], volume["KmsKeyId"]) for volume in found} == {(True, key)}
    assert scene.contents(plan) == scene.source


def test_an_instance_from_a_snapshot_gets_disks_under_the_key_asked_for(scene: Scene) -> None:
    key = scene.sim.session(SHOP, HUB).client("kms").create_key()["KeyMetadata"]["Arn"]
    plan = scene.restored(scene.request("instance", repository="", target={"kms_key_arn": key}))
    found = scene.installation.ec2().describe_volumes(
        VolumeIds=[volume["volume_id"] for volume in plan["volumes"]]
    )["Volumes"]
    assert {volume["KmsKeyId"] for volume in found} == {key}


def test_the_same_restore_started_twice_is_one_restore(scene: Scene) -> None:
    event = scene.request()
    execution = scene.start(event)
    assert scene.start(event) == execution
    assert scene.sim.executions.wait(execution).status == "SUCCEEDED"
    assert len(scene.made()) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that give up after a second of real time, and leave retries to the state machine."""
    monkeypatch.setitem(HttpClient.__init__.__kwdefaults__, "timeouts", Timeouts(operation=1.0))
    once = Config(retries={"total_max_attempts": 1})
    monkeypatch.setattr("holdfast.aws.ec2_restore.CONFIG", once)


@pytest.mark.parametrize(
    "kind,fault",
    [
        ("volume", Fault(call="ebs:PutSnapshotBlock", effect="throttle", nth=2)),
        ("volume", Fault(call="ebs:PutSnapshotBlock", effect="crash", nth=3)),
        ("volume", Fault(call="s3:GetObject", effect="internal", nth=4)),
        ("volume", Fault(call="ec2:CreateVolume", effect="lost", nth=1)),
        ("instance", Fault(call="ec2:RegisterImage", effect="crash", nth=1)),
        ("instance", Fault(call="ec2:RunInstances", effect="lost", nth=1)),
        ("instance", Fault(call="ec2:DeregisterImage", effect="lost", nth=1)),
        *(
            pytest.param(kind, Fault(call=call, effect=effect, nth=nth), marks=pytest.mark.slow)
            for kind, call, nth in (
                ("volume", "ebs:StartSnapshot", 2),
                ("volume", "ebs:PutSnapshotBlock", 1),
                ("volume", "ebs:CompleteSnapshot", 1),
                ("volume", "s3:GetObject", 4),
                ("volume", "sts:AssumeRole", 2),
                ("volume", "ec2:CreateVolume", 2),
                ("volume", "ec2:DeleteSnapshot", 2),
                ("instance", "ec2:RegisterImage", 1),
                ("instance", "ec2:RunInstances", 1),
                ("instance", "ec2:CreateTags", 1),
                ("instance", "ec2:DeregisterImage", 1),
            )
            for effect in ("throttle", "internal", "lost", "crash")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.call}-{value.effect}",
)
@pytest.mark.usefixtures("impatient")
def test_a_mishap_that_passes_is_survived(scene: Scene, kind: str, fault: Fault) -> None:
    scene.sim.faults.add(fault)
    plan = scene.restored(scene.request(kind))
    assert sum(scene.sim.faults.struck.values()) == 1
    assert scene.contents(plan) == scene.source
    instance = {plan["instance_id"]} if kind == "instance" else set()
    assert scene.made() == instance | {volume["volume_id"] for volume in plan["volumes"]}


def test_a_worker_out_of_time_is_followed_by_one_that_goes_on(scene: Scene) -> None:
    scene.sim.lambdas.time_limit = lambda name: after_calls(1) if name.endswith("restore-segment") else None
    plan = scene.restored(scene.request())
    assert scene.sim.lambdas.counts["holdfast-restore-segment"] >= 5
    assert scene.contents(plan) == scene.source


def test_a_disabled_key_of_the_target_is_told_and_nothing_stays(scene: Scene) -> None:
    kms = scene.sim.session(SHOP, HUB).client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=key)
    error = scene.refused(scene.request(target={"kms_key_arn": key}))
    assert (error.code, key in str(error)) == ("KeyUnavailable", True)
    assert scene.made() == set()


def test_a_key_that_is_disabled_on_the_way_is_told_and_nothing_stays(scene: Scene) -> None:
    kms = scene.sim.session(SHOP, HUB).client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    scene.sim.guards.append(
        lambda call: (call.name == "ebs:CompleteSnapshot" and kms.disable_key(KeyId=key) and None) or None
    )
    error = scene.refused(scene.request(target={"kms_key_arn": key}))
    assert error.code == "KeyUnavailable"
    assert scene.made() == set()


def test_without_the_key_of_the_repository_nothing_is_made(scene: Scene) -> None:
    kms = scene.sim.session(BACKUP, HUB).client("kms")
    for alias in kms.list_aliases()["Aliases"]:
        if "holdfast" in alias["AliasName"]:
            kms.disable_key(KeyId=alias["TargetKeyId"])
    error = scene.refused(scene.request())
    assert error.code == "KeyUnavailable"
    assert scene.made() == set()


def objects(scene: Scene, kind: str) -> list[Path]:
    """Files of the repository."""
    bucket = scene.sim.directory / "buckets" / "holdfast-main"
    return sorted(path for path in bucket.rglob("*") if path.is_file() and f"/{kind}/" in path.as_posix())


def test_a_damaged_pack_is_named_and_nothing_stays(scene: Scene) -> None:
    damaged = []
    for path in objects(scene, "packs"):
        body = bytearray(path.read_bytes())
        body[60] ^= 1
        path.write_bytes(body)
        damaged.append(path.name)
    error = scene.refused(scene.request())
    assert error.code == "Damaged"
    assert any(name in error.resource for name in damaged)
    assert scene.made() == set()


def test_a_lost_map_is_named_and_nothing_stays(scene: Scene) -> None:
    for path in objects(scene, "maps"):
        path.unlink()
    error = scene.refused(scene.request())
    assert (error.code, error.resource.startswith("maps/")) == ("Damaged", True)
    assert scene.made() == set()


@pytest.mark.usefixtures("impatient")
def test_throttling_that_does_not_end_is_told_and_nothing_stays(scene: Scene) -> None:
    scene.sim.faults.add(Fault(call="ec2:CreateVolume", effect="throttle"))
    error = scene.refused(scene.request())
    assert error.code == "Throttled"
    assert scene.made() == set()


def test_a_refused_launch_is_told_and_leaves_neither_image_nor_snapshots(scene: Scene) -> None:
    error = scene.refused(scene.request("instance", instance={"subnet_id": "subnet-00000000"}))
    assert (error.code, "subnet-00000000" in str(error)) == ("Configuration", True)
    assert scene.made() == set()


def test_a_missing_permission_names_role_and_action(scene: Scene) -> None:
    scene.sim.faults.add(
        Fault(call="ec2:CreateVolume", effect="error", code="UnauthorizedOperation", status=403)
    )
    error = scene.refused(scene.request())
    assert (error.code, "ec2:CreateVolume" in str(error)) == ("AccessDenied", True)
    assert f"arn:aws:iam::{SHOP}:role/HoldfastBackup" in str(error)
    assert scene.made() == set()


@pytest.mark.parametrize(
    "changes,code",
    [
        ({"point_id": "20200101T000000Z-000000000000"}, "NotFound"),
        ({"kind": "tape"}, "Configuration"),
        pytest.param({"volume_ids": ["vol-0000beef"]}, "NotFound", marks=pytest.mark.slow),
        pytest.param({"repository": "nothing"}, "Configuration", marks=pytest.mark.slow),
        pytest.param({"repository": "", "point_id": "p0"}, "NotFound", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_restored_is_refused_before_anything_is_made(
    scene: Scene, changes: dict[str, Any], code: str
) -> None:
    error = scene.refused(scene.request() | changes)
    assert error.code == code
    assert scene.made() == set()


def test_a_target_that_lets_nobody_in_is_told(scene: Scene) -> None:
    error = scene.refused(scene.request(target={"account": "123456789012"}))
    assert (error.code, "123456789012" in str(error)) == ("AccessDenied", True)


def test_snapshots_that_others_made_survive_a_failed_restore(scene: Scene) -> None:
    ec2 = scene.installation.ec2()
    tags = [
        {"Key": "holdfast:installation", "Value": "holdfast"},
        {"Key": "holdfast:restore", "Value": "restore-2"},
    ]
    foreign = ec2.create_snapshot(
        VolumeId=scene.installation.volumes("db")["/dev/xvda"],
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}],
    )["SnapshotId"]
    scene.sim.faults.add(Fault(call="ec2:CreateVolume", effect="error", code="InvalidParameterValue"))
    scene.refused(scene.request())
    assert scene.made() == {foreign}
