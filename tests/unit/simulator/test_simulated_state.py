"""What survives closing a simulated AWS: everything, in another process too, and only for one at a time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import simulator
from holdfast.errors import ConfigurationError
from simulator.simulator import Simulator, current
from tests.worlds import (
    BACKUP,
    PROD,
    REGION,
    SECOND_REGION,
    block,
    client,
    instance,
    loopback,
    opened,
    put_block,
    take_snapshot,
    volume_ids,
    world,
)

ROOT = Path(__file__).parents[3]
PASS_MACHINE = json.dumps(
    {"QueryLanguage": "JSONata", "StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
TEMPLATE = json.dumps(
    {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "stacked"}}}}
)


def zipped(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("handler.py", source)
    return buffer.getvalue()


def use_every_service(aws: Simulator) -> None:
    def at(service: str) -> Any:
        return client(aws, service, BACKUP)

    key = at("kms").create_key()["KeyMetadata"]["KeyId"]
    at("kms").create_alias(AliasName="alias/kept", TargetKeyId=key)
    role = at("iam").create_role(RoleName="kept", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    client(aws, "s3", BACKUP, "us-east-1").create_bucket(Bucket="kept")
    at("s3").put_object(Bucket="kept", Key="a/b", Body=b"object", Metadata={"colour": "red"})
    at("dynamodb").create_table(
        TableName="kept",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    at("dynamodb").put_item(TableName="kept", Item={"pk": {"S": "1"}, "n": {"N": "5"}})
    topic = at("sns").create_topic(Name="kept")["TopicArn"]
    at("sns").publish(TopicArn=topic, Message="hello")
    at("sesv2").create_email_identity(EmailIdentity="a@example.com")
    at("secretsmanager").create_secret(Name="kept", SecretString="value")
    at("ssm").put_parameter(Name="/kept", Value="value", Type="String")
    at("logs").create_log_group(logGroupName="kept")
    at("events").put_rule(Name="kept", ScheduleExpression="rate(1 hour)")
    at("cloudwatch").put_metric_alarm(
        AlarmName="kept",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="m",
        Namespace="n",
        Period=60,
        Threshold=1,
        Statistic="Sum",
    )
    at("lambda").create_function(
        FunctionName="kept",
        Runtime="python3.13",
        Role=role,
        Handler="handler.handler",
        Code={"ZipFile": zipped("def handler(event, context): return event")},
    )
    at("stepfunctions").create_state_machine(name="kept", definition=PASS_MACHINE, roleArn=role)
    at("scheduler").create_schedule(
        Name="kept",
        ScheduleExpression="cron(0 1 * * ? *)",
        ScheduleExpressionTimezone="Europe/Berlin",
        FlexibleTimeWindow={"Mode": "OFF"},
        State="DISABLED",
        Target={"Arn": topic, "RoleArn": role, "Input": "{}"},
    )
    at("cloudformation").create_stack(StackName="kept", TemplateBody=TEMPLATE)


def what_is_there(aws: Simulator) -> dict[str, Any]:
    def at(service: str) -> Any:
        return client(aws, service, BACKUP)

    return {
        "kms": at("kms").describe_key(KeyId="alias/kept")["KeyMetadata"]["KeyState"],
        "iam": at("iam").get_role(RoleName="kept")["Role"]["RoleName"],
        "s3": at("s3").get_object(Bucket="kept", Key="a/b")["Body"].read(),
        "metadata": at("s3").head_object(Bucket="kept", Key="a/b")["Metadata"],
        "dynamodb": at("dynamodb").get_item(TableName="kept", Key={"pk": {"S": "1"}})["Item"]["n"],
        "sns": sorted(topic["TopicArn"].split(":")[-1] for topic in at("sns").list_topics()["Topics"]),
        "sesv2": [found["IdentityName"] for found in at("sesv2").list_email_identities()["EmailIdentities"]],
        "secrets": at("secretsmanager").get_secret_value(SecretId="kept")["SecretString"],
        "ssm": at("ssm").get_parameter(Name="/kept")["Parameter"]["Value"],
        "logs": [group["logGroupName"] for group in at("logs").describe_log_groups()["logGroups"]],
        "events": at("events").describe_rule(Name="kept")["ScheduleExpression"],
        "alarms": [alarm["AlarmName"] for alarm in at("cloudwatch").describe_alarms()["MetricAlarms"]],
        "lambda": at("lambda").get_function(FunctionName="kept")["Configuration"]["Runtime"],
        "machines": [found["name"] for found in at("stepfunctions").list_state_machines()["stateMachines"]],
        "schedules": [found["Name"] for found in at("scheduler").list_schedules()["Schedules"]],
        "stacks": at("cloudformation").describe_stacks(StackName="kept")["Stacks"][0]["StackStatus"],
    }


def test_every_service_in_use_is_as_it_was_after_reopening(tmp_path: Path):
    with opened(tmp_path) as aws:
        use_every_service(aws)
        before = what_is_there(aws)
    with simulator.open(tmp_path) as aws:
        assert what_is_there(aws) == before
        client(aws, "iam", BACKUP).create_role(RoleName="later", AssumeRolePolicyDocument=TRUST)
    with simulator.open(tmp_path) as aws:
        roles = [role["RoleName"] for role in client(aws, "iam", BACKUP).list_roles()["Roles"]]
        assert {"kept", "later"} <= set(roles)


def test_disks_and_snapshots_are_as_they_were_in_another_process(tmp_path: Path):
    image = tmp_path / "disk.raw"
    image.write_bytes(block(1) + block(2))
    disk = {"device": "/dev/xvda", "size_gib": 1, "image": str(image)}
    with opened(tmp_path / "aws", instances=[instance(volumes=[disk])]) as aws:
        volume = volume_ids(aws)[0]
        first = take_snapshot(aws, volume)
        aws.ebs.write_blocks(volume, 1, block(3))
        second = take_snapshot(aws, volume)
        pending = client(aws, "ebs").start_snapshot(VolumeSize=1)["SnapshotId"]
        put_block(client(aws, "ebs"), pending, 9, block(4))
        expected = [aws.ebs.snapshot_content(snapshot).sha256() for snapshot in (first, second)]
    image.write_bytes(b"the original may change")
    program = f"""
