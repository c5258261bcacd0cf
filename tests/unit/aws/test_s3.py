from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from holdfast.aws.s3 import S3ObjectStore, s3_url
from holdfast.errors import (
    AccessDeniedError,
    ChecksumError,
    ConflictError,
    DamagedError,
    NotFoundError,
    PermanentError,
    UnavailableError,
)
from tests.aws_builders import close_clients, make_client
from tests.loopback import STAMP, State, lost_answer, raw, refusal, serving


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def url(state: State) -> Iterator[str]:
    with serving(state) as url:
        yield url
        close_clients()


@pytest.fixture
def store(url: str) -> S3ObjectStore:
    return S3ObjectStore(make_client(url, "s3"), "bucket", "holdfast", root="/bucket/")


def head(*lines: str) -> bytes:
    return ("\r\n".join(("HTTP/1.1 200 OK", *lines)) + "\r\n\r\n").encode()


def test_objects_lie_under_the_prefix(state: State, store: S3ObjectStore) -> None:
    store.put_new("packs/ab/cd", b"content", storage_class="DEEP_ARCHIVE")
    assert state.objects["/bucket/holdfast/packs/ab/cd"][0] == b"content"
    stat = store.stat("packs/ab/cd")
    assert (stat.key, stat.size, stat.storage_class) == ("packs/ab/cd", 7, "DEEP_ARCHIVE")
    assert stat.modified_at == datetime(2026, 11, 22, 7, tzinfo=UTC)
    assert list(store.list("packs/")) == [stat]


def test_a_put_whose_answer_was_lost_is_recognized_as_done(state: State, store: S3ObjectStore) -> None:
    state.fail(1, lost_answer, on="PUT")
    store.put_new("key", b"content")
    assert state.log == ["PUT /bucket/holdfast/key"] * 2 + ["HEAD /bucket/holdfast/key"]


def test_a_replacement_whose_answer_was_lost_is_recognized_as_done(
    state: State, store: S3ObjectStore
) -> None:
    store.put_new("key", b"one")
    state.fail(1, lost_answer, on="PUT")
    store.replace("key", b"two", etag=store.stat("key").etag)
    assert store.get("key") == b"two"


def test_a_put_after_a_lost_answer_still_loses_to_other_content(state: State, store: S3ObjectStore) -> None:
    store.put_new("key", b"theirs.")
    state.fail(1, lost_answer, on="PUT")
    with pytest.raises(ConflictError, match="exists already"):
        store.put_new("key", b"content")


def test_a_conflict_that_vanished_is_a_conflict(state: State, store: S3ObjectStore) -> None:
    state.fail(1, refusal(503, "SlowDown"), on="PUT")
    state.fail(1, refusal(412, "PreconditionFailed"), on="PUT")
    with pytest.raises(ConflictError):
        store.put_new("key", b"content")


def test_concurrent_conditional_writes_are_tried_again(state: State, store: S3ObjectStore) -> None:
    state.fail(2, refusal(409, "ConditionalRequestConflict"), on="PUT")
    store.put_new("key", b"content")
    assert store.get("key") == b"content"
    assert store.requests == {"s3:PutObject": 3, "s3:GetObject": 1}


def test_a_large_object_that_is_refused_while_it_is_sent_is_tried_again(
    state: State, store: S3ObjectStore
) -> None:
    content = bytes(8 << 20)
    state.fail(2, refusal(503, "SlowDown"), on="PUT")
    store.put_new("key", content)
    assert state.objects["/bucket/holdfast/key"][0] == content


@pytest.mark.parametrize(
    "fault, error",
    [
        (refusal(403, "AccessDenied"), AccessDeniedError),
        (refusal(404, "NoSuchBucket"), NotFoundError),
        (refusal(400, "BadDigest"), ChecksumError),
        (refusal(403, "InvalidObjectState"), PermanentError),
        (refusal(501, "NotImplemented"), UnavailableError),
    ],
)
def test_refusals_name_the_object(
    state: State, store: S3ObjectStore, fault: object, error: type[PermanentError]
) -> None:
    state.fail(50, fault)  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        store.get("maps/key")
    assert "s3://bucket/holdfast/maps/key" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        head("Content-Length: 3") + b"abc",  # 200 instead of 206
        b"HTTP/1.1 206 Partial\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/2\r\n\r\nab",
        b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\nContent-Range: bytes 5-7/9\r\n\r\nabc",
    ],
)
def test_a_range_that_is_not_the_one_asked_for_is_damage(
    state: State, store: S3ObjectStore, answer: bytes
) -> None:
    state.fail(1, raw(answer))
    with pytest.raises(DamagedError):
        store.get_range("key", 0, 3)


