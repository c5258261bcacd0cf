"""Buckets of the simulator: objects are files, versions follow, hostile keys stay inside, S3 refuses."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, FlexibleChecksumError
from botocore.handlers import validate_bucket_name
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.checksums import checksum
from simulator.s3 import key_at, plain_place
from simulator.simulator import Simulator
from tests.worlds import BACKUP, client, loopback, opened

BUCKET = "backups"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with opened(tmp_path_factory.mktemp("aws")) as simulator:
        s3 = client(simulator, "s3", BACKUP, "us-east-1")
        s3.create_bucket(Bucket=BUCKET)
        s3.create_bucket(Bucket="versioned")
        versioning = {"Bucket": "versioned", "VersioningConfiguration": {"Status": "Enabled"}}
        s3.put_bucket_versioning(**versioning)
        s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        yield simulator


@pytest.fixture(params=[client, loopback], ids=["in process", "loopback"])
def s3(aws: Simulator, request: pytest.FixtureRequest) -> Any:
    return request.param(aws, "s3", BACKUP, "us-east-1")


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def read(s3: Any, key: str, bucket: str = BUCKET, **options: Any) -> bytes:
    content: bytes = s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()
    return content


def test_an_object_is_a_file_named_like_its_key(aws: Simulator, s3: Any):
    s3.put_object(Bucket=BUCKET, Key="packs/ab/cdef", Body=b"content")
    path = aws.directory / "buckets" / BUCKET / "packs" / "ab" / "cdef"
    assert path.read_bytes() == b"content"
    assert aws.s3.object_path(BUCKET, "packs/ab/cdef") == path


def test_what_a_person_does_to_the_file_is_what_s3_answers(aws: Simulator, s3: Any):
    s3.put_object(Bucket=BUCKET, Key="damaged", Body=b"content")
    path = aws.s3.object_path(BUCKET, "damaged")
    path.write_bytes(b"c0nt")
    assert read(s3, "damaged", Range="bytes=1-3") == b"0nt"
    with pytest.raises(FlexibleChecksumError):
        read(s3, "damaged")
    assert s3.head_object(Bucket=BUCKET, Key="damaged")["ContentLength"] == 4
    path.unlink()
    with pytest.raises(ClientError) as error:
        read(s3, "damaged")
    assert code(error) == "NoSuchKey"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="damaged")
    assert listed["KeyCount"] == 0


@pytest.mark.parametrize("span", ["bytes=0-0", "bytes=3-", "bytes=2-5", "bytes=-3", "bytes=4-1000"])
def test_ranges_of_an_object_are_read(s3: Any, span: str):
    content = bytes(range(100))
    s3.put_object(Bucket=BUCKET, Key="ranged", Body=content)
    first, last = span.removeprefix("bytes=").split("-")
    expected = content[int(first) : int(last or 99) + 1] if first else content[-int(last) :]
    assert read(s3, "ranged", Range=span) == expected


def test_a_range_behind_the_end_is_refused(s3: Any):
    s3.put_object(Bucket=BUCKET, Key="short", Body=b"abc")
    with pytest.raises(ClientError) as error:
        read(s3, "short", Range="bytes=3-9")
    assert code(error) == "InvalidRange"


def test_deleting_an_object_deletes_its_file_and_empty_folders(aws: Simulator, s3: Any):
    s3.put_object(Bucket=BUCKET, Key="deep/er/object", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="deep/er/object")
    assert not (aws.directory / "buckets" / BUCKET / "deep").exists()


hostile = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\"), min_size=1, max_size=40
)


@settings(max_examples=200)
@given(key=hostile)
@example(key="../../escape")
@example(key="/absolute")
@example(key="a/../../../b")
@example(key="a//b/./c/")
@example(key="%2e%2e/%")
def test_no_key_leads_out_of_its_bucket_and_each_has_its_own_place(key: str):
    place = plain_place("bucket", key)
    parts = place.split("/")
    assert parts[0] == "bucket"
    assert not {"", ".", ".."} & set(parts)
    assert key_at(place.removeprefix("bucket/")) == key


@pytest.mark.parametrize(
    "key", ["../../escape", "/absolute", "a//b", "dir/", "%2e%2e/x", "ü/ß €", "a" * 1000]
)
def test_odd_keys_are_stored_and_found(aws: Simulator, s3: Any, key: str):
    s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    assert read(s3, key) == key.encode()
    assert aws.s3.object_path(BUCKET, key).resolve().is_relative_to(aws.directory / "buckets")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert key in keys


@pytest.mark.parametrize("name", [".incoming", ".backups.meta", "a..b", "Upper", "a/b", "ab"])
def test_impossible_bucket_names_are_refused(aws: Simulator, name: str):
    without_checks = Config(parameter_validation=False, s3={"addressing_style": "path"})
    s3 = aws.session(BACKUP, "us-east-1").client("s3", config=without_checks)
    s3.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    before = sorted(path.name for path in (aws.directory / "buckets").iterdir())
    with pytest.raises(ClientError):
        s3.create_bucket(Bucket=name)
    assert sorted(path.name for path in (aws.directory / "buckets").iterdir()) == before


def test_a_key_may_be_the_folder_of_another(s3: Any):
    s3.put_object(Bucket=BUCKET, Key="both/inside", Body=b"inside")
    s3.put_object(Bucket=BUCKET, Key="both", Body=b"outside")
    s3.put_object(Bucket=BUCKET, Key="file", Body=b"file")
    s3.put_object(Bucket=BUCKET, Key="file/inside", Body=b"within")
    contents = [read(s3, key) for key in ("both/inside", "both", "file", "file/inside")]
    assert contents == [b"inside", b"outside", b"file", b"within"]


def test_versions_keep_their_content_and_come_back_when_the_marker_goes(aws: Simulator, s3: Any):
    first = s3.put_object(Bucket="versioned", Key="v", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket="versioned", Key="v", Body=b"2")["VersionId"]
    marker = s3.delete_object(Bucket="versioned", Key="v")["VersionId"]
    with pytest.raises(ClientError):
        read(s3, "v", "versioned")
    assert not aws.s3.object_path("versioned", "v").exists()
    versions = [read(s3, "v", "versioned", VersionId=version) for version in (first, second)]
    assert versions == [b"1", b"2"]
    s3.delete_object(Bucket="versioned", Key="v", VersionId=marker)
    assert aws.s3.object_path("versioned", "v").read_bytes() == b"2"
    s3.delete_object(Bucket="versioned", Key="v", VersionId=second)
    assert (read(s3, "v", "versioned"), aws.s3.object_path("versioned", "v").read_bytes()) == (b"1", b"1")
    listed = s3.list_object_versions(Bucket="versioned", Prefix="v")
    assert [version["VersionId"] for version in listed["Versions"]] == [first]
    s3.delete_object(Bucket="versioned", Key="v", VersionId=first)


def test_a_compliance_lock_is_never_loosened_and_protects_its_version(aws: Simulator, s3: Any):
    until = aws.clock.now() + timedelta(days=10)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    version = s3.put_object(Bucket="locked", Key="held", Body=b"x", **lock)["VersionId"]
    target = {"Bucket": "locked", "Key": "held", "VersionId": version}
    with pytest.raises(ClientError) as error:
        s3.delete_object(**target)
    assert code(error) == "AccessDenied"
    for retention in (
        {"Mode": "COMPLIANCE", "RetainUntilDate": until - timedelta(days=1)},
        {"Mode": "GOVERNANCE", "RetainUntilDate": until},
    ):
        with pytest.raises(ClientError) as error:
            s3.put_object_retention(**target, Retention=retention, BypassGovernanceRetention=True)
        assert code(error) == "AccessDenied"
    longer = {"Mode": "COMPLIANCE", "RetainUntilDate": until + timedelta(days=1)}
    s3.put_object_retention(**target, Retention=longer)
    aws.clock.advance(12 * 86_400)
    s3.delete_object(**target)


def test_an_object_is_created_once_and_replaced_only_with_its_etag(s3: Any):
    etag = s3.put_object(Bucket=BUCKET, Key=f"once-{id(s3)}", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key=f"once-{id(s3)}", Body=b"2", IfNoneMatch="*")
    assert code(error) == "PreconditionFailed"
    s3.put_object(Bucket=BUCKET, Key=f"once-{id(s3)}", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key=f"once-{id(s3)}", Body=b"4", IfMatch=etag)
    assert code(error) == "PreconditionFailed"
    assert read(s3, f"once-{id(s3)}") == b"3"


def test_published_check_values_of_the_checksums():
    expected = {
        "CRC32": "cbf43926",
        "CRC32C": "e3069283",
        "CRC64NVME": "ae8b14860a799888",
        "SHA1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        "SHA256": hashlib.sha256(b"123456789").hexdigest(),
    }
    for algorithm, value in expected.items():
        assert base64.b64decode(checksum(b"123456789", algorithm)).hex() == value


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "CRC32C", "SHA256", "SHA1"])
def test_a_wrong_checksum_is_a_bad_digest_and_stores_nothing(s3: Any, algorithm: str):
    body, key = b"twelve bytes", f"sums/{algorithm}"
    right, wrong = checksum(body, algorithm), checksum(b"other bytes!", algorithm)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, **{f"Checksum{algorithm}": wrong})
    assert code(error) == "BadDigest"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=BUCKET, Key=key)
    assert code(error) == "NoSuchKey"
    s3.put_object(Bucket=BUCKET, Key=key, Body=body, **{f"Checksum{algorithm}": right})
    answer = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert answer[f"Checksum{algorithm}"] == right
    s3.delete_object(Bucket=BUCKET, Key=key)


def test_a_wrong_md5_is_a_bad_digest(s3: Any):
    wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="md5", Body=b"content", ContentMD5=wrong)
    assert code(error) == "BadDigest"


def test_a_checksum_in_a_trailer_is_checked_and_kept(s3: Any, tmp_path: Path):
    (tmp_path / "body").write_bytes(b"streamed")
    with (tmp_path / "body").open("rb") as body:
        s3.put_object(Bucket=BUCKET, Key="streamed", Body=body)
    expected = base64.b64encode(zlib.crc32(b"streamed").to_bytes(4, "big")).decode()
    assert s3.head_object(Bucket=BUCKET, Key="streamed", ChecksumMode="ENABLED")["ChecksumCRC32"] == expected
    assert read(s3, "streamed") == b"streamed"


def test_an_upload_in_parts_becomes_one_file_and_leaves_nothing_behind(aws: Simulator, s3: Any):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    contents = [b"a" * (5 << 20), b"b" * 10]
    parts = []
    for number, content in enumerate(contents, 1):
        put = s3.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=content)
        parts.append({"PartNumber": number, "ETag": put["ETag"]})
    s3.complete_multipart_upload(
        Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert read(s3, "parts") == b"".join(contents)
    assert list((aws.directory / "buckets" / ".incoming").iterdir()) == []
