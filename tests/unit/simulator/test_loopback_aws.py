"""The simulated AWS on 127.0.0.1: signatures, counting, many connections, and services that moto answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from simulator.simulator import Simulator
from tests.worlds import (
    BACKUP,
    PROD,
    REGION,
    block,
    client,
    instance,
    loopback,
    opened,
    take_snapshot,
    volume_ids,
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with opened(tmp_path_factory.mktemp("aws"), instances=[instance()]) as simulator:
        yield simulator


def exchange(
    aws: Simulator, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(aws.server.url).netloc, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-amzn-errortype") or answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def signed(
    aws: Simulator, path: str = "/snapshots/snap-1/blocks", at: datetime | None = None, **change: str
) -> tuple[str, dict[str, str]]:
    found = aws.session(PROD, REGION).get_credentials().get_frozen_credentials()
    held = {"access_key": found.access_key, "secret_key": found.secret_key, "token": found.token} | change
    request = AWSRequest("GET", aws.server.url + path)
    signer = SigV4Auth(Credentials(**held), "ebs", REGION)
    signer.add_auth(request)
    if at is not None:
        request = AWSRequest("GET", aws.server.url + path)
        request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
        _sign_at(signer, request)
    return path, dict(request.headers.items())


def _sign_at(signer: SigV4Auth, request: AWSRequest) -> None:
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)


def test_a_rightly_signed_request_is_answered_by_the_service(aws: Simulator):
    path, headers = signed(aws)
    assert exchange(aws, "GET", path, headers) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    "change,code",
    [
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key": "ASIA0000000000000000"}, "InvalidClientTokenId"),
        ({"token": "wrong"}, "InvalidClientTokenId"),
    ],
)
def test_wrong_credentials_are_refused(aws: Simulator, change: dict[str, str], code: str):
    path, headers = signed(aws, **change)
    assert exchange(aws, "GET", path, headers) == (403, code)


def test_what_was_changed_after_signing_is_refused(aws: Simulator):
    path, headers = signed(aws)
    assert exchange(aws, "GET", path + "?maxResults=100", headers) == (403, "SignatureDoesNotMatch")
    assert exchange(aws, "GET", path.replace("snap-1", "snap-2"), headers) == (403, "SignatureDoesNotMatch")
    altered = headers | {"X-Amz-Date": "20200101T000000Z"}
    assert exchange(aws, "GET", path, altered)[0] == 403


def test_the_date_may_be_of_the_virtual_or_the_real_clock_and_no_other(aws: Simulator):
    virtual = aws.clock.now()
    for at, expected in (
        (virtual + timedelta(minutes=14), 404),
        (virtual - timedelta(minutes=16), 403),
        (datetime.now(UTC), 404),
    ):
        path, headers = signed(aws, at=at)
        assert exchange(aws, "GET", path, headers)[0] == expected


@pytest.mark.parametrize(
    "header", ["AWS4-HMAC-SHA256 nonsense", "AWS4-HMAC-SHA256 Credential=A/20260101/r/ebs/aws4_request"]
)
def test_half_an_authorization_is_no_authorization(aws: Simulator, header: str):
    answer = exchange(aws, "GET", "/snapshots/snap-1/blocks", {"Authorization": header})
    assert answer == (403, "IncompleteSignature" if "nonsense" in header else "InvalidClientTokenId")


def test_an_unsigned_request_is_refused(aws: Simulator):
    assert exchange(aws, "GET", "/", {}) == (403, "MissingAuthenticationToken")


def test_a_body_that_was_not_signed_is_refused(aws: Simulator):
    s3 = loopback(aws, "s3", BACKUP, "us-east-1")
    s3.create_bucket(Bucket="signed")

    def tamper(request: Any, **_: Any) -> None:
        request.body = b"tampered"

    s3.meta.events.register("before-send.s3.PutObject", tamper)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="signed", Key="k", Body=b"genuine!")
    assert error.value.response["Error"]["Code"] == "XAmzContentSHA256Mismatch"


def test_both_ways_are_counted_as_the_same_calls(aws: Simulator):
    volume = volume_ids(aws)[0]
    aws.ebs.write_blocks(volume, 0, block(1))
    snapshot = take_snapshot(aws, volume)
    aws.requests.clear()
    for connect in (client, loopback):
        ebs = connect(aws, "ebs")
        token = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
        connect(aws, "sts").get_caller_identity()
        connect(aws, "ec2").describe_regions()
        connect(aws, "dynamodb").list_tables()
    assert aws.requests == {
        "ebs:ListSnapshotBlocks": 2,
        "ebs:GetSnapshotBlock": 2,
        "sts:GetCallerIdentity": 2,
        "ec2:DescribeRegions": 2,
        "dynamodb:ListTables": 2,
    }


@pytest.mark.parametrize(
    "service,call",
    [
        ("sts", lambda c: c.get_caller_identity()["Account"]),
        ("ec2", lambda c: [v["VolumeId"] for v in c.describe_volumes()["Volumes"]]),
        ("iam", lambda c: c.list_roles()["Roles"]),
        ("ssm", lambda c: c.describe_parameters()["Parameters"]),
        ("cloudformation", lambda c: c.list_stacks()["StackSummaries"]),
        ("lambda", lambda c: c.list_functions()["Functions"]),
        ("stepfunctions", lambda c: c.list_state_machines()["stateMachines"]),
        ("s3", lambda c: [bucket["Name"] for bucket in c.list_buckets()["Buckets"]]),
        ("kms", lambda c: c.list_keys()["Keys"]),
        ("sesv2", lambda c: c.list_email_identities()["EmailIdentities"]),
    ],
)
def test_every_service_answers_over_loopback_as_in_process(aws: Simulator, service: str, call: Any):
    assert call(loopback(aws, service)) == call(client(aws, service))


def test_many_threads_read_and_write_at_once_and_nothing_is_lost(aws: Simulator):
    ebs = loopback(aws, "ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    contents = {index: block(index % 5) for index in range(64)}
    failures: list[BaseException] = []

    def put(part: int) -> None:
        from tests.worlds import put_block

        try:
            for index in range(part, 64, 8):
                put_block(ebs, snapshot, index, contents[index])
        except BaseException as error:  # noqa: BLE001 shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=put, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=64)
    held = aws.ebs.snapshot_content(snapshot)
    assert {index: held.block(index) for index in held.allocated()} == contents


@pytest.mark.parametrize(
    "raw",
    [
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["no target", "no length", "short body", "long head"],
)
def test_malformed_requests_end_their_connection_and_nothing_else(aws: Simulator, raw: bytes):
    import socket

    host, port = urlsplit(aws.server.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert loopback(aws, "sts").get_caller_identity()["Account"] == PROD
