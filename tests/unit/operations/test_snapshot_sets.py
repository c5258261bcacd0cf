"""Which snapshots are a restore point, by their tags alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model import tags as names
from holdfast.operations.snapshot_sets import Found, copied, point_of, promised_count, sort_out
from holdfast.ports import VolumeSnapshot
from tests.session_world import ACCOUNT, INSTALLATION, REGION, START

TAGS = {
    names.INSTALLATION: INSTALLATION,
    names.POINT: "20261122T070000Z-1",
    names.INSTANCE: "i-0123456789abcdef0",
    names.POLICY: "daily",
    names.KIND: "snapshot",
    names.FLAGS: "DW",
    names.VOLUMES: "2",
    "Name": "web server 2026-11-22 07:00Z",
}


def a_snapshot(number: int = 1, **changes: Any) -> VolumeSnapshot:
    base = VolumeSnapshot(f"snap-{number}", f"vol-{number}", "completed", START, 1 << 30, TAGS)
    return base._replace(**changes)


def a_set(**changes: Any) -> list[VolumeSnapshot]:
    return [a_snapshot(1, **changes), a_snapshot(2)]


def read(snapshots: list[VolumeSnapshot]) -> Any:
    return point_of(snapshots, installation=INSTALLATION, account=ACCOUNT, region=REGION)


def test_a_whole_set_is_a_restore_point():
    point = read(a_set())
    assert (point.point_id, point.instance_id, point.instance_name) == (
        TAGS[names.POINT],
        TAGS[names.INSTANCE],
        "web server",
    )
    assert point.snapshot_ids == {"vol-1": "snap-1", "vol-2": "snap-2"}
    assert (point.manual, point.size_bytes, "".join(sorted(point.flags))) == (False, 2 << 30, "DW")


@pytest.mark.parametrize(
    "snapshots",
    [
        pytest.param([], id="nothing"),
        pytest.param(a_set()[:1], id="a part"),
        pytest.param([*a_set(), a_snapshot(3)], id="one too many"),
        pytest.param([a_snapshot(1), a_snapshot(2, volume_id="vol-1")], id="one volume twice"),
        pytest.param(a_set(state="pending"), id="one pending"),
        pytest.param(a_set(state="error"), id="one failed"),
        pytest.param(a_set(tags={**TAGS, names.INSTALLATION: "another"}), id="of another installation"),
        pytest.param(a_set(tags={**TAGS, names.INSTANCE: "i-1"}), id="of two instances"),
        pytest.param(a_set(tags={**TAGS, names.POINT: "other"}), id="of two moments"),
        pytest.param(a_set(tags={**TAGS, names.SET: "later"}), id="of two calls"),
        pytest.param(a_set(started_at=START + timedelta(minutes=9)), id="of two times without a mark"),
        pytest.param(a_set(tags={}), id="without tags"),
        pytest.param(
            [a_snapshot(n, tags={**TAGS, names.VOLUMES: "many"}) for n in (1, 2)], id="of unknown size"
        ),
        pytest.param([a_snapshot(n, tags={**TAGS, names.POINT: ""}) for n in (1, 2)], id="without a name"),
    ],
)
def test_anything_else_is_none(snapshots: list[VolumeSnapshot]):
    assert read(snapshots) is None


def test_a_set_of_another_installation_is_invisible():
    foreign = {**TAGS, names.INSTALLATION: "another"}
    assert read([a_snapshot(n, tags=foreign) for n in (1, 2)]) is None


def test_of_two_sets_the_first_whole_one_is_taken_and_the_other_is_surplus():
    later = [a_snapshot(n, snapshot_id=f"later-{n}", started_at=START + timedelta(minutes=1)) for n in (1, 2)]
    found = sort_out([*later, *a_set()])
    assert {one.snapshot_id for one in found.usable} == {"snap-1", "snap-2"}
    assert {one.snapshot_id for one in found.broken} == {"later-1", "later-2"}
    assert found.missing == 0


def test_snapshots_of_two_calls_are_never_one_set():
    """Half of a set was left behind and the second one failed in the other half: neither is whole."""
    first = [a_snapshot(1, tags={**TAGS, names.SET: "a"})]
    later = START + timedelta(minutes=30)
    second = [
        a_snapshot(1, snapshot_id="b-1", started_at=later, tags={**TAGS, names.SET: "b"}, state="error"),
        a_snapshot(2, snapshot_id="b-2", started_at=later, tags={**TAGS, names.SET: "b"}),
    ]
    assert sort_out(second) == Found(broken=tuple(second))
    found = sort_out([*second, *first])
    assert (found.usable, found.broken, found.missing) == (tuple(first), tuple(second), 1)


def test_one_volume_twice_in_a_call_is_no_set():
    assert sort_out([*a_set(), a_snapshot(3, volume_id="vol-1")]).usable == ()


def test_a_set_with_a_failed_snapshot_is_broken_as_a_whole():
    found = sort_out(a_set(state="error"))
    assert (found.usable, len(found.broken)) == ((), 2)


def test_a_set_that_is_not_all_there_misses_the_rest():
    found = sort_out(a_set()[:1])
    assert (len(found.usable), found.missing, found.broken) == (1, 1, ())


def test_nothing_is_nothing():
    assert sort_out([]) == Found()


@given(st.text(max_size=8))
def test_a_count_that_is_no_count_promises_nothing(text: str):
    count = promised_count(a_snapshot(tags={names.VOLUMES: text}))
    assert count == (int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0)


def test_neither_our_tags_nor_those_of_aws_are_copied():
    assert copied({"data": "x", "aws:backup:source": "y", names.BASE: "z"}) == {"data": "x"}
