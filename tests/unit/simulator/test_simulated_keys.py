"""KMS keys of the simulator: what disabled, dying and foreign keys refuse, and what depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.simulator import Simulator
from tests.worlds import (
    BACKUP,
    OTHER,
    PROD,
    REGION,
    block,
    client,
    loopback,
    opened,
    put_block,
    take_snapshot,
)

KEYS = [
    {"alias": "mine", "account": PROD, "region": REGION, "shared_with": [BACKUP]},
    {"alias": "off", "account": PROD, "region": REGION, "state": "Disabled"},
    {"alias": "dying", "account": PROD, "region": REGION, "state": "PendingDeletion"},
]


@pytest.fixture
def aws(tmp_path: Path) -> Any:
    with opened(tmp_path, keys=KEYS) as simulator:
        yield simulator


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as error:
        call()
    return str(error.value.response["Error"]["Code"])


def arn(aws: Simulator, alias: str = "mine") -> str:
    return str(client(aws, "kms").describe_key(KeyId=f"alias/{alias}")["KeyMetadata"]["Arn"])


@pytest.mark.parametrize(
    "alias,expected", [("off", "DisabledException"), ("dying", "KMSInvalidStateException")]
)
def test_keys_that_are_not_enabled_refuse_every_use(aws: Simulator, alias: str, expected: str):
    kms = client(aws, "kms")
    assert code(lambda: kms.encrypt(KeyId=f"alias/{alias}", Plaintext=b"x")) == expected
    assert code(lambda: kms.generate_data_key(KeyId=arn(aws, alias), KeySpec="AES_256")) == expected


def test_a_ciphertext_is_opened_only_with_its_context_and_while_its_key_is_enabled(aws: Simulator):
    kms = client(aws, "kms")
    context = {"repository": "1"}
    sealed = kms.encrypt(KeyId=arn(aws), Plaintext=b"secret", EncryptionContext=context)["CiphertextBlob"]
    opened_again = kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)
    assert opened_again["Plaintext"] == b"secret"
    refused = code(lambda: kms.decrypt(CiphertextBlob=sealed, EncryptionContext={"repository": "2"}))
    assert refused == "InvalidCiphertextException"
    kms.disable_key(KeyId=arn(aws))
    refused = code(lambda: kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context))
    assert refused == "DisabledException"
    kms.enable_key(KeyId=arn(aws))
    assert kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"] == b"secret"


def test_another_account_uses_a_key_by_arn_only_if_the_key_policy_names_it(aws: Simulator):
    named, stranger = client(aws, "kms", BACKUP), client(aws, "kms", OTHER)
    sealed = named.encrypt(KeyId=arn(aws), Plaintext=b"x")["CiphertextBlob"]
    assert named.decrypt(CiphertextBlob=sealed)["KeyId"] == arn(aws)
    assert code(lambda: stranger.encrypt(KeyId=arn(aws), Plaintext=b"x")) == "AccessDeniedException"
    assert code(lambda: stranger.decrypt(CiphertextBlob=sealed)) == "AccessDeniedException"
    assert code(lambda: stranger.encrypt(KeyId="alias/mine", Plaintext=b"x")) == "NotFoundException"


def test_bytes_that_are_no_ciphertext_are_refused(aws: Simulator):
    refused = code(lambda: client(aws, "kms").decrypt(CiphertextBlob=b"nonsense"))
    assert refused == "InvalidCiphertextException"


@pytest.mark.parametrize("connect", [client, loopback])
def test_a_snapshot_under_a_disabled_key_is_neither_read_nor_written(aws: Simulator, connect: Any):
    ec2, ebs = client(aws, "ec2"), connect(aws, "ebs")
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, Encrypted=True, KmsKeyId=arn(aws))
    aws.ebs.write_blocks(volume["VolumeId"], 0, block(1))
    snapshot = take_snapshot(aws, volume["VolumeId"])
    token = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    new = ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=arn(aws))
    assert (new["KmsKeyArn"], new["SseType"]) == (arn(aws), "sse-kms")
    client(aws, "kms").disable_key(KeyId=arn(aws))
    with pytest.raises(ClientError) as error:
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert error.value.response["Reason"] == "DEPENDENCY_ACCESS_DENIED"
    assert code(lambda: put_block(ebs, new["SnapshotId"], 0, block(1))) == "AccessDeniedException"
    refused = code(lambda: ec2.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot))
    assert refused == "InvalidKMSKey.InvalidState"


def test_an_object_under_a_disabled_key_is_neither_read_nor_written(aws: Simulator):
    s3 = client(aws, "s3", PROD, "us-east-1")
    s3.create_bucket(Bucket="sealed", CreateBucketConfiguration={"LocationConstraint": REGION})
    sealed = {"Bucket": "sealed", "Key": "k", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn(aws)}
    s3.put_object(Body=b"x", **sealed)
    client(aws, "kms").disable_key(KeyId=arn(aws))
    assert code(lambda: s3.get_object(Bucket="sealed", Key="k")) == "KMS.DisabledException"
    assert code(lambda: loopback(aws, "s3").get_object(Bucket="sealed", Key="k")) == "KMS.DisabledException"
    assert code(lambda: s3.put_object(Body=b"y", **sealed)) == "KMS.DisabledException"
