"""The restore's and the copies' EC2 calls: what is asked for, and what EC2's answers mean."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from holdfast.aws.ec2 import Ec2Spoke
from holdfast.aws.ec2_copy import Ec2SnapshotCopier
from holdfast.aws.ec2_restore import Ec2RestoreSite
from holdfast.aws.sts import AssumedRole
from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    PermanentError,
    ThrottledError,
    UnavailableError,
)
from holdfast.model.inventory import AttachedVolume, Instance, InstanceConfiguration
from holdfast.model.restore import InstanceSettings

ROLE = "arn:aws:iam::111122223333:role/HoldfastRestore"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1"
OURS = {"holdfast:restore": "r1"}


class Ec2:
    """An EC2 client that keeps what it is asked, and answers (or raises) what the test says, in order."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.attempts: dict[str, Any] = {}
        self._attempts = 0

    def client(self, service: str, config: Any = None) -> Ec2:
        assert service in ("ec2", "kms")
        self._attempts = config.retries["total_max_attempts"]
        return self

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.asked.setdefault(operation, []).append(arguments)
            self.attempts[operation] = self._attempts
            answer = self.answers[operation].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code: str, message: str = "no") -> ClientError:
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(told, "Any")


def site(ec2: Ec2) -> Ec2RestoreSite:
    return Ec2RestoreSite(ec2, ROLE)  # type: ignore[arg-type]


def volume(**changes: Any) -> AttachedVolume:
    return AttachedVolume(volume_id="vol-1", device="/dev/xvda", size_bytes=1, root=True, **changes)


def source(**changes: Any) -> InstanceConfiguration:
    instance = Instance(instance_id="i-1", account="111122223333", region="eu-central-1")
    return InstanceConfiguration(instance=instance, root_device_name="/dev/xvda", **changes)


def create(ec2: Ec2, like: AttachedVolume, *, encrypted: bool | None = None, key: str = "") -> dict[str, Any]:
    ec2.answers["create_volume"] = [{"VolumeId": "vol-2"}]
    made = site(ec2).create_volume(
        "snap-1",
        like,
        availability_zone="z",
        tags={"b": "2", "a": "1"},
        token="t",
        encrypted=encrypted,
        kms_key_arn=key,
    )
    assert made == "vol-2"
    return ec2.asked["create_volume"][0]


@pytest.mark.parametrize(
    "like,expected",
    [
        ({"volume_type": "gp3", "iops": 4000, "throughput": 200}, {"Iops": 4000, "Throughput": 200}),
        ({"volume_type": "io2", "iops": 9000, "throughput": 200}, {"Iops": 9000}),
        ({"volume_type": "gp2", "iops": 100}, {}),
        (
            {"volume_type": "io1", "iops": 100, "multi_attach": True},
            {"Iops": 100, "MultiAttachEnabled": True},
        ),
    ],
)
def test_a_volume_performs_as_its_source_did(like: dict[str, Any], expected: dict[str, Any]) -> None:
    asked = create(Ec2(), volume(**like))
    assert asked == {
        "SnapshotId": "snap-1",
        "AvailabilityZone": "z",
        "ClientToken": "t",
        "VolumeType": like["volume_type"],
        "TagSpecifications": [
            {"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]}
        ],
        **expected,
    }


@pytest.mark.parametrize(
    "wish,expected",
    [
        ((None, ""), {}),
        ((True, ""), {"Encrypted": True}),
        ((True, KEY), {"Encrypted": True, "KmsKeyId": KEY}),
        ((None, KEY), {"Encrypted": True, "KmsKeyId": KEY}),
    ],
)
def test_a_volume_is_encrypted_as_wished(wish: tuple[bool | None, str], expected: dict[str, Any]) -> None:
    asked = create(Ec2(), volume(), encrypted=wish[0], key=wish[1])
    assert {name: asked[name] for name in ("Encrypted", "KmsKeyId") if name in asked} == expected


@pytest.mark.parametrize(
    "states,ready", [(["available", "in-use"], True), (["available", "creating"], False)]
)
def test_volumes_are_ready_when_all_are(states: list[str], ready: bool) -> None:
    found = [{"VolumeId": f"vol-{state}", "State": state} for state in states]
    assert site(Ec2(describe_volumes=[{"Volumes": found}])).volumes_ready(["vol-1", "vol-2"]) is ready


def test_no_volumes_are_ready_at_once() -> None:
    assert site(Ec2()).volumes_ready([]) is True


def test_a_volume_that_ended_in_error_is_told() -> None:
    ec2 = Ec2(describe_volumes=[{"Volumes": [{"VolumeId": "vol-1", "State": "error"}]}])
    with pytest.raises(PermanentError, match="could not create"):
        site(ec2).volumes_ready(["vol-1"])


def test_a_volume_that_is_not_to_be_seen_is_looked_for_again() -> None:
    with pytest.raises(UnavailableError, match="not to be seen"):
        site(Ec2(describe_volumes=[refusal("InvalidVolume.NotFound")])).volumes_ready(["vol-1"])


def test_an_image_has_the_volumes_as_its_disks() -> None:
    ec2 = Ec2(describe_images=[{"Images": []}], register_image=[{"ImageId": "ami-1"}])
    disk = volume(volume_type="io2", iops=500, delete_on_termination=True)
    assert site(ec2).register_image("n", source(boot_mode="uefi"), [(disk, "snap-1")], OURS) == "ami-1"
    asked = ec2.asked["register_image"][0]
    assert asked["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {
                "SnapshotId": "snap-1",
                "DeleteOnTermination": True,
                "VolumeType": "io2",
                "Iops": 500,
            },
        }
    ]
    assert (asked["BootMode"], asked["RootDeviceName"]) == ("uefi", "/dev/xvda")


