from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from holdfast.aws.signing import UNSIGNED, Credentials, Signer, encode_query

PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
TOKEN_CHARACTERS = st.characters(codec="ascii", categories=("L", "N"), include_characters="+/=")
NAMES = st.from_regex(r"\Ax-amz-[a-z][a-z0-9-]{0,20}\Z").filter(
    lambda name: name not in ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
)
VALUES = st.text(PRINTABLE, max_size=40)
MOMENTS = st.integers(1_420_070_400, 2_145_830_400).map(lambda second: datetime.fromtimestamp(second, UTC))
CREDENTIALS = st.builds(
    Credentials,
    st.from_regex(r"\AA[A-Z0-9]{15,19}\Z"),
    st.text(TOKEN_CHARACTERS, min_size=1, max_size=40),
    st.text(TOKEN_CHARACTERS, max_size=80),
)


def botocore_headers(
    service: str,
    region: str,
    credentials: Credentials,
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    moment: datetime,
    *,
    unsigned: bool,
) -> dict[str, str]:
    request = AWSRequest(method, url, headers=headers, data=body)
    request.context["payload_signing_enabled"] = not unsigned
    if unsigned:
        request.context["has_streaming_input"] = True
        request.context["checksum"] = {"request_algorithm": {"in": "header", "name": "x-amz-checksum-crc32"}}
    boto = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(boto, service, region)
    with patch.object(botocore.auth, "get_current_datetime", lambda: moment):
        auth.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    service=st.sampled_from(["ebs", "s3", "kms"]),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1", "cn-north-1"]),
    credentials=CREDENTIALS,
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    segments=st.lists(st.text(PRINTABLE, min_size=1, max_size=20), max_size=4),
    query=st.dictionaries(st.text(PRINTABLE, min_size=1, max_size=12), st.text(max_size=40), max_size=4),
    extra=st.just({}) | st.dictionaries(NAMES, VALUES, max_size=4),
    body=st.just(b"") | st.binary(max_size=64),
    unsigned=st.booleans(),
    moment=MOMENTS,
)
def test_headers_equal_those_of_botocore(
    service: str,
    region: str,
    credentials: Credentials,
    method: str,
    segments: list[str],
    query: dict[str, str],
    extra: dict[str, str],
    body: bytes,
    unsigned: bool,
    moment: datetime,
) -> None:
    # "." and ".." never occur in our paths, and botocore would resolve them for services other than S3.
    segments = [segment for segment in segments if segment.strip("./")]
    path = "/" + "/".join(quote(segment, safe="-_.~") for segment in segments)
    encoded = encode_query(query)
    headers = {"host": "service.example.com", **extra}
    if unsigned:
        headers["x-amz-checksum-crc32"] = "AAAAAA=="
    expected = botocore_headers(
        service,
        region,
        credentials,
        method,
        f"https://service.example.com{path}" + (f"?{encoded}" if encoded else ""),
        headers,
        body,
        moment,
        unsigned=unsigned,
    )
    signer = Signer(service, region, clock=moment.timestamp)
    payload_hash = UNSIGNED if unsigned else hashlib.sha256(body).hexdigest()
    added = signer.sign(credentials, method, path, encoded, headers, payload_hash)
    assert {**headers, **added} == expected
    if method == "GET" and not unsigned and not body and not extra:
        lines = signer.sign_plain(credentials, method, path, encoded, "service.example.com")
        assert dict(line.split(": ", 1) for line in lines.splitlines()) == expected


def test_a_key_belongs_to_one_day_and_one_pair_of_credentials() -> None:
    moments = iter([0.0, 0.0, 86_399.0, 86_400.0])
    signer = Signer("ebs", "eu-central-1", clock=lambda: next(moments))
    one, two = Credentials("AKIDONE", "secret one"), Credentials("AKIDTWO", "secret two")
    signed = [
        signer.sign(who, "GET", "/", "", {"host": "h"})["authorization"] for who in (one, two, one, one)
    ]
    plain = Signer("ebs", "eu-central-1", clock=iter([0.0, 0.0, 86_399.0, 86_400.0]).__next__)
    for who, authorization in zip((one, two, one, one), signed, strict=True):
        assert plain.sign_plain(who, "GET", "/", "", "h").endswith(f"authorization: {authorization}\r\n")
    fresh = [
        Signer("ebs", "eu-central-1", clock=lambda at=at: at).sign(who, "GET", "/", "", {"host": "h"})
        for who, at in ((one, 0.0), (two, 0.0), (one, 86_399.0), (one, 86_400.0))
    ]
    assert signed == [headers["authorization"] for headers in fresh]


def test_credentials_do_not_show_their_secret() -> None:
    assert "hidden" not in repr(Credentials("AKID", "hidden", "hidden too"))


@pytest.mark.parametrize(
    "parameters, encoded",
    [
        ({"blockToken": "AAAB+/==", "a": 1}, "a=1&blockToken=AAAB%2B%2F%3D%3D"),
        ({"prefix": "a b~c/é", "empty": ""}, "empty=&prefix=a%20b~c%2F%C3%A9"),
        ({}, ""),
    ],
)
def test_queries_are_encoded_as_they_are_signed(parameters: dict[str, str | int], encoded: str) -> None:
    assert encode_query(parameters) == encoded