import json, pathlib, simulator
with simulator.open(pathlib.Path({str(tmp_path / "aws")!r})) as aws:
    ebs = aws.session("{PROD}", "{REGION}").client("ebs")
    changed = ebs.list_changed_blocks(FirstSnapshotId="{first}", SecondSnapshotId="{second}")
    ebs.complete_snapshot(SnapshotId="{pending}", ChangedBlocksCount=1)
    print(json.dumps({{
        "changed": [entry["BlockIndex"] for entry in changed["ChangedBlocks"]],
        "sums": [aws.ebs.snapshot_content(snapshot).sha256() for snapshot in ("{first}", "{second}")],
        "written": list(aws.ebs.snapshot_content("{pending}").allocated()),
    }}))
"""
    path = [str(ROOT), str(ROOT / "layers" / "core" / "python")]
    source = f"import sys; sys.path[:0] = {path!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"changed": [1], "sums": expected, "written": [9]}


def test_time_chance_faults_and_counts_go_on_where_they_were(tmp_path: Path):
    faults = [{"call": "ec2:DescribeRegions", "effect": "throttle", "nth": 2}]
    with opened(tmp_path, faults=faults) as aws:
        client(aws, "ec2").describe_regions()
        aws.clock.advance(1_000)
        now, counted = aws.clock.now(), aws.requests["ec2:DescribeRegions"]
        volume = client(aws, "ec2").create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    with simulator.open(tmp_path) as aws:
        assert (aws.clock.now(), aws.requests["ec2:DescribeRegions"]) == (now, counted)
        again = client(aws, "ec2").create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
        assert again != volume
        with pytest.raises(Exception, match="Rate exceeded"):
            client(aws, "ec2").describe_regions()


def test_the_same_world_gets_the_same_ids(tmp_path: Path):
    ids = []
    for name in ("one", "two"):
        with opened(tmp_path / name, instances=[instance("a"), instance("b", count=3)]) as aws:
            described = client(aws, "ec2").describe_instances()["Reservations"]
            ids.append([reservation["Instances"][0]["InstanceId"] for reservation in described])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


def test_files_copied_into_a_bucket_become_objects_when_it_is_opened(tmp_path: Path):
    with opened(tmp_path) as aws:
        client(aws, "s3", BACKUP, "us-east-1").create_bucket(Bucket="kept")
    (tmp_path / "buckets" / "kept" / "a").mkdir(parents=True)
    (tmp_path / "buckets" / "kept" / "a" / "new %25 file").write_bytes(b"copied in")
    (tmp_path / "buckets" / "kept" / "link").symlink_to(tmp_path / "state")
    with simulator.open(tmp_path) as aws:
        listed = client(aws, "s3", BACKUP).list_objects_v2(Bucket="kept")["Contents"]
        assert [entry["Key"] for entry in listed] == ["a/new % file"]


def test_what_s3_knows_of_an_object_lies_beside_the_bucket(tmp_path: Path):
    with opened(tmp_path) as aws:
        client(aws, "s3", BACKUP, "us-east-1").create_bucket(Bucket="kept")
        client(aws, "s3", BACKUP).put_object(Bucket="kept", Key="k", Body=b"x", Metadata={"colour": "red"})
    described = [
        json.loads(path.read_text()) for path in (tmp_path / "buckets" / ".kept.meta").rglob("*.json")
    ]
    assert [(entry["key"], entry["metadata"]["x-amz-meta-colour"]) for entry in described] == [("k", "red")]


def test_a_second_process_is_kept_out(tmp_path: Path):
    path = [str(ROOT), str(ROOT / "layers" / "core" / "python")]
    source = f"""
import sys; sys.path[:0] = {path!r}
import pathlib, simulator
with simulator.open(pathlib.Path({str(tmp_path)!r})):
    print("inside")
"""
    with opened(tmp_path):
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert "another process has this simulated AWS open" in done.stderr
    assert done.stdout == ""


def test_one_process_has_one_simulator_open(tmp_path: Path):
    with opened(tmp_path / "one") as aws:
        assert current() is aws
        with pytest.raises(ConfigurationError, match="open in this process"):
            Simulator(tmp_path / "two", world())
    with pytest.raises(ConfigurationError, match="no simulated AWS"):
        current()


def test_a_directory_is_created_once_and_opened_only_if_it_was_created(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no simulated AWS"):
        Simulator(tmp_path)
    with opened(tmp_path):
        pass
    with pytest.raises(ConfigurationError, match="already holds"):
        Simulator(tmp_path, world())


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x05N."])
def test_a_damaged_state_is_an_error_that_names_the_file(tmp_path: Path, content: bytes):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        Simulator(tmp_path)
    assert error.value.resource == str(tmp_path / "state")


def test_closing_takes_everything_off_again(tmp_path: Path):
    with opened(tmp_path, instances=[instance()]) as aws:
        url = aws.endpoints["ebs"]
        snapshot = take_snapshot(aws, volume_ids(aws)[0])
        ebs = loopback(aws, "ebs")
        ebs.list_snapshot_blocks(SnapshotId=snapshot)
        assert aws.clock.now().year == 2026
        assert SECOND_REGION in aws.world.regions
    with pytest.raises(Exception, match=r"Could not connect|Connection"):
        ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert url.startswith("http://127.0.0.1:")
