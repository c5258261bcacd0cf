"""Faults of the simulator: each kind, at the planned call, in this process and over loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from pydantic import ValidationError

from simulator.calls import error_answer
from simulator.faults import Fault, FaultPlan, SimulatedCrash, flip_bit
from simulator.simulator import Simulator
from tests.worlds import (
    BACKUP,
    OTHER,
    PROD,
    REGION,
    SECOND_REGION,
    block,
    checksum,
    client,
    instance,
    loopback,
    new_client,
    opened,
    put_block,
    take_snapshot,
    volume_ids,
)


@pytest.fixture
def aws(tmp_path: Path) -> Any:
    with opened(tmp_path, instances=[instance()]) as simulator:
        yield simulator


@pytest.fixture(params=[client, loopback], ids=["in process", "loopback"])
def connect(request: pytest.FixtureRequest) -> Any:
    return request.param


def reader(aws: Simulator) -> str:
    """A role of the protected account that may do everything with EBS and that everybody may assume."""
    iam = client(aws, "iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    allow = {"Effect": "Allow", "Action": ["ebs:*"], "Resource": "*"}
    trusted, allowed = (json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, allow))
    role = iam.create_role(RoleName="Reader", AssumeRolePolicyDocument=trusted)["Role"]
    iam.put_role_policy(RoleName="Reader", PolicyName="ebs", PolicyDocument=allowed)
    return str(role["Arn"])


def codes(call: Any, count: int) -> list[str]:
    seen = []
    for _ in range(count):
        try:
            call()
            seen.append("")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    return seen


@pytest.mark.parametrize(
    "when,expected",
    [
        ({"nth": 2}, [0, 1, 0, 0, 0, 0]),
        ({"every": 2}, [0, 1, 0, 1, 0, 1]),
        ({"every": 2, "times": 2}, [0, 1, 0, 1, 0, 0]),
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"times": 1}, [1, 0, 0, 0, 0, 0]),
    ],
)
def test_a_fault_strikes_at_the_planned_calls(aws: Simulator, when: dict[str, int], expected: list[int]):
    aws.faults.add(Fault(call="ec2:DescribeRegions", effect="throttle", **when))
    seen = codes(client(aws, "ec2").describe_regions, 6)
    assert seen == ["RequestLimitExceeded" if one else "" for one in expected]


def test_chance_is_seeded(aws: Simulator):
    fault = Fault(call="ec2:*", effect="throttle", probability=0.5)
    runs = []
    for seed in (1, 1, 2):
        aws.faults = FaultPlan([fault], seed)
        runs.append(codes(client(aws, "ec2").describe_regions, 12))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert 0 < runs[0].count("") < 12


def test_a_fault_concerns_only_its_account_region_and_resource(aws: Simulator):
    volume = volume_ids(aws)[0]
    aws.faults.add(
        Fault(call="ec2:DescribeVolumes", effect="throttle", account=PROD, region=REGION, resource=volume)
    )
    cases = [(PROD, REGION, volume), (PROD, REGION, ""), (OTHER, REGION, ""), (PROD, SECOND_REGION, "")]
    seen = []
    for account, region, wanted in cases:
        ec2 = client(aws, "ec2", account, region)
        seen += codes(lambda ec2=ec2, ids=[wanted] if wanted else []: ec2.describe_volumes(VolumeIds=ids), 1)
    assert seen == ["RequestLimitExceeded", "", "", ""]


@pytest.mark.parametrize(
    "service,operation,call,code",
    [
        ("ec2", "DescribeRegions", lambda c: c.describe_regions(), "RequestLimitExceeded"),
        ("s3", "ListBuckets", lambda c: c.list_buckets(), "SlowDown"),
        ("ebs", "StartSnapshot", lambda c: c.start_snapshot(VolumeSize=1), "RequestThrottledException"),
        ("dynamodb", "ListTables", lambda c: c.list_tables(), "ProvisionedThroughputExceededException"),
        ("sts", "GetCallerIdentity", lambda c: c.get_caller_identity(), "Throttling"),
        ("kms", "ListKeys", lambda c: c.list_keys(), "ThrottlingException"),
        ("stepfunctions", "ListStateMachines", lambda c: c.list_state_machines(), "ThrottlingException"),
        ("cloudwatch", "ListDashboards", lambda c: c.list_dashboards(), "ThrottlingException"),
        ("sns", "ListTopics", lambda c: c.list_topics(), "Throttled"),
        ("sesv2", "ListEmailIdentities", lambda c: c.list_email_identities(), "ThrottlingException"),
        ("organizations", "ListAccounts", lambda c: c.list_accounts(), "ThrottlingException"),
        ("lambda", "ListFunctions", lambda c: c.list_functions(), "TooManyRequestsException"),
    ],
)
def test_throttling_looks_as_each_service_words_it(aws: Simulator, service, operation, call, code):
    aws.faults.add(Fault(call=f"*:{operation}", effect="throttle", times=1))
    assert codes(lambda: call(client(aws, service)), 1) == [code]


@pytest.mark.parametrize(
    "effect,more,status,code",
    [
        ("internal", {}, 500, "InternalError"),
        ("unavailable", {}, 503, "ServiceUnavailable"),
        ("error", {"code": "InvalidVolume.NotFound", "status": 404}, 404, "InvalidVolume.NotFound"),
        ("expired", {}, 400, "RequestExpired"),
    ],
)
def test_errors_are_those_of_the_plan(
    aws: Simulator, effect: str, more: dict[str, Any], status: int, code: str
):
    aws.faults.add(Fault(call="ec2:DescribeRegions", effect=effect, **more))
    with pytest.raises(ClientError) as error:
        client(aws, "ec2").describe_regions()
    assert error.value.response["Error"]["Code"] == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_delay_lets_virtual_time_pass(aws: Simulator, connect: Any):
    aws.faults.add(Fault(call="ebs:StartSnapshot", effect="delay", seconds=90, nth=1))
    before = aws.clock.now()
    connect(aws, "ebs").start_snapshot(VolumeSize=1)
    assert (aws.clock.now() - before).total_seconds() == 90


def test_a_reset_does_nothing_and_a_lost_answer_has_done_it(aws: Simulator, connect: Any):
    for effect, made in (("reset", 0), ("lost", 1)):
        aws.faults.clear()
        aws.faults.add(Fault(call="ebs:StartSnapshot", effect=effect, nth=1))
        before = len(client(aws, "ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"])
        with pytest.raises(ConnectionClosedError):
            connect(aws, "ebs").start_snapshot(VolumeSize=1)
        after = len(client(aws, "ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"])
        assert after - before == made


def test_a_duplicated_call_is_one_snapshot_because_of_its_client_token(aws: Simulator, connect: Any):
    aws.faults.add(Fault(call="ebs:StartSnapshot", effect="duplicate", nth=1))
    before = len(client(aws, "ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"])
    connect(aws, "ebs").start_snapshot(VolumeSize=1, ClientToken="one")
    assert len(client(aws, "ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]) == before + 1


def test_a_corrupted_block_no_longer_has_the_checksum_that_came_with_it(aws: Simulator, connect: Any):
    volume = volume_ids(aws)[0]
    aws.ebs.write_blocks(volume, 0, block(1))
    snapshot = take_snapshot(aws, volume)
    ebs = connect(aws, "ebs")
    token = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    aws.faults.add(Fault(call="ebs:GetSnapshotBlock", effect="corrupt", nth=1))
    answers = [ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token) for _ in range(2)]
    assert [checksum(answer["BlockData"].read()) == answer["Checksum"] for answer in answers] == [False, True]


def test_a_crash_passes_every_except_clause_and_kills_what_the_sandbox_does_afterwards(aws: Simulator):
    aws.faults.add(Fault(call="ec2:CreateSnapshots", effect="crash", nth=1))
    ec2 = client(aws, "ec2")
    with pytest.raises(SimulatedCrash):
        ec2.create_snapshots(InstanceSpecification={"InstanceId": "i-1"})
    assert not issubclass(SimulatedCrash, Exception)
    with pytest.raises(SimulatedCrash):
        ec2.describe_regions()
    new_client(aws, "ec2").describe_regions()  # another sandbox lives
    aws.crashed.clear()
    ec2.describe_regions()


def test_a_crash_over_loopback_reaches_the_roles_that_the_sandbox_assumed(aws: Simulator):
    role = reader(aws)
    own = aws.session(BACKUP, REGION)
    assumed = own.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    aws.faults.add(Fault(call="ebs:StartSnapshot", effect="crash", nth=1))
    ebs = own.client(
        "ebs",
        aws_access_key_id=assumed["AccessKeyId"],
        aws_secret_access_key=assumed["SecretAccessKey"],
        aws_session_token=assumed["SessionToken"],
        endpoint_url=aws.endpoints["ebs"],
    )
    with pytest.raises(ConnectionClosedError):
        ebs.start_snapshot(VolumeSize=1)
    with pytest.raises(SimulatedCrash):
        own.client("sts").get_caller_identity()


def test_a_session_that_has_ended_is_told_so(aws: Simulator, connect: Any):
    session = aws.session(PROD, REGION, reader(aws).rpartition("/")[2])
    url = aws.endpoints["ebs"] if connect is loopback else None
    ebs = session.client("ebs", endpoint_url=url)
    ebs.start_snapshot(VolumeSize=1)
    aws.clock.advance(13 * 3_600)
    with pytest.raises(ClientError) as error:
        ebs.start_snapshot(VolumeSize=1)
    assert error.value.response["Error"]["Code"] == "ExpiredTokenException"


def test_a_guard_refuses_before_anything_happens(aws: Simulator, connect: Any):
    snapshot = client(aws, "ebs").start_snapshot(VolumeSize=1)["SnapshotId"]
    asked = []

    def guard(call: Any) -> Any:
        asked.append((call.name, call.account, call.region))
        return (
            error_answer(call.service, "AccessDeniedException", "no", 403) if call.service == "ebs" else None
        )

    aws.guards.append(guard)
    with pytest.raises(ClientError) as error:
        put_block(connect(aws, "ebs"), snapshot, 0, block(1))
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert asked == [("ebs:PutSnapshotBlock", PROD, REGION)]
    assert list(aws.ebs.snapshot_content(snapshot).allocated()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": "nothing", "effect": "throttle"},
        {"call": "ec2:*", "effect": "explode"},
        {"call": "ec2:*", "effect": "error"},
        {"call": "ec2:*", "effect": "delay"},
        {"call": "ec2:*", "effect": "throttle", "nth": 1, "every": 2},
        {"call": "ec2:*", "effect": "throttle", "probability": 2},
        {"call": "ec2:*", "effect": "throttle", "sometimes": True},
    ],
)
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)


def test_flipping_a_bit_changes_exactly_one():
    content = block(1)
    flipped = flip_bit(content)
    difference = int.from_bytes(content, "big") ^ int.from_bytes(flipped, "big")
    assert difference.bit_count() == 1
    assert flip_bit(b"") == b""