def test_an_image_of_that_name_is_not_registered_again() -> None:
    ec2 = Ec2(describe_images=[{"Images": [{"ImageId": "ami-1"}]}])
    assert site(ec2).register_image("n", source(boot_mode="unknown"), [], OURS) == "ami-1"


def test_an_image_that_exists_unseen_is_looked_for_again() -> None:
    ec2 = Ec2(describe_images=[{"Images": []}], register_image=[refusal("InvalidAMIName.Duplicate")])
    with pytest.raises(UnavailableError, match="does not show it yet"):
        site(ec2).register_image("n", source(boot_mode="odd"), [], OURS)


@pytest.mark.parametrize(
    "images,ready", [([], False), ([{"State": "pending"}], False), ([{"State": "available"}], True)]
)
def test_an_image_is_ready_when_it_is_available(images: list[dict[str, str]], ready: bool) -> None:
    assert site(Ec2(describe_images=[{"Images": images}])).image_ready("ami-1") is ready


def test_an_image_that_failed_is_told() -> None:
    with pytest.raises(PermanentError, match="is failed"):
        site(Ec2(describe_images=[{"Images": [{"State": "failed"}]}])).image_ready("ami-1")


def run(
    configuration: InstanceConfiguration, settings: InstanceSettings, **encryption: str
) -> dict[str, Any]:
    ec2 = Ec2(run_instances=[{"Instances": [{"InstanceId": "i-2"}]}])
    made = site(ec2).run_instance(
        "ami-1",
        configuration,
        settings,
        tags={"Name": "n"},
        volume_tags={"v": "1"},
        encryption={f"/dev/{device}": key for device, key in encryption.items()},
        token="t",
    )
    assert made == "i-2"
    return ec2.asked["run_instances"][0]


def test_what_is_not_set_is_not_asked_for() -> None:
    asked = run(source(), InstanceSettings(instance_type="t4g.micro"))
    assert asked.keys() == {
        "ImageId", "MinCount", "MaxCount", "InstanceType", "ClientToken", "TagSpecifications",
    }  # fmt: skip
    assert [one["ResourceType"] for one in asked["TagSpecifications"]] == ["instance", "volume"]


