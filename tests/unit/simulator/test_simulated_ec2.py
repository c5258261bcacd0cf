"""EC2 of the simulator: sets of snapshots, copies, sharing, and what is made from snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.simulator import Simulator
from tests.worlds import (
    OTHER,
    PROD,
    REGION,
    SECOND_REGION,
    block,
    client,
    instance,
    opened,
    take_snapshot,
)

DISKS = [
    {"device": "/dev/xvda", "size_gib": 1, "tags": {"Name": "root", "team": "a"}},
    {"device": "/dev/sdf", "size_gib": 2, "tags": {"Name": "data"}},
    {"device": "/dev/sdg", "size_gib": 3, "type": "io2", "iops": 500, "delete_on_termination": True},
]
KEYS = [
    {"alias": "mine", "account": PROD, "region": REGION},
    {"alias": "shared", "account": PROD, "region": REGION, "shared_with": [OTHER]},
    {"alias": "theirs", "account": OTHER, "region": REGION},
    {"alias": "there", "account": PROD, "region": SECOND_REGION},
]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    web = instance(volumes=DISKS, tags={"Name": "web", "backup": "yes"}, user_data="hello", elastic_ip=True)
    with opened(tmp_path_factory.mktemp("aws"), instances=[web], keys=KEYS) as simulator:
        yield simulator


@pytest.fixture
def ec2(aws: Simulator) -> Any:
    return client(aws, "ec2")


def the_instance(ec2: Any) -> dict[str, Any]:
    found = ec2.describe_instances(Filters=[{"Name": "tag:backup", "Values": ["yes"]}])["Reservations"]
    described: dict[str, Any] = found[0]["Instances"][0]
    return described


def disks(ec2: Any) -> dict[str, str]:
    mappings = the_instance(ec2)["BlockDeviceMappings"]
    return {mapping["DeviceName"]: mapping["Ebs"]["VolumeId"] for mapping in mappings}


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def key_arn(aws: Simulator, alias: str, account: str = PROD, region: str = REGION) -> str:
    described = client(aws, "kms", account, region).describe_key(KeyId=f"alias/{alias}")
    return str(described["KeyMetadata"]["Arn"])


def encrypted_snapshot(aws: Simulator, alias: str | None) -> str:
    key = {"KmsKeyId": key_arn(aws, alias)} if alias else {}
    volume = client(aws, "ec2").create_volume(AvailabilityZone=f"{REGION}a", Size=1, Encrypted=True, **key)
    aws.ebs.write_blocks(volume["VolumeId"], 0, block(4))
    return take_snapshot(aws, volume["VolumeId"])


def test_an_instance_has_its_disks_tags_user_data_and_address(aws: Simulator, ec2: Any):
    described = the_instance(ec2)
    assert list(disks(ec2)) == ["/dev/xvda", "/dev/sdf", "/dev/sdg"]
    assert described["RootDeviceName"] == "/dev/xvda"
    flags = [mapping["Ebs"]["DeleteOnTermination"] for mapping in described["BlockDeviceMappings"]]
    assert flags == [False, False, True]
    assert {"Key": "backup", "Value": "yes"} in described["Tags"]
    data = ec2.describe_instance_attribute(InstanceId=described["InstanceId"], Attribute="userData")
    assert data["UserData"]["Value"] == "aGVsbG8="
    addresses = ec2.describe_addresses()["Addresses"]
    assert [address["InstanceId"] for address in addresses] == [described["InstanceId"]]
    assert described["PublicIpAddress"] == addresses[0]["PublicIp"]


@pytest.mark.parametrize(
    "name, values, found",
    [
        ("instance-state-name", ["running"], True),
        ("instance-state-name", ["stopped"], False),
        ("tag:Name", ["w*"], True),
        ("tag-key", ["nothing"], False),
        ("instance-type", ["m5.large", "x"], True),
    ],
)
def test_filters_select_instances(ec2: Any, name: str, values: list[str], found: bool):
    filters = [{"Name": "tag:backup", "Values": ["yes"]}, {"Name": name, "Values": values}]
    assert bool(ec2.describe_instances(Filters=filters)["Reservations"]) == found


def test_an_unknown_filter_or_instance_is_an_error(ec2: Any):
    with pytest.raises(ClientError) as error:
        ec2.describe_instances(Filters=[{"Name": "colour", "Values": ["red"]}])
    assert code(error) == "InvalidParameterValue"
    with pytest.raises(ClientError) as error:
        ec2.describe_instances(InstanceIds=["i-00000000000000000"])
    assert code(error) == "InvalidInstanceID.NotFound"


def test_instances_are_listed_in_pages(aws: Simulator, tmp_path_factory: pytest.TempPathFactory):
    ec2 = client(aws, "ec2", OTHER, SECOND_REGION)
    ec2.run_instances(ImageId="ami-12345678", MinCount=12, MaxCount=12)
    pages = list(ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    ids = [item["InstanceId"] for page in pages for r in page["Reservations"] for item in r["Instances"]]
    assert [len(page["Reservations"]) for page in pages] == [5, 5, 2]
    assert len(set(ids)) == 12


def test_all_volumes_of_an_instance_are_taken_at_one_instant_with_tags(aws: Simulator, ec2: Any):
    instance_id = the_instance(ec2)["InstanceId"]
    answer = ec2.create_snapshots(
        InstanceSpecification={"InstanceId": instance_id},
        Description="set",
        CopyTagsFromSource="volume",
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "team", "Value": "b"}]}],
    )["Snapshots"]
    assert [snapshot["VolumeId"] for snapshot in answer] == list(disks(ec2).values())
    assert {snapshot["State"] for snapshot in answer} == {"pending"}
    tags = [{tag["Key"]: tag["Value"] for tag in snapshot["Tags"]} for snapshot in answer]
    assert tags == [{"Name": "root", "team": "b"}, {"Name": "data", "team": "b"}, {"team": "b"}]


def test_boot_and_data_volumes_can_be_excluded(ec2: Any):
    instance_id, held = the_instance(ec2)["InstanceId"], disks(ec2)
    spec = {"InstanceId": instance_id, "ExcludeBootVolume": True, "ExcludeDataVolumeIds": [held["/dev/sdf"]]}
    taken = ec2.create_snapshots(InstanceSpecification=spec)["Snapshots"]
    assert [snapshot["VolumeId"] for snapshot in taken] == [held["/dev/sdg"]]


@pytest.mark.parametrize(
    "excluded", [["vol-00000000000000000"], ["/dev/xvda"], ["/dev/sdf", "/dev/sdg", "boot"]]
)
def test_impossible_exclusions_are_refused(ec2: Any, excluded: list[str]):
    held = disks(ec2)
    spec = {
        "InstanceId": the_instance(ec2)["InstanceId"],
        "ExcludeBootVolume": "boot" in excluded,
        "ExcludeDataVolumeIds": [held.get(name, name) for name in excluded if name != "boot"],
    }
    with pytest.raises(ClientError) as error:
        ec2.create_snapshots(InstanceSpecification=spec)
    assert code(error) == "InvalidParameterValue"


def test_snapshots_are_listed_by_owner_filter_and_page(aws: Simulator, ec2: Any):
    volume = disks(ec2)["/dev/sdf"]
    own = [take_snapshot(aws, volume) for _ in range(6)]
    foreign = client(aws, "ec2", OTHER).create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    public = take_snapshot(aws, foreign, OTHER)
    client(aws, "ec2", OTHER).modify_snapshot_attribute(
        SnapshotId=public,
        Attribute="createVolumePermission",
        CreateVolumePermission={"Add": [{"UserId": PROD}]},
    )
    listed = [snapshot["SnapshotId"] for snapshot in ec2.describe_snapshots()["Snapshots"]]
    assert public in listed
    mine = [snapshot["SnapshotId"] for snapshot in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]]
    assert public not in mine
    filters = [{"Name": "volume-id", "Values": [volume]}, {"Name": "status", "Values": ["completed"]}]
    pages = list(
        ec2.get_paginator("describe_snapshots").paginate(
            OwnerIds=["self"], Filters=filters, PaginationConfig={"PageSize": 5}
        )
    )
    assert len(pages) > 1
    found = {snapshot["SnapshotId"] for page in pages for snapshot in page["Snapshots"]}
    assert found >= set(own)
    shared = ec2.describe_snapshots(RestorableByUserIds=["self"], OwnerIds=[OTHER])["Snapshots"]
    assert [snapshot["SnapshotId"] for snapshot in shared] == [public]


def test_a_snapshot_of_another_account_does_not_exist_until_it_is_shared(aws: Simulator, ec2: Any):
    snapshot = take_snapshot(aws, disks(ec2)["/dev/xvda"])
    theirs = client(aws, "ec2", OTHER)
    with pytest.raises(ClientError) as error:
        theirs.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot)
    assert code(error) == "InvalidSnapshot.NotFound"
    permission = {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": [OTHER]}
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, **permission)
    assert theirs.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot)["Size"] == 1
    with pytest.raises(ClientError) as error:
        theirs.delete_snapshot(SnapshotId=snapshot)
    assert code(error) == "InvalidSnapshot.NotFound"


def test_snapshots_under_the_default_key_cannot_be_shared(aws: Simulator, ec2: Any):
    snapshot = encrypted_snapshot(aws, None)
    with pytest.raises(ClientError) as error:
        ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHER]
        )
    assert code(error) == "OperationNotPermitted"


def test_a_copy_in_another_region_holds_the_same_blocks_encrypted_or_not(aws: Simulator, ec2: Any):
    there = client(aws, "ec2", PROD, SECOND_REGION)
    source = encrypted_snapshot(aws, "mine")
    with pytest.raises(ClientError) as error:
        there.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source, KmsKeyId="alias/none")
    assert code(error) == "KMSKeyNotAccessibleFault"
    copy = there.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source, KmsKeyId="alias/there")
    described = there.describe_snapshots(SnapshotIds=[copy["SnapshotId"]])["Snapshots"][0]
    assert (described["State"], described["Encrypted"]) == ("pending", True)
    assert described["KmsKeyId"] == key_arn(aws, "there", region=SECOND_REGION)
    assert aws.ebs.snapshot_content(copy["SnapshotId"]).block(0) == block(4)
    assert described.get("Tags", []) == []


def test_twenty_copies_into_one_region_are_made_at_a_time(aws: Simulator, ec2: Any):
    source = encrypted_snapshot(aws, "mine")
    there = client(aws, "ec2", PROD, SECOND_REGION)

    def copy(into: Any) -> None:
        into.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source, Encrypted=True)

    for _ in range(20):
        copy(there)
    with pytest.raises(ClientError) as error:
        copy(there)
    assert code(error) == "ResourceLimitExceeded"
    copy(ec2)
    aws.clock.advance_to(aws.clock.now() + timedelta(hours=1))
    copy(there)


def test_a_shared_snapshot_is_copied_only_when_its_key_is_shared_too(aws: Simulator, ec2: Any):
    theirs = client(aws, "ec2", OTHER)
    for alias, refused in (("mine", True), ("shared", False)):
        source = encrypted_snapshot(aws, alias)
        ec2.modify_snapshot_attribute(
            SnapshotId=source, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHER]
        )
        if refused:
            with pytest.raises(ClientError) as error:
                theirs.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source, KmsKeyId="alias/theirs")
            assert code(error) == "KMSKeyNotAccessibleFault"
        else:
            copy = theirs.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source, KmsKeyId="alias/theirs")
            assert aws.ebs.snapshot(copy["SnapshotId"]).owner_id == OTHER


def test_a_volume_from_a_snapshot_holds_its_blocks_and_writes_do_not_reach_back(aws: Simulator, ec2: Any):
    snapshot = encrypted_snapshot(aws, "mine")
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot, Size=2, VolumeType="gp3")
    assert (volume["Encrypted"], volume["Size"], volume["SnapshotId"]) == (True, 2, snapshot)
    assert aws.ebs.volume_content(volume["VolumeId"]).block(0) == block(4)
    aws.ebs.write_blocks(volume["VolumeId"], 0, block(5))
    assert aws.ebs.snapshot_content(snapshot).block(0) == block(4)


def test_a_volume_smaller_than_its_snapshot_is_refused(aws: Simulator, ec2: Any):
    snapshot = take_snapshot(aws, disks(ec2)["/dev/sdf"])
    with pytest.raises(ClientError) as error:
        ec2.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot, Size=1)
    assert code(error) == "InvalidParameterValue"


def test_an_image_of_snapshots_starts_instances_with_their_content_under_the_right_names(
    aws: Simulator, ec2: Any
):
    held = disks(ec2)
    aws.ebs.write_blocks(held["/dev/xvda"], 0, block(1))
    aws.ebs.write_blocks(held["/dev/sdf"], 7, block(2))
    root, data = take_snapshot(aws, held["/dev/xvda"]), take_snapshot(aws, held["/dev/sdf"])
    image = ec2.register_image(
        Name="restored",
        Architecture="arm64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        EnaSupport=True,
        BootMode="uefi",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": root, "DeleteOnTermination": False}},
            {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": data, "VolumeType": "io2", "Iops": 300}},
        ],
    )["ImageId"]
    with pytest.raises(ClientError) as error:
        ec2.delete_snapshot(SnapshotId=root)
    assert code(error) == "InvalidSnapshot.InUse"
    started = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, InstanceType="t4g.small", ClientToken="x"
    )
    again = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, InstanceType="t4g.small", ClientToken="x"
    )
    instance_id = started["Instances"][0]["InstanceId"]
    assert again["Instances"][0]["InstanceId"] == instance_id
    described = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    mappings = {m["DeviceName"]: m["Ebs"] for m in described["BlockDeviceMappings"]}
    assert (described["RootDeviceName"], described["Architecture"]) == ("/dev/xvda", "arm64")
    assert {name: ebs["DeleteOnTermination"] for name, ebs in mappings.items()} == {
        "/dev/xvda": False,
        "/dev/sdf": True,
    }
    assert aws.ebs.volume_content(mappings["/dev/xvda"]["VolumeId"]).block(0) == block(1)
    assert aws.ebs.volume_content(mappings["/dev/sdf"]["VolumeId"]).block(7) == block(2)
    data_volume = ec2.describe_volumes(VolumeIds=[mappings["/dev/sdf"]["VolumeId"]])["Volumes"][0]
    assert (data_volume["VolumeType"], data_volume["Iops"]) == ("io2", 300)
    assert data_volume["Attachments"][0]["Device"] == "/dev/sdf"


def test_a_guest_image_replaces_only_blocks_that_differ(aws: Simulator, ec2: Any, tmp_path_factory):
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    image = tmp_path_factory.mktemp("image") / "disk.raw"
    with image.open("wb") as file:
        file.write(block(1) + block(2))
        file.seek(20 * len(block(1)))
        file.write(block(3))
    assert aws.ebs.write_image(volume, image) == 3
    first = take_snapshot(aws, volume)
    image.write_bytes(block(1) + block(5))
    assert aws.ebs.write_image(volume, image) == 2
    second = take_snapshot(aws, volume)
    changed = client(aws, "ebs").list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    assert [entry["BlockIndex"] for entry in changed["ChangedBlocks"]] == [1, 20]
    with pytest.raises(ValueError, match="room"):
        aws.ebs.write_image(
            disks(ec2)["/dev/xvda"], sparse(tmp_path_factory.mktemp("big") / "disk.raw", 2 << 30)
        )


def sparse(path: Any, size: int) -> Any:
    with path.open("wb") as file:
        file.truncate(size)
    return path
