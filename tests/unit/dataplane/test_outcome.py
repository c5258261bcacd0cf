from __future__ import annotations

import json

from holdfast.dataplane.outcome import Continue, Counts, SegmentDone, requests_of
from holdfast.repository.map import SegmentRef

REF = SegmentRef("a" * 64, "b" * 64, "c" * 64, 1_000, 100, 7, 1)


class Adapter:
    """Something that has sent requests."""

    def __init__(self, **requests: int) -> None:
        self.requests = requests


def test_counts_add_up_by_field_and_by_action() -> None:
    one = Counts(1, 2, 3, 4, 5, {"a": 1, "b": 2})
    two = Counts(10, 20, 30, 40, 50, {"b": 3, "c": 4})
    assert one + two == Counts(11, 22, 33, 44, 55, {"a": 1, "b": 5, "c": 4})
    assert Counts() + one == one


def test_outcomes_travel_as_json() -> None:
    counts = Counts(1, 2, 3, 4, 5, {"ebs:GetSnapshotBlock": 2})
    done = json.loads(json.dumps(SegmentDone(REF, True, counts).to_json()))
    assert (done["done"], done["full"], SegmentRef.from_json(done["ref"])) == (True, True, REF)
    assert Counts.from_json(done["counts"]) == counts
    told = json.loads(json.dumps(Continue(17, None, False, counts).to_json()))
    assert (told["done"], told["cursor"], told["checkpoint"], told["full"]) == (False, 17, None, False)


def test_counts_of_an_earlier_program_lack_fields_and_those_of_a_later_one_have_more() -> None:
    assert Counts.from_json({"blocks_read": 3, "blocks_admired": 9}) == Counts(blocks_read=3)


def test_requests_are_those_of_all_adapters_that_send_any() -> None:
    assert requests_of(Adapter(a=1, b=2), object(), Adapter(b=3)) == {"a": 1, "b": 5}
