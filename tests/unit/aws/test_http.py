from __future__ import annotations

import gc
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.aws import ebs
from holdfast.aws.budget import RateBudget
from holdfast.aws.http import BACKOFF_LIMIT, HttpClient, Request
from holdfast.aws.signing import Credentials, Signer
from holdfast.aws.wire import Timeouts
from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    PermanentError,
    ThrottledError,
    UnavailableError,
)
from holdfast.model.blocks import BLOCK_SIZE
from tests import loopback
from tests.aws_builders import FakeTime, make_client
from tests.loopback import MOMENT, State, StaticCredentials, lost_answer, raw, refusal, reset, serving
from tests.snapshots import block


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def a_client(
    stack: ExitStack,
    state: State,
    credentials: StaticCredentials | None = None,
    *,
    time: FakeTime | None = None,
    timeouts: Timeouts | None = None,
    url: str = "",
    tls: ssl.SSLContext | None = None,
) -> HttpClient:
    url = url or stack.enter_context(serving(state))
    client = make_client(url, "ebs", credentials, time=time, timeouts=timeouts, tls=tls)
    stack.callback(client.close)
    return client


def a_request(into: memoryview | None = None, **changes: object) -> Request:
    token = "c25hcC0xKy8w"  # of block 0 of snap-1
    request = Request(
        "GET",
        "/snapshots/snap-1/blocks/0",
        "ebs:GetSnapshotBlock",
        "snap-1",
        query=f"blockToken={token}",
        limit=BLOCK_SIZE,
        into=into,
    )
    return request._replace(**changes)


def a_state() -> State:
    return State(snapshots={"snap-1": {0: block("a")}})


def test_a_body_goes_straight_into_the_buffer_of_the_caller(stack: ExitStack) -> None:
    buffer = bytearray(BLOCK_SIZE)
    answer = a_client(stack, a_state()).send(a_request(memoryview(buffer)))
    assert (answer.status, answer.body, answer.repeated) == (200, b"", False)
    assert buffer == block("a")


def test_a_connection_is_used_again(stack: ExitStack) -> None:
    state, client = a_state(), None
    client = a_client(stack, state)
    for _ in range(3):
        client.send(a_request())
    assert len(client._idle) == 1
    assert client._idle[0][0].used == 3
    assert client.requests == {"ebs:GetSnapshotBlock": 3}


def test_a_client_that_nobody_holds_closes_its_connections(stack: ExitStack) -> None:
    url = stack.enter_context(serving(a_state()))
    client = HttpClient(
        url, Signer("ebs", "eu-central-1", clock=MOMENT.timestamp), StaticCredentials(), ebs.tell
    )
    client.send(a_request())
    connection = client._idle[0][0]
    assert connection.is_open
    del client
    gc.collect()
    assert not connection.is_open


def test_a_connection_that_the_server_closed_meanwhile_costs_no_pause(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    client = a_client(stack, state, time=time)
    client.send(a_request())
    state.fail(1, raw(b""))
    assert client.send(a_request()).status == 200
    assert time.pauses == []


def test_a_connection_that_was_idle_for_long_is_not_used_again(stack: ExitStack) -> None:
    time = FakeTime()
    client = a_client(stack, a_state(), time=time)
    client.send(a_request())
    old = client._idle[0][0]
    time.now += 60
    client.send(a_request())
    assert not old.is_open
    assert client._idle[0][0] is not old


FAULTS = {
    "throttled": refusal(400, "RequestThrottledException", "ACCOUNT_THROTTLED"),
    "throttled for the snapshot": refusal(400, "ThrottlingException", "RESOURCE_LEVEL_THROTTLE"),
    "internal error": refusal(500, "InternalServerException"),
    "unavailable without a word": raw(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", close=False),
    "error in HTML": raw(b"HTTP/1.1 502 Bad\r\nContent-Length: 20\r\n\r\n<h1>Bad gateway</h1>", close=False),
    "error in a list": raw(b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\n[1]", close=False),
    "no answer": raw(b""),
    "reset": reset(),
    "reset inside the head": reset(b"HTTP/1.1 200 OK\r\nContent-"),
    "reset inside the body": reset(b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n" + bytes(9_000)),
    "short body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n" + bytes(100)),
    "too short by its own word": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"),
    "too long": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + bytes(600_000)),
    "more than announced": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcdef"),
    "garbage": raw(b"\x16\x03\x01 not http at all\r\n\r\n"),
    "endless head": raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000),
    "too many headers": raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"),
    "blanks without end": raw(b"HTTP/1.1 200 OK\r\nx:" + b" " * 30_000 + b"\0\r\n\r\n"),
    "header without a name": raw(b"HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 0\r\n\r\n"),
    "folded header": raw(b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"),
    "length and coding": raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "huge length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
    "unknown coding": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc"),
    "malformed chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"),
    "chunk without end": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n"),
    "endless chunk line": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 9_000),
    "chunks beyond the limit": raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65_536) + b"\r\n" * 20
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_request_is_repeated_after(stack: ExitStack, name: str) -> None:
    state, time, buffer = a_state(), FakeTime(), bytearray(BLOCK_SIZE)
    state.fail(2, FAULTS[name])
    client = a_client(stack, state, time=time)
    assert client.send(a_request(memoryview(buffer))).status == 200
    assert buffer == block("a")
    assert time.pauses == [0.1, 0.2]
    assert client.requests["ebs:GetSnapshotBlock"] == 3


