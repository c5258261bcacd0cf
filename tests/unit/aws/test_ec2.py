"""EC2 of a protected account, against moto."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from holdfast.aws.ec2 import Ec2Spoke
from holdfast.aws.sts import AssumedRole
from holdfast.errors import AccessDeniedError, SourceGoneError, ThrottledError
from holdfast.model.blocks import GIB

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/HoldfastBackup"


@pytest.fixture
def ec2() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("ec2", region_name=REGION)


@pytest.fixture
def spoke(ec2: Any) -> Ec2Spoke:
    role = AssumedRole(lambda: boto3.Session(region_name=REGION), ROLE, "external")
    return Ec2Spoke(lambda *, once: ec2, role, REGION)


def run_instance(ec2: Any, name: str = "web", user_data: str = "#!/bin/sh\necho ü\n") -> str:
    return ec2.run_instances(
        ImageId="ami-12345678",
        MinCount=1,
        MaxCount=1,
        InstanceType="m5.large",
        UserData=user_data,
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}},
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}},
        ],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    )["Instances"][0]["InstanceId"]


class Failing:
    """A client whose calls fail with these codes first."""

    def __init__(self, client: Any, *codes: str) -> None:
        self._client = client
        self.codes = list(codes)

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            if self.codes:
                raise ClientError({"Error": {"Code": self.codes.pop(0), "Message": "told"}}, name)
            return getattr(self._client, name)(**arguments)

        return call


def test_running_and_stopped_instances_are_listed_and_terminated_ones_are_not(ec2: Any, spoke: Ec2Spoke):
    running, stopped, gone = (run_instance(ec2, name) for name in ("one", "two", "three"))
    ec2.stop_instances(InstanceIds=[stopped])
    ec2.terminate_instances(InstanceIds=[gone])
    found = {one.instance_id: one for one in spoke.instances()}
    assert found.keys() == {running, stopped}
    assert (found[running].name, found[running].account, found[running].region) == (
        "one",
        "123456789012",
        REGION,
    )
    assert [volume.device for volume in found[running].volumes] == ["/dev/sda1", "/dev/sdb"]


def test_the_inventory_has_sizes_keys_and_tags_of_volumes(ec2: Any, spoke: Ec2Spoke):
    assert list(spoke.inventory()) == []
    instance_id = run_instance(ec2)
    (listed,) = spoke.instances()
    root, other = (volume.volume_id for volume in listed.volumes)
    ec2.create_tags(Resources=[other], Tags=[{"Key": "data", "Value": "orders"}])
    ec2.create_volume(Size=5, AvailabilityZone=f"{REGION}a")
    (found,) = spoke.inventory()
    assert found.instance_id == instance_id
    assert [(one.volume_id, one.size_bytes, one.root, one.tags) for one in found.volumes] == [
        (root, 8 * GIB, True, {}),
        (other, 20 * GIB, False, {"data": "orders"}),
    ]


def test_instances_by_id_leave_unknown_ones_out(ec2: Any, spoke: Ec2Spoke):
    known = run_instance(ec2)
    found = spoke.instances([known, "i-0123456789abcdef0"])
    assert [one.instance_id for one in found] == [known]


def test_a_configuration_has_all_that_recreating_needs_and_is_json(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance_id, AllocationId=address["AllocationId"])
    found = spoke.configuration(instance_id)
    assert [(v.device, v.size_bytes, v.root) for v in found.instance.volumes] == [
        ("/dev/sda1", 8 * GIB, True),
        ("/dev/sdb", 20 * GIB, False),
    ]
    assert (found.instance_type, found.user_data) == ("m5.large", "#!/bin/sh\necho ü\n")
    assert found.addresses[0]["PublicIp"] == address["PublicIp"]
    assert found.network_interfaces
    assert found.description["InstanceId"] == instance_id
    assert isinstance(found.description["LaunchTime"], str)
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_user_data_that_is_not_text_is_kept_encoded(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    raw = base64.b64encode(b"\x1f\x8b\xff\x00").decode()
    ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": raw})
    found = spoke.configuration(instance_id)
    assert found.user_data == ""
    assert found.attributes["userDataBase64"] == raw


def test_an_attribute_that_an_instance_does_not_have_is_none(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    found = spoke.configuration(instance_id)
    assert "disableApiTermination" in found.attributes


def test_a_terminated_instance_is_gone(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    ec2.terminate_instances(InstanceIds=[instance_id])
    with pytest.raises(SourceGoneError):
        spoke.configuration(instance_id)
    with pytest.raises(SourceGoneError):
        spoke.configuration("i-0123456789abcdef0")


def take(spoke: Ec2Spoke, instance_id: str, **changes: Any) -> Any:
    arguments = {
        "exclude_root": False,
        "exclude_volumes": [],
        "tags": {"holdfast:installation": "ours", "holdfast:restore-point": "20261122T070000Z-ab"},
        "copy_tags": False,
        "description": "test",
    }
    return spoke.create_snapshots(instance_id, **{**arguments, **changes})


def test_a_set_is_made_with_its_tags_and_found_by_them(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    made = take(spoke, instance_id)
    assert len(made) == 2
    assert {one.tags["holdfast:installation"] for one in made} == {"ours"}
    found = spoke.find_snapshots({"holdfast:restore-point": "20261122T070000Z-ab"})
    assert {one.snapshot_id for one in found} == {one.snapshot_id for one in made}
    assert made[0].started_at.utcoffset() is not None


def test_a_tag_with_wildcards_finds_itself_alone(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    take(spoke, instance_id, tags={"holdfast:restore-point": "axxb1"})
    assert spoke.find_snapshots({"holdfast:restore-point": "a*b?"}) == []


def test_the_root_volume_is_left_out_when_asked(ec2: Any, spoke: Ec2Spoke):
    instance_id = run_instance(ec2)
    (made,) = take(spoke, instance_id, exclude_root=True)
    assert made.size_bytes == 20 * GIB


def test_snapshots_that_are_gone_are_left_out_of_what_is_read(ec2: Any, spoke: Ec2Spoke):
    made = take(spoke, run_instance(ec2))
    read = spoke.read_snapshots([made[0].snapshot_id, "snap-0123456789abcdef0"])
    assert [one.snapshot_id for one in read] == [made[0].snapshot_id]


def test_many_snapshots_are_read_in_groups(ec2: Any, spoke: Ec2Spoke):
    assert spoke.read_snapshots([f"snap-{number:017x}" for number in range(450)]) == []


def test_tags_are_added_replaced_and_removed(ec2: Any, spoke: Ec2Spoke):
    snapshot_id = take(spoke, run_instance(ec2))[0].snapshot_id
    spoke.tag_snapshot(snapshot_id, {"holdfast:installation": "theirs", "holdfast:cbt-base": "main"})
    spoke.untag_snapshot(snapshot_id, ["holdfast:restore-point", "never-there"])
    (read,) = spoke.read_snapshots([snapshot_id])
    assert read.tags == {"holdfast:installation": "theirs", "holdfast:cbt-base": "main"}


def test_a_deleted_snapshot_may_be_deleted_again(ec2: Any, spoke: Ec2Spoke):
    snapshot_id = take(spoke, run_instance(ec2))[0].snapshot_id
    spoke.delete_snapshot(snapshot_id)
    spoke.delete_snapshot(snapshot_id)
    assert spoke.read_snapshots([snapshot_id]) == []


def test_errors_leave_in_our_words_with_role_and_action(ec2: Any):
    role = AssumedRole(lambda: boto3.Session(region_name=REGION), ROLE)
    spoke = Ec2Spoke(lambda *, once: Failing(ec2, "UnauthorizedOperation"), role, REGION)
    with pytest.raises(AccessDeniedError, match="HoldfastBackup was denied ec2:DescribeInstances"):
        list(spoke.instances())
    spoke = Ec2Spoke(lambda *, once: Failing(ec2, "PendingSnapshotLimitExceeded"), role, REGION)
    with pytest.raises(ThrottledError):
        take(spoke, "i-0123456789abcdef0")


def test_an_expired_token_is_renewed_once(ec2: Any):
    role = AssumedRole(lambda: boto3.Session(region_name=REGION), ROLE)
    before = role.current()
    client = Failing(ec2, "RequestExpired")
    run_instance(ec2)
    assert len(list(Ec2Spoke(lambda *, once: client, role, REGION).instances())) == 1
    assert role.current() != before


def test_only_the_call_without_a_token_is_sent_a_single_time(ec2: Any):
    asked: list[bool] = []
    role = AssumedRole(lambda: boto3.Session(region_name=REGION), ROLE)

    def client(*, once: bool) -> Any:
        asked.append(once)
        return ec2

    spoke = Ec2Spoke(client, role, REGION)
    made = take(spoke, run_instance(ec2))
    spoke.tag_snapshot(made[0].snapshot_id, {"a": "b"})
    assert asked == [True, False]


class Shifting:
    """A listing in which a page repeats what the page before has shown."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2

    def describe_instances(self, **asked: Any) -> dict[str, Any]:
        first = asked.pop("NextToken", "") == ""
        told: dict[str, Any] = self._ec2.describe_instances(**asked)
        return {**told, "NextToken": "more"} if first else told


def test_an_instance_that_two_pages_show_is_listed_once(ec2: Any):
    instance_id = run_instance(ec2)
    role = AssumedRole(lambda: boto3.Session(region_name=REGION), ROLE)
    spoke = Ec2Spoke(lambda *, once: Shifting(ec2), role, REGION)
    assert [one.instance_id for one in spoke.instances()] == [instance_id]