def test_an_instance_is_launched_with_its_settings_and_its_own_user_data() -> None:
    raw = bytes(range(256))
    settings = InstanceSettings(
        instance_type="t4g.micro",
        subnet_id="subnet-1",
        security_group_ids=("sg-1",),
        key_name="admin",
        instance_profile_arn="arn:p",
    )
    options = {"State": "applied", "HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    configuration = source(
        attributes={"userDataBase64": b64encode(raw).decode()}, description={"MetadataOptions": options}
    )
    asked = run(configuration, settings, xvda=KEY, sdb="")
    assert asked["UserData"] == raw
    assert asked["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert (asked["SubnetId"], asked["SecurityGroupIds"], asked["KeyName"]) == ("subnet-1", ["sg-1"], "admin")
    assert asked["IamInstanceProfile"] == {"Arn": "arn:p"}
    assert asked["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/sdb", "Ebs": {"Encrypted": True}},
        {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": KEY}},
    ]


@pytest.mark.parametrize("encoded", ["", "not base64!"])
def test_user_data_that_was_kept_as_text_alone_is_given_as_text(encoded: str) -> None:
    configuration = source(user_data="#!/bin/sh", attributes={"userDataBase64": encoded})
    assert run(configuration, InstanceSettings())["UserData"] == "#!/bin/sh"


def test_disks_of_an_instance_are_told_by_device() -> None:
    mappings = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-1"}}, {"DeviceName": "/dev/sdb"}]
    instance = {"State": {"Name": "running"}, "BlockDeviceMappings": mappings}
    ec2 = Ec2(describe_instances=[{"Reservations": [{"Instances": [instance]}]}])
    assert site(ec2).instance_volumes("i-2") == ("running", {"/dev/xvda": "vol-1"})


def test_an_instance_that_is_not_to_be_seen_yet_is_pending() -> None:
    ec2 = Ec2(describe_instances=[refusal("InvalidInstanceID.NotFound")])
    assert site(ec2).instance_volumes("i-2") == ("pending", {})


def test_only_an_image_with_the_tags_of_this_restore_is_removed() -> None:
    tagged = [{"Key": "holdfast:restore", "Value": "r1"}, {"Key": "other", "Value": "x"}]
    images = [{"ImageId": "ami-1", "Tags": tagged}, {"ImageId": "ami-2", "Tags": []}, {"ImageId": "ami-3"}]
    ec2 = Ec2(describe_images=[{"Images": images}], deregister_image=[{}])
    assert site(ec2).remove_image("n", OURS) == ["ami-1"]
    assert ec2.asked["deregister_image"] == [{"ImageId": "ami-1"}]


OUR_IMAGE = {"ImageId": "ami-1", "Tags": [{"Key": "holdfast:restore", "Value": "r1"}]}


@pytest.mark.parametrize("code", ["InvalidAMIID.Unavailable", "UnauthorizedOperation"])
def test_an_image_that_went_meanwhile_is_no_error(code: str) -> None:
    ec2 = Ec2(describe_images=[{"Images": [OUR_IMAGE]}, {"Images": []}], deregister_image=[refusal(code)])
    assert site(ec2).remove_image("n", OURS) == ["ami-1"]


def test_an_image_that_may_not_be_removed_is_told() -> None:
    there = {"Images": [OUR_IMAGE]}
    ec2 = Ec2(describe_images=[there, there], deregister_image=[refusal("UnauthorizedOperation")])
    with pytest.raises(AccessDeniedError, match="ec2:DeregisterImage"):
        site(ec2).remove_image("n", OURS)


def spoke(ec2: Ec2) -> Ec2Spoke:
    role = AssumedRole(lambda: ec2, ROLE)  # type: ignore[arg-type,return-value]
    return Ec2Spoke(lambda **_: ec2, role, "eu-central-1")


def test_a_snapshot_whose_deletion_was_not_answered_is_gone_also_by_rights_that_hang_on_tags() -> None:
    ec2 = Ec2(delete_snapshot=[refusal("UnauthorizedOperation")], describe_snapshots=[{"Snapshots": []}])
    spoke(ec2).delete_snapshot("snap-1")
    assert ec2.asked["describe_snapshots"][0]["OwnerIds"] == ["self"]


def test_a_snapshot_that_may_not_be_deleted_is_told() -> None:
    snapshot = {"SnapshotId": "snap-1", "StartTime": datetime(2026, 11, 22, tzinfo=UTC)}
    ec2 = Ec2(
        delete_snapshot=[refusal("UnauthorizedOperation")], describe_snapshots=[{"Snapshots": [snapshot]}]
    )
    with pytest.raises(AccessDeniedError, match="ec2:DeleteSnapshot"):
        spoke(ec2).delete_snapshot("snap-1")


def test_no_tags_are_no_call() -> None:
    ec2 = Ec2(create_tags=[{}])
    site(ec2).tag("vol-1", {})
    site(ec2).tag("vol-1", {"a": "b"})
    assert ec2.asked["create_tags"] == [{"Resources": ["vol-1"], "Tags": [{"Key": "a", "Value": "b"}]}]


def test_a_refusal_names_role_and_action() -> None:
    ec2 = Ec2(create_volume=[refusal("UnauthorizedOperation")])
    with pytest.raises(AccessDeniedError, match=f"{ROLE} was denied ec2:CreateVolume on snap-1"):
        site(ec2).create_volume(
            "snap-1", volume(), availability_zone="z", tags={}, token="t", encrypted=None, kms_key_arn=""
        )


def copier(ec2: Ec2) -> Ec2SnapshotCopier:
    return Ec2SnapshotCopier(ec2, ROLE)  # type: ignore[arg-type]


def test_a_share_names_one_account_and_can_be_taken_back() -> None:
    ec2 = Ec2(modify_snapshot_attribute=[{}, {}])
    copier(ec2).share("snap-1", "444455556666")
    copier(ec2).unshare("snap-1", "444455556666")
    common = {"SnapshotId": "snap-1", "Attribute": "createVolumePermission", "UserIds": ["444455556666"]}
    assert ec2.asked["modify_snapshot_attribute"] == [
        {**common, "OperationType": "add"},
        {**common, "OperationType": "remove"},
    ]


@pytest.mark.parametrize("code", ["OperationNotPermitted", "InvalidParameterValue"])
def test_a_snapshot_that_cannot_be_shared_is_told_with_what_to_do(code: str) -> None:
    ec2 = Ec2(modify_snapshot_attribute=[refusal(code, "EBS default key cannot be shared")])
    with pytest.raises(PermanentError, match="cannot be shared with account 444455556666") as error:
        copier(ec2).share("snap-1", "444455556666")
    assert "customer managed key" in error.value.remedy


@pytest.mark.parametrize(
    "code,expected", [("UnauthorizedOperation", AccessDeniedError), ("RequestLimitExceeded", ThrottledError)]
)
def test_other_refusals_of_a_share_stay_what_they_are(code: str, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="ec2:ModifySnapshotAttribute"):
        copier(Ec2(modify_snapshot_attribute=[refusal(code)])).share("snap-1", "444455556666")


def test_a_snapshot_that_is_gone_needs_no_unsharing() -> None:
    copier(Ec2(modify_snapshot_attribute=[refusal("InvalidSnapshot.NotFound")])).unshare("snap-1", "4")


@pytest.mark.parametrize(
    "encrypted,key,expected",
    [(False, "", {}), (True, "", {"Encrypted": True}), (False, KEY, {"Encrypted": True, "KmsKeyId": KEY})],
)
def test_a_copy_is_encrypted_as_its_source_or_with_the_key_given(
    encrypted: bool, key: str, expected: dict[str, Any]
) -> None:
    ec2 = Ec2(copy_snapshot=[{"SnapshotId": "snap-2"}])
    made = copier(ec2).copy(
        "snap-1", "eu-west-1", encrypted=encrypted, kms_key_arn=key, description="d", tags={"a": "b"}
    )
    assert made == "snap-2"
    asked = ec2.asked["copy_snapshot"][0]
    assert {name: asked[name] for name in ("Encrypted", "KmsKeyId") if name in asked} == expected
    assert (asked["SourceSnapshotId"], asked["SourceRegion"]) == ("snap-1", "eu-west-1")


def test_a_copy_whose_answer_is_lost_is_not_asked_for_twice() -> None:
    ec2 = Ec2(copy_snapshot=[{"SnapshotId": "snap-2"}])
    copier(ec2).copy("snap-1", "eu-west-1", encrypted=False, kms_key_arn="", description="d", tags={})
    assert ec2.attempts["copy_snapshot"] == 1


def test_too_many_copies_into_a_region_are_waited_for() -> None:
    ec2 = Ec2(copy_snapshot=[refusal("ResourceLimitExceeded", "Too many snapshot copies in progress.")])
    with pytest.raises(ThrottledError, match="Too many snapshot copies"):
        copier(ec2).copy("snap-1", "eu-west-1", encrypted=False, kms_key_arn="", description="d", tags={})


def test_the_key_that_aws_manages_is_found_by_its_alias() -> None:
    ec2 = Ec2(describe_key=[{"KeyMetadata": {"Arn": KEY}}])
    assert copier(ec2).default_key() == KEY
    assert ec2.asked["describe_key"] == [{"KeyId": "alias/aws/ebs"}]


def test_a_wrong_value_is_told_as_configuration() -> None:
    ec2 = Ec2(run_instances=[refusal("InvalidSubnetID.NotFound", "subnet-9 does not exist")])
    with pytest.raises(ConfigurationError, match="subnet-9"):
        site(ec2).run_instance(
            "ami-1", source(), InstanceSettings(), tags={}, volume_tags={}, encryption={}, token="t"
        )