def test_pauses_grow_to_a_limit_and_the_last_error_is_raised_when_time_is_over(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    state.fail(100, refusal(500, "InternalServerException"))
    with pytest.raises(UnavailableError, match="ebs:GetSnapshotBlock failed: InternalServerException"):
        a_client(stack, state, time=time).send(a_request())
    assert time.pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(time.pauses) <= BACKOFF_LIMIT
    assert sum(time.pauses) < 60.0


def test_the_server_may_ask_for_a_longer_pause_within_reason(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    for seconds in (b"3", b"86400", b"soon"):
        state.fail(1, raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: " + seconds + b"\r\n\r\n"))
    a_client(stack, state, time=time).send(a_request())
    assert time.pauses == [3.0, BACKOFF_LIMIT, 0.4]


def test_an_expired_token_is_renewed_without_a_pause(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    state.secrets = {"AKIDOLD": "old secret", "AKIDNEW": "new secret"}
    state.expired = {"AKIDOLD"}
    credentials = StaticCredentials(
        Credentials("AKIDOLD", "old secret", "t1"), Credentials("AKIDNEW", "new secret", "t2")
    )
    assert a_client(stack, state, credentials, time=time).send(a_request()).status == 200
    assert (credentials.renewed, time.pauses) == (1, [])


def test_a_token_that_stays_expired_is_an_error_in_the_end(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    state.expired = {"AKIDEXAMPLE"}
    credentials = StaticCredentials()
    with pytest.raises(UnavailableError, match="ExpiredToken"):
        a_client(stack, state, credentials, time=time).send(a_request())
    assert credentials.renewed == 2


def test_a_wrong_signature_is_refused_once_and_for_all(stack: ExitStack) -> None:
    state = a_state()
    credentials = StaticCredentials(Credentials("AKIDEXAMPLE", "wrong"))
    with pytest.raises(AccessDeniedError, match="SignatureDoesNotMatch"):
        a_client(stack, state, credentials).send(a_request())
    assert len(state.log) == 1


def test_a_refusal_names_role_action_and_resource(stack: ExitStack) -> None:
    state = a_state()
    state.fail(1, refusal(403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT"))
    with pytest.raises(AccessDeniedError) as caught:
        a_client(stack, state).send(a_request())
    assert "arn:aws:iam::111122223333:role/HoldfastBackup was denied ebs:GetSnapshotBlock" in str(
        caught.value
    )
    assert caught.value.remedy == (
        "Allow ebs:GetSnapshotBlock on snap-1 to arn:aws:iam::111122223333:role/HoldfastBackup."
    )


def test_codes_that_only_this_call_may_retry(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    state.fail(2, refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"))
    client = a_client(stack, state, time=time)
    assert client.send(a_request(later=("SNAPSHOT_NOT_FOUND",))).status == 200


@pytest.mark.parametrize("value", ["x\r\ny: z", "x\n", "\r"])
def test_a_header_cannot_carry_another(stack: ExitStack, value: str) -> None:
    state = a_state()
    with pytest.raises(PermanentError, match="line break"):
        a_client(stack, state).send(a_request(headers={"if-match": value}))
    assert state.log == []


def test_a_chunked_answer_is_read_whole(stack: ExitStack) -> None:
    state = a_state()
    state.fail(
        1,
        raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
            close=False,
        ),
    )
    client = a_client(stack, state)
    first = client.send(a_request())
    assert (first.status, first.body) in ((200, b"abcde"), (200, block("a")))
    assert client.send(a_request()).body == block("a")


def test_an_answer_that_ends_with_the_connection_is_read_whole(stack: ExitStack) -> None:
    state = a_state()
    state.fail(1, raw(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"))
    client = a_client(stack, state)
    assert client.send(a_request()).body == b"until the end"
    assert not client._idle


def test_a_lost_answer_is_reported_as_possibly_done(stack: ExitStack) -> None:
    state = a_state()
    state.fail(1, lost_answer)
    assert a_client(stack, state).send(a_request()).repeated


def test_a_server_that_is_not_there_is_unavailable(stack: ExitStack) -> None:
    with ExitStack() as closed:
        url = closed.enter_context(serving(State()))
    client = a_client(stack, State(), url=url)
    with pytest.raises(UnavailableError, match="got no usable answer from 127"):
        client.send(a_request())


def test_a_server_that_refuses_before_it_has_read_the_body_is_heard(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    refused: list[bytes] = []

    def refuse_then_accept() -> None:
        with listener.accept()[0] as connection:
            refused.append(connection.recv(100))
            connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        with listener.accept()[0] as connection:
            left = 16 << 20
            while left > 0:
                left -= len(connection.recv(1 << 20))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = threading.Thread(target=refuse_then_accept)
    server.start()
    stack.callback(server.join)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client, body = a_client(stack, State(), url=url), bytes(16 << 20)
    assert client.send(a_request(method="PUT", body=body, query="")).status == 200
    assert refused[0].startswith(b"PUT /snapshots/snap-1/blocks/0 HTTP/1.1")


def test_a_silent_server_runs_into_the_read_limit(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    state.fail(1, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n", close=False))
    client = a_client(stack, state, time=time, timeouts=Timeouts(read=0.05, operation=60.0))
    assert client.send(a_request()).status == 200
    assert time.pauses == [0.1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(MOMENT - timedelta(days=3650))
        .not_valid_after(MOMENT + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def test_tls_carries_blocks_and_knows_its_server(stack: ExitStack, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    url = stack.enter_context(serving(a_state(), server))
    trusting = ssl.create_default_context(cafile=str(certificate))
    buffer = bytearray(BLOCK_SIZE)
    a_client(stack, State(), url=url, tls=trusting).send(a_request(memoryview(buffer)))
    assert buffer == block("a")
    with pytest.raises(UnavailableError, match="certificate verify failed"):
        a_client(stack, State(), url=url).send(a_request())


def test_throttling_slows_every_request_of_the_budget(stack: ExitStack) -> None:
    state, time = a_state(), FakeTime()
    budget = RateBudget(1000.0, monotonic=time.monotonic, sleep=time.sleep)
    state.fail(1, FAULTS["throttled"])
    a_client(stack, state, time=time).send(a_request(budgets=(budget,)))
    assert budget.rate == pytest.approx(700.0, rel=0.02)


@pytest.mark.parametrize("url", ["ftp://host", "nonsense", "https://"])
def test_an_address_that_is_none_is_refused(stack: ExitStack, url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https address"):
        a_client(stack, State(), url=url)


def test_a_budget_spreads_requests_and_recovers() -> None:
    time = FakeTime()
    budget = RateBudget(100.0, start=10.0, burst=1.0, monotonic=time.monotonic, sleep=time.sleep)
    for _ in range(11):
        budget.take()
    assert sum(time.pauses) == pytest.approx(0.9, rel=0.4)
    time.now += 60
    budget.take()
    assert budget.rate == 100.0
    budget.throttled()
    budget.throttled()
    assert budget.rate == 70.0
    for _ in range(40):
        time.now += 1.0
        budget.throttled()
    assert budget.rate == 5.0


def test_no_credentials_is_a_matter_of_configuration(stack: ExitStack) -> None:
    class Nobody(StaticCredentials):
        def current(self) -> Credentials:
            raise ConfigurationError("There are no AWS credentials.")

    with pytest.raises(ConfigurationError):
        a_client(stack, a_state(), Nobody()).send(a_request())


def test_throttling_that_does_not_end_is_named_as_such(stack: ExitStack) -> None:
    state = a_state()
    state.fail(100, FAULTS["throttled"])
    with pytest.raises(ThrottledError):
        a_client(stack, state).send(a_request())


def test_loopback_checks_what_it_is_sent() -> None:
    assert loopback.checksum_headers(b"")["x_amz_Checksum"] == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
