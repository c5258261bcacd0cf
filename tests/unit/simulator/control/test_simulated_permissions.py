"""A role may do what its templates allow and nothing else."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from simulator.identities import Identity, session_for
from simulator.permissions import Violation
from simulator.populate import default_image
from simulator.simulator import Simulator

ACCOUNT, REGION = "111111111111", "eu-central-1"
TAGS = {"Key": "holdfast:installation", "Value": "main"}
OURS = {"StringEquals": {"aws:ResourceTag/holdfast:installation": "main"}}
MADE = {"StringEquals": {"aws:RequestTag/holdfast:installation": "main"}}


def identity(sim: Simulator, *statements: dict[str, Any], name: str = "worker") -> Identity:
    """A session of a role with these statements."""
    iam = sim.control.client("iam", ACCOUNT, REGION)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    if statements:
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]}
        iam.put_role_policy(RoleName=name, PolicyName="allowed", PolicyDocument=json.dumps(allowed))
    return sim.identities.assume(ACCOUNT, arn)


def role(sim: Simulator, *statements: dict[str, Any], name: str = "worker") -> boto3.Session:
    """A boto3 session of such a role."""
    return session_for(identity(sim, *statements, name=name), REGION)


@pytest.fixture
def bucket(sim: Simulator) -> str:
    """A bucket with an object."""
    s3 = sim.control.client("s3", ACCOUNT, REGION)
    s3.create_bucket(Bucket="work", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="work", Key="sessions/a", Body=b"x")
    return "work"


@pytest.fixture
def volume(sim: Simulator) -> str:
    """A volume."""
    ec2 = sim.control.client("ec2", ACCOUNT, REGION)
    return str(ec2.create_volume(Size=1, AvailabilityZone=f"{REGION}a")["VolumeId"])


def test_what_is_not_allowed_fails_and_is_listed(sim, bucket):
    s3 = role(sim, {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::work/sessions/*"}).client("s3")
    s3.get_object(Bucket="work", Key="sessions/a")

    with pytest.raises(ClientError, match=r"AccessDenied.*no identity-based policy allows the s3:PutObject"):
        s3.put_object(Bucket="work", Key="sessions/b", Body=b"y")

    [violation] = sim.recorder.violations()
    assert (violation.action, violation.resource) == ("s3:PutObject", "arn:aws:s3:::work/sessions/b")
    assert violation.principal == f"arn:aws:iam::{ACCOUNT}:role/worker"


def test_without_enforcement_it_is_only_listed(sim, bucket):
    sim.recorder.enforce = False

    role(sim).client("s3").get_object(Bucket="work", Key="sessions/a")

    assert [violation.action for violation in sim.recorder.violations()] == ["s3:GetObject"]


def test_rights_that_nobody_used_are_listed(sim, bucket):
    session = role(
        sim,
        {"Sid": "Read", "Action": ["s3:GetObject", "s3:DeleteObject"], "Resource": "*"},
        {"Sid": "Publish", "Action": "sns:Publish", "Resource": "*"},
    )
    session.client("s3").get_object(Bucket="work", Key="sessions/a")

    unused = {(one.statement, one.action) for one in sim.recorder.unused()}

    assert unused == {("Read", "s3:DeleteObject"), ("Publish", "sns:Publish")}


def test_a_listing_is_bound_to_its_prefix(sim, bucket):
    only = {"StringLike": {"s3:prefix": "sessions/*"}}
    s3 = role(sim, {"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::work", "Condition": only}).client(
        "s3"
    )

    assert s3.list_objects_v2(Bucket="work", Prefix="sessions/")["KeyCount"] == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="work")


def test_a_deny_of_the_bucket_beats_the_role(sim, bucket):
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::work/*",
    }
    deny["Condition"] = {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/retention"}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    sim.control.client("s3", ACCOUNT, REGION).put_bucket_policy(Bucket="work", Policy=policy)
    everything = {"Action": "s3:*", "Resource": "*"}

    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        role(sim, everything).client("s3").delete_object(Bucket="work", Key="sessions/a")
    role(sim, everything, name="retention").client("s3").delete_object(Bucket="work", Key="sessions/a")


def test_a_snapshot_is_made_only_with_our_tag_and_tagged_only_while_it_is_made(sim, volume):
    ec2 = role(
        sim,
        {"Action": "ec2:CreateSnapshot", "Resource": f"arn:aws:ec2:*:{ACCOUNT}:volume/*"},
        {"Action": "ec2:CreateSnapshot", "Resource": "arn:aws:ec2:*::snapshot/*", "Condition": MADE},
        {
            "Action": "ec2:CreateTags",
            "Resource": "arn:aws:ec2:*::snapshot/*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "CreateSnapshot"}},
        },
    ).client("ec2")
    specification = [{"ResourceType": "snapshot", "Tags": [TAGS]}]

    made = ec2.create_snapshot(VolumeId=volume, TagSpecifications=specification)

    with pytest.raises(ClientError, match=r"UnauthorizedOperation.*ec2:CreateSnapshot"):
        ec2.create_snapshot(VolumeId=volume)
    with pytest.raises(ClientError, match=r"UnauthorizedOperation.*ec2:CreateTags"):
        ec2.create_tags(Resources=[made["SnapshotId"]], Tags=[TAGS])


def test_only_what_carries_our_tag_is_deleted(sim, volume):
    operator = sim.control.client("ec2", ACCOUNT, REGION)
    ours = operator.create_snapshot(
        VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": [TAGS]}]
    )["SnapshotId"]
    theirs = operator.create_snapshot(VolumeId=volume)["SnapshotId"]
    delete = {"Action": "ec2:DeleteSnapshot", "Resource": "arn:aws:ec2:*::snapshot/*", "Condition": OURS}
    ec2 = role(sim, delete).client("ec2")

    ec2.delete_snapshot(SnapshotId=ours)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        ec2.delete_snapshot(SnapshotId=theirs)


def test_sharing_is_bound_to_known_accounts(sim, volume):
    snapshot = sim.control.client("ec2", ACCOUNT, REGION).create_snapshot(VolumeId=volume)["SnapshotId"]
    condition = {
        "StringEqualsIfExists": {"ec2:Add/userId": ["222222222222"]},
        "Null": {"ec2:Add/group": "true"},
    }
    ec2 = role(
        sim, {"Action": "ec2:ModifySnapshotAttribute", "Resource": "*", "Condition": condition}
    ).client("ec2")

    def share(**add: str) -> None:
        ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", CreateVolumePermission={"Add": [add]}
        )

    share(UserId="222222222222")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        share(UserId="333333333333")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        share(Group="all")


def test_a_key_is_described_only_by_the_alias_that_a_condition_names(sim):
    kms = sim.control.client("kms", ACCOUNT, REGION)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
    named = {"StringEquals": {"kms:RequestAlias": "alias/mine"}}
    client = role(sim, {"Action": "kms:DescribeKey", "Resource": "*", "Condition": named}).client("kms")

    assert client.describe_key(KeyId="alias/mine")["KeyMetadata"]["Arn"] == key
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.describe_key(KeyId=key)


def test_a_key_is_used_only_with_its_encryption_context(sim):
    kms = sim.control.client("kms", ACCOUNT, REGION)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    named = {"Null": {"kms:EncryptionContext:holdfast:repository": "false"}}
    session = role(sim, {"Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": key, "Condition": named})
    client = session.client("kms")
    context = {"holdfast:repository": "r"}

    sealed = client.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]

    assert client.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"] == b"x"
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.encrypt(KeyId=key, Plaintext=b"x")


def test_a_key_policy_that_leaves_the_account_out_refuses_its_roles(sim):
    other = {"Effect": "Allow", "Principal": {"AWS": "222222222222"}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [other]})
    key = sim.control.client("kms", ACCOUNT, REGION).create_key(Policy=policy)["KeyMetadata"]["Arn"]

    with pytest.raises(ClientError, match="AccessDenied"):
        role(sim, {"Action": "kms:*", "Resource": "*"}).client("kms").encrypt(KeyId=key, Plaintext=b"x")


def test_each_item_of_a_transaction_asks_on_its_own(sim):
    dynamodb = sim.control.client("dynamodb", ACCOUNT, REGION)
    dynamodb.create_table(
        TableName="catalog",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/catalog"
    client = role(sim, {"Action": "dynamodb:PutItem", "Resource": table}).client("dynamodb")
    put = {"Put": {"TableName": "catalog", "Item": {"pk": {"S": "a"}}}}
    delete = {"Delete": {"TableName": "catalog", "Key": {"pk": {"S": "b"}}}}

    client.transact_write_items(TransactItems=[put])
    with pytest.raises(ClientError, match="dynamodb:DeleteItem"):
        client.transact_write_items(TransactItems=[put, delete])


def test_mail_is_sent_only_from_the_sender_that_is_named(sim):
    for sender in ("a@example.com", "b@example.com"):
        sim.control.client("sesv2", ACCOUNT, REGION).create_email_identity(EmailIdentity=sender)
    only = {"StringEquals": {"ses:FromAddress": "a@example.com"}}
    client = role(sim, {"Action": "ses:SendEmail", "Resource": "*", "Condition": only}).client("sesv2")
    content = {
        "Simple": {"Subject": {"Data": "Done"}, "Body": {"Text": {"Data": "t"}, "Html": {"Data": "<p>h</p>"}}}
    }

    def send(sender: str) -> None:
        client.send_email(
            FromEmailAddress=sender, Destination={"ToAddresses": ["x@example.com"]}, Content=content
        )

    send("a@example.com")
    with pytest.raises(ClientError, match="AccessDenied"):
        send("b@example.com")
    [mail] = sim.mail.to("x@example.com")
    assert (mail.sender, mail.subject, mail.text, mail.html) == ("a@example.com", "Done", "t", "<p>h</p>")


def test_passing_a_role_to_an_instance_is_a_right_of_its_own(sim):
    operator = sim.control.client("iam", ACCOUNT, REGION)
    identity(sim, name="guest")
    operator.create_instance_profile(InstanceProfileName="guest")
    operator.add_role_to_instance_profile(InstanceProfileName="guest", RoleName="guest")
    ec2 = role(sim, {"Action": "ec2:RunInstances", "Resource": "*"}).client("ec2")
    image = default_image(ACCOUNT, REGION, "linux", "x86_64")

    with pytest.raises(ClientError, match="iam:PassRole"):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "guest"})


def test_a_call_whose_resources_are_not_known_is_refused_rather_than_guessed(sim):
    ec2 = role(sim, {"Action": "*", "Resource": "*"}).client("ec2")

    with pytest.raises(ClientError, match="does not know the resources of ec2:CreateVpc"):
        ec2.create_vpc(CidrBlock="10.0.0.0/16")


def read_block(sim: Simulator, who: Identity, snapshot: str) -> int:
    """Ask for a block over HTTP, as the fast client does; the status."""
    url = f"{sim.endpoints['ebs']}/snapshots/{snapshot}/blocks/0?blockToken=x"
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials(who.access_key, who.secret, who.token), "ebs", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", url.removeprefix(sim.endpoints["ebs"]), headers=dict(request.headers))
    status = connection.getresponse().status
    connection.close()
    return status


def test_calls_over_loopback_are_judged_alike(sim, volume):
    operator = sim.control.client("ec2", ACCOUNT, REGION)
    ours = operator.create_snapshot(
        VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": [TAGS]}]
    )["SnapshotId"]
    theirs = operator.create_snapshot(VolumeId=volume)["SnapshotId"]
    read = {"Action": "ebs:GetSnapshotBlock", "Resource": "arn:aws:ec2:*::snapshot/*", "Condition": OURS}
    who = identity(sim, read)

    read_block(sim, who, ours)
    assert sim.recorder.violations() == []
    assert read_block(sim, who, theirs) == 403
    assert [violation.resource for violation in sim.recorder.violations()] == [
        f"arn:aws:ec2:{REGION}::snapshot/{theirs}"
    ]


def test_reading_what_a_customers_key_encrypts_needs_the_key_too(sim):
    operator = sim.control.client("ec2", ACCOUNT, REGION)
    key = sim.control.client("kms", ACCOUNT, REGION).create_key()["KeyMetadata"]["Arn"]
    zone = f"{REGION}a"
    locked = operator.create_volume(Size=1, AvailabilityZone=zone, Encrypted=True, KmsKeyId=key)["VolumeId"]
    snapshot = operator.create_snapshot(VolumeId=locked)["SnapshotId"]
    read = {"Action": "ebs:GetSnapshotBlock", "Resource": "*"}
    through = {"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com"}}
    decrypt = {"Action": "kms:Decrypt", "Resource": "*", "Condition": through}

    assert read_block(sim, identity(sim, read, name="without"), snapshot) == 403
    assert read_block(sim, identity(sim, read, decrypt, name="with"), snapshot) != 403
    assert [violation.action for violation in sim.recorder.violations()] == ["kms:Decrypt"]


def test_a_tag_that_changes_changes_the_verdict_at_once(sim, volume):
    operator = sim.control.client("ec2", ACCOUNT, REGION)
    snapshot = operator.create_snapshot(VolumeId=volume)["SnapshotId"]
    read = {"Action": "ebs:GetSnapshotBlock", "Resource": "arn:aws:ec2:*::snapshot/*", "Condition": OURS}
    who = identity(sim, read)
    assert read_block(sim, who, snapshot) == 403

    operator.create_tags(Resources=[snapshot], Tags=[TAGS])

    assert read_block(sim, who, snapshot) != 403


def test_the_platform_needs_the_functions_role_to_write_its_log(stack, functions):
    stack.function("quiet", functions(quiet="def handler(event, context):\n    return 1\n"))
    stack.deploy()

    stack.sim.control.client("lambda", ACCOUNT, REGION).invoke(FunctionName="quiet")

    assert {violation.action for violation in stack.sim.recorder.violations()} == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
    assert all(isinstance(violation, Violation) for violation in stack.sim.recorder.violations())
