"""Names derived from what they name, and the tags by which restore points are found again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from holdfast.model import ids, tags
from holdfast.model.blocks import BLOCK_SIZE, GIB, SEGMENT_BLOCKS, Segment, block_count, segments
from holdfast.model.restore_point import Flag
from holdfast.model.session import State, worst

SLOT = datetime(2026, 11, 22, 7, tzinfo=UTC)


def test_a_stamp_is_in_utc_sorts_as_time_and_reads_back():
    elsewhere = datetime(2026, 11, 22, 8, tzinfo=timezone(timedelta(hours=1)))
    assert ids.stamp(elsewhere) == ids.stamp(SLOT) == "20261122T070000Z"
    assert ids.parse_stamp("20261122T070000Z") == SLOT
    assert ids.stamp(SLOT) < ids.stamp(SLOT + timedelta(seconds=1))
    with pytest.raises(ValueError, match="does not match"):
        ids.parse_stamp("2026-11-22")


def test_a_policy_and_slot_have_one_session_whose_name_is_valid_for_an_execution():
    name = "Prod / täglich " + "x" * 200
    made = ids.session_id(name, SLOT)
    assert made == ids.session_id(name, SLOT)
    assert len(made) <= 80
    assert made.replace("-", "").isalnum()
    assert made.isascii()


def test_policies_whose_names_look_alike_have_different_sessions():
    assert ids.session_id("a b", SLOT) != ids.session_id("a-b", SLOT)


def test_every_policy_has_a_metric_of_its_own_in_printable_ascii():
    names = ["daily", "Täglich", "T-glich", "täglich\t", "日次", "週次", "a b"]
    labels = [ids.metric_label(name) for name in names]
    assert len(set(labels)) == len(names)
    assert all(label.isascii() and label.isprintable() and label for label in labels)
    assert (labels[0], labels[-1]) == ("daily", "a b")


def test_points_and_tokens_follow_from_what_they_are_for():
    session = ids.session_id("daily", SLOT)
    assert ids.point_id(session, "i-1").startswith("20261122T070000Z-")
    assert ids.point_id(session, "i-1") != ids.point_id(session, "i-2")
    assert ids.client_token("a", "bc") != ids.client_token("ab", "c")
    assert len(ids.client_token("a")) == 64


@pytest.mark.parametrize("letters", ["D", "DWMY", "MY", ""])
def test_flags_read_back_from_their_tag(letters):
    flags = frozenset(Flag(letter) for letter in letters)
    assert tags.decode_flags(tags.encode_flags(flags)) == flags
    assert tags.encode_flags(flags)


def test_unknown_letters_are_no_flags():
    assert tags.decode_flags("DxZ-") == {Flag.DAILY}


def test_an_instant_in_a_tag_is_read_and_anything_else_is_none():
    assert tags.read_instant({tags.SLOT: tags.slot_tag(SLOT)}, tags.SLOT) == SLOT
    assert tags.read_instant({tags.SLOT: "yesterday"}, tags.SLOT) is None
    assert tags.read_instant({}, tags.SLOT) is None


@pytest.mark.parametrize("size, blocks", [(0, 0), (1, 1), (BLOCK_SIZE, 1), (BLOCK_SIZE + 1, 2), (GIB, 2048)])
def test_blocks_cover_a_volume(size, blocks):
    assert block_count(size) == blocks


def test_segments_are_adjacent_and_cover_every_block():
    size = 40 * GIB
    found = list(segments(size))
    assert found[0] == Segment(0, 0, SEGMENT_BLOCKS)
    assert [each.index for each in found] == [0, 1, 2]
    assert all(earlier.end == later.start for earlier, later in pairwise(found))
    assert found[-1].end == block_count(size)
    assert list(segments(0)) == []


def test_a_session_is_as_bad_as_the_worst_of_its_states():
    assert worst() is State.SUCCESS
    assert worst(State.SUCCESS, State.WARNING) is State.WARNING
    assert worst(State.FAILED, State.STOPPED, State.WARNING) is State.FAILED
