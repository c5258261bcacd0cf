"""However often a backup is interrupted or crashes, it ends as one that was left in peace."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import Deadline, no_deadline
from holdfast.dataplane.outcome import Continue, Counts, SegmentDone
from holdfast.errors import UnavailableError
from holdfast.model.blocks import Segment
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import FakeKms, FixedClock, SeededIds
from tests.snapshots import Blocks, MemorySnapshots, block

FIRST = 32_768
SEGMENT = Segment(1, FIRST, FIRST + 300)
INDEXES = st.integers(SEGMENT.start, SEGMENT.end - 1)
SNAPSHOTS = st.dictionaries(INDEXES, st.integers(0, 3).map(block), max_size=12)
_ids = count()


def attempt(task: SegmentTask, snapshots: MemorySnapshots, repository: Repository, patience: int | None):  # type: ignore[no-untyped-def]
    left = iter([100.0] * (patience or 0))
    deadline = no_deadline() if patience is None else Deadline(lambda: next(left, 1.0), margin=60.0)
    return back_up_segment(
        task,
        reader=snapshots,
        repository=repository,
        ids=SeededIds(f"attempt {next(_ids)}"),
        deadline=deadline,
        connections=1 if patience is None or patience % 2 else 3,
        pack_bytes=1 << 20,
    )


def to_the_end(
    task: SegmentTask, snapshots: MemorySnapshots, repository: Repository, patience: list[int]
) -> SegmentDone:
    """Invocations with these patiences, then one without a deadline; a crash is followed by a retry."""
    waits: list[int | None] = [*patience, None]
    while True:
        try:
            outcome = attempt(task, snapshots, repository, waits.pop(0) if waits else None)
        except UnavailableError:
            continue
        if isinstance(outcome, SegmentDone):
            return outcome
        assert isinstance(outcome, Continue)
        assert task.cursor <= outcome.cursor <= SEGMENT.end
        task = replace(task, cursor=outcome.cursor, checkpoint=_sent(outcome), full=outcome.full)


def _sent(outcome: Continue) -> SegmentRef | None:
    """The checkpoint after its way through Step Functions."""
    told = outcome.to_json()
    assert Counts.from_json(told["counts"]) == outcome.counts
    return SegmentRef.from_json(told["checkpoint"]) if told["checkpoint"] else None


def content(repository: Repository, ref: SegmentRef | None) -> Blocks:
    if ref is None:
        return {}
    blocks = repository.load_map(ref, SEGMENT.start).blocks(SEGMENT.start, SEGMENT.end)
    return dict(repository.read_blocks(blocks, ref.epoch))


@settings(max_examples=40)
@given(
    chain=st.lists(SNAPSHOTS, min_size=1, max_size=3),
    tracking=st.lists(st.booleans(), min_size=3, max_size=3),
    patience=st.lists(st.integers(0, 5), max_size=5),
    crashes=st.sets(st.integers(0, 20), max_size=3),
    encrypted=st.booleans(),
)
def test_an_interrupted_chain_of_backups_ends_as_an_undisturbed_one(
    chain: list[Blocks],
    tracking: list[bool],
    patience: list[int],
    crashes: set[int],
    encrypted: bool,
) -> None:
    snapshots = MemorySnapshots({f"snap-{number}": blocks for number, blocks in enumerate(chain)})
    reads = count()

    def crash(snapshot_id: str, index: int) -> None:
        if next(reads) in crashes:
            raise UnavailableError("The worker is gone.")

    wrapper = FakeKms() if encrypted else None
    disturbed = Repository.create(MemoryStore(), SeededIds("a"), FixedClock(), key_wrapper=wrapper)
    peaceful = Repository.create(MemoryStore(), SeededIds("b"), FixedClock(), key_wrapper=wrapper)
    refs: list[tuple[SegmentRef | None, SegmentRef | None]] = [(None, None)]
    for number, blocks in enumerate(chain):
        base = f"snap-{number - 1}" if number and tracking[number] else None
        task = SegmentTask(f"snap-{number}", base, 1 << 40, SEGMENT)
        snapshots.on_read = crash
        one = to_the_end(replace(task, previous=refs[-1][0]), snapshots, disturbed, patience)
        snapshots.on_read = lambda snapshot_id, index: None
        other = to_the_end(replace(task, previous=refs[-1][1]), snapshots, peaceful, [])
        expected = {index: data for index, data in blocks.items() if any(data)}
        assert content(disturbed, one.ref) == content(peaceful, other.ref) == expected
        assert (one.ref and one.ref.root) == (other.ref and other.ref.root)
        refs.append((one.ref, other.ref))
