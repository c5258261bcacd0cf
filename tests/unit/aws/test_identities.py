from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from holdfast.aws.kms import KmsKeyWrapper
from holdfast.aws.secrets import read_password
from holdfast.aws.sts import RENEW_AFTER, AssumedRole, SessionCredentials
from holdfast.errors import AccessDeniedError, ConfigurationError, KeyUnavailableError

REGION = "eu-central-1"
ROLE = "arn:aws:iam::111122223333:role/HoldfastBackup"
EXPIRY = datetime(2027, 1, 1, tzinfo=UTC)


class FakeSts:
    """Hands out numbered credentials and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refusal: Exception | None = None

    def assume_role(self, **wanted: Any) -> dict[str, Any]:
        if self.refusal:
            raise self.refusal
        self.asked.append(wanted)
        number = len(self.asked)
        return {
            "Credentials": {
                "AccessKeyId": f"ASIA{number}",
                "SecretAccessKey": f"secret {number}",
                "SessionToken": f"token {number}",
                "Expiration": EXPIRY,
            }
        }


class FakeSession:
    """As much of a boto3 session as assuming a role needs."""

    region_name = REGION

    def __init__(self, sts: FakeSts) -> None:
        self._sts = sts

    def client(self, service: str, **options: Any) -> FakeSts:
        assert (service, options) == ("sts", {"region_name": REGION})
        return self._sts


def a_role(sts: FakeSts, now: list[float], external_id: str = "") -> AssumedRole:
    session: Any = FakeSession(sts)
    return AssumedRole(lambda: session, ROLE, external_id, clock=lambda: now[0])


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name=REGION)


def test_a_role_is_assumed_once_and_renewed_after_fifty_minutes() -> None:
    sts, now = FakeSts(), [0.0]
    role = a_role(sts, now, external_id="secret handshake")
    assert role.current() is role.current()
    assert role.current().access_key == "ASIA1"
    now[0] = RENEW_AFTER
    assert role.current().access_key == "ASIA2"
    assert sts.asked[0] == {
        "RoleArn": ROLE,
        "RoleSessionName": "holdfast",
        "DurationSeconds": 3600,
        "ExternalId": "secret handshake",
    }


def test_of_many_who_find_the_token_expired_one_renews_it() -> None:
    sts = FakeSts()
    role = a_role(sts, [0.0])
    stale = role.current()
    role.renew(stale)
    role.renew(stale)
    assert role.current().access_key == "ASIA2"
    assert len(sts.asked) == 2


def test_no_external_id_is_sent_when_there_is_none() -> None:
    sts = FakeSts()
    a_role(sts, [0.0]).current()
    assert "ExternalId" not in sts.asked[0]


def test_a_role_that_cannot_be_assumed_is_named() -> None:
    sts = FakeSts()
    message = (
        "User: arn:aws:sts::999988887777:assumed-role/hub/x is not authorized to perform: sts:AssumeRole "
        f"on resource: {ROLE}"
    )
    sts.refusal = ClientError({"Error": {"Code": "AccessDenied", "Message": message}}, "AssumeRole")
    with pytest.raises(AccessDeniedError) as caught:
        a_role(sts, [0.0]).current()
    assert ROLE in caught.value.message
    assert "sts:AssumeRole" in caught.value.message


def test_boto3_works_under_the_same_role_and_asks_for_it_when_needed() -> None:
    sts = FakeSts()
    role = a_role(sts, [0.0])
    under = role.session(REGION)
    assert under.region_name == REGION
    assert sts.asked == []
    assert under.get_credentials().get_frozen_credentials().access_key == "ASIA1"
    assert role.current().access_key == "ASIA1"


def test_a_role_assumed_through_sts_gives_working_credentials(session: boto3.Session) -> None:
    role = AssumedRole(lambda: session, ROLE)
    arn = role.session(REGION).client("sts").get_caller_identity()["Arn"]
    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/HoldfastBackup/")


def test_the_credentials_of_a_session_are_asked_for_once_a_minute() -> None:
    session, now, asked = boto3.Session("AKID1", "secret", "token"), [0.0], []

    def current() -> boto3.Session:
        asked.append(now[0])
        return session

    source = SessionCredentials(current, monotonic=lambda: now[0])
    first = source.current()
    assert (first.access_key, first.token) == ("AKID1", "token")
    assert source.current() is first
    now[0] = 61.0
    assert source.current() is first
    assert asked == [0.0, 61.0]
    session = boto3.Session("AKID2", "secret", "token")
    source.renew(first)
    assert source.current().access_key == "AKID2"
    source.renew(first)
    assert len(asked) == 3


def test_a_session_without_credentials_is_a_matter_of_configuration() -> None:
    class Nobody:
        def get_credentials(self) -> None:
            return None

    nobody: Any = Nobody()
    with pytest.raises(ConfigurationError, match="no AWS credentials"):
        SessionCredentials(lambda: nobody).current()


# KMS


def test_a_key_wrapped_by_kms_comes_back_for_the_same_repository_only(session: boto3.Session) -> None:
    arn = session.client("kms").create_key()["KeyMetadata"]["Arn"]
    wrapper = KmsKeyWrapper(lambda: session, arn)
    header = dict(wrapper.wrap(b"k" * 32, "repository-1"))
    assert header["kind"] == "kms"
    assert header["key_arn"] == arn
    assert json.loads(json.dumps(header)) == header
    assert wrapper.unwrap(header, "repository-1") == b"k" * 32
    assert KmsKeyWrapper(lambda: session, "").unwrap(header, "repository-1") == b"k" * 32
    with pytest.raises(KeyUnavailableError):
        wrapper.unwrap(header, "repository-2")


def test_only_the_configured_key_is_used(session: boto3.Session) -> None:
    kms = session.client("kms")
    mine, theirs = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    header = KmsKeyWrapper(lambda: session, theirs).wrap(b"k" * 32, "r")
    with pytest.raises(KeyUnavailableError) as caught:
        KmsKeyWrapper(lambda: session, mine).unwrap(header, "r")
    assert theirs in caught.value.message


@pytest.mark.parametrize("change", [{"wrapped": "%%%"}, {"wrapped": ""}, {"kind": "password"}])
def test_a_damaged_key_header_is_refused(session: boto3.Session, change: dict[str, str]) -> None:
    arn = session.client("kms").create_key()["KeyMetadata"]["Arn"]
    wrapper = KmsKeyWrapper(lambda: session, arn)
    header = {**wrapper.wrap(b"k" * 32, "r"), **change}
    with pytest.raises(KeyUnavailableError):
        wrapper.unwrap(header, "r")


def test_something_else_that_kms_wrapped_is_no_repository_key(session: boto3.Session) -> None:
    arn = session.client("kms").create_key()["KeyMetadata"]["Arn"]
    wrapper = KmsKeyWrapper(lambda: session, arn)
    with pytest.raises(KeyUnavailableError, match="not a repository key"):
        wrapper.unwrap(wrapper.wrap(b"short", "r"), "r")


@pytest.mark.parametrize("code", ["DisabledException", "AccessDeniedException", "KMSInvalidStateException"])
def test_a_key_that_cannot_be_used_is_named_with_a_remedy(code: str) -> None:
    arn = "arn:aws:kms:eu-central-1:111122223333:key/1"

    class Refusing:
        def client(self, service: str, **options: Any) -> Refusing:
            assert (service, options) == ("kms", {"region_name": REGION})
            return self

        def encrypt(self, **wanted: Any) -> None:
            raise ClientError({"Error": {"Code": code, "Message": "No."}}, "Encrypt")

    refusing: Any = Refusing()
    with pytest.raises(KeyUnavailableError) as caught:
        KmsKeyWrapper(lambda: refusing, arn).wrap(b"k" * 32, "r")
    assert arn in str(caught.value)
    assert caught.value.remedy


# Passwords


@pytest.mark.parametrize(
    "text, password",
    [
        ("correct horse", "correct horse"),
        ('{"password": "battery staple"}', "battery staple"),
        ("1234", "1234"),
    ],
)
def test_a_password_is_the_text_or_the_field_of_a_secret(
    session: boto3.Session, text: str, password: str
) -> None:
    made = session.client("secretsmanager").create_secret(Name="repository", SecretString=text)
    assert read_password(lambda: session, made["ARN"]) == password


@pytest.mark.parametrize("text", ['{"user": "x"}', '{"password": 7}', '{"password": ""}'])
def test_a_secret_without_a_password_is_named_and_not_shown(session: boto3.Session, text: str) -> None:
    made = session.client("secretsmanager").create_secret(Name="repository", SecretString=text)
    with pytest.raises(KeyUnavailableError) as caught:
        read_password(lambda: session, made["ARN"])
    assert made["ARN"] in str(caught.value)
    assert text not in str(caught.value)


def test_a_secret_that_is_gone_is_named(session: boto3.Session) -> None:
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:gone-AbCdEf"
    with pytest.raises(KeyUnavailableError) as caught:
        read_password(lambda: session, arn)
    assert arn in str(caught.value)