def test_an_empty_range_of_an_object_that_is_missing_is_not_found(store: S3ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        store.get_range("key", 0, 0)
    store.put_new("key", b"x")
    assert store.get_range("key", 0, 0) == b""


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 3",),
        ("Content-Length: 3", "Last-Modified: yesterday"),
        (f"Last-Modified: {STAMP}", "Transfer-Encoding: chunked"),
    ],
)
def test_a_head_without_size_or_instant_is_unavailable(
    state: State, store: S3ObjectStore, lines: tuple[str, ...]
) -> None:
    state.fail(1, raw(head(*lines)))
    with pytest.raises(UnavailableError):
        store.stat("key")


def test_listings_come_in_pages_and_skip_what_is_not_ours(state: State, store: S3ObjectStore) -> None:
    state.page_size = 3
    names = [f"points/i-1/{number:02}" for number in range(10)] + ["points/i-1/with & <odd> +name%"]
    for name in names:
        store.put_new(name, b"x")
    state.objects["/bucket/other"] = (b"y", '"e"')
    state.tags["/bucket/other"] = {"class": "STANDARD"}
    assert [stat.key for stat in store.list("points/")] == names
    assert [stat.key for stat in store.list("")] == names


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy</html>",
        (
            b"<ListBucketResult><Contents><Key>holdfast/a</Key><Size>1</Size>"
            b"<LastModified>never</LastModified></Contents></ListBucketResult>"
        ),
    ],
)
def test_a_listing_that_is_none_is_unavailable(state: State, store: S3ObjectStore, body: bytes) -> None:
    state.fail(1, raw(head(f"Content-Length: {len(body)}") + body))
    with pytest.raises(UnavailableError):
        list(store.list(""))


def test_entries_that_cannot_be_ours_are_left_out(state: State, store: S3ObjectStore) -> None:
    body = (
        b"<ListBucketResult><Contents><Key>elsewhere/a</Key><Size>1</Size></Contents>"
        b"<Contents><Key>holdfast/b</Key><Size>minus</Size></Contents></ListBucketResult>"
    )
    state.fail(1, raw(head(f"Content-Length: {len(body)}") + body))
    assert list(store.list("")) == []


def test_a_version_is_deleted_by_its_id(state: State, store: S3ObjectStore) -> None:
    store.put_new("key", b"x")
    store.delete_version("key", "3HL4kqtJvjVBH40Nrjfkd")
    store.delete("key")
    assert state.objects == {}
    assert store.requests["s3:DeleteObjectVersion"] == 1


def test_the_owner_of_the_bucket_is_checked_by_s3(url: str, state: State) -> None:
    store = S3ObjectStore(make_client(url, "s3"), "bucket", "", root="/bucket/", owner="111122223333")
    owners: list[str | None] = []
    state.fail(1, lambda handler: bool(owners.append(handler.headers["x-amz-expected-bucket-owner"])))
    store.put_new("key", b"x")
    assert owners == ["111122223333"]


@pytest.mark.parametrize(
    "bucket, region, url",
    [
        ("backups", "eu-central-1", ("https://backups.s3.eu-central-1.amazonaws.com", "/")),
        ("my.backups", "eu-central-1", ("https://s3.eu-central-1.amazonaws.com", "/my.backups/")),
        ("backups", "cn-north-1", ("https://backups.s3.cn-north-1.amazonaws.com.cn", "/")),
    ],
)
def test_buckets_are_addressed_so_that_their_certificate_matches(
    bucket: str, region: str, url: tuple[str, str]
) -> None:
    assert s3_url(bucket, region) == url
