"""Restore points in a repository: committed once, standing alone, listed, deleted in two steps, rebuilt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast.errors import ConfigurationError, ConflictError, DamagedError, NotFoundError
from holdfast.model.blocks import GIB, SEGMENT_BLOCKS
from holdfast.model.restore_point import Flag, RestorePoint
from holdfast.ports import KeyWrapper
from holdfast.repository.envelope import open_envelope, seal_envelope
from holdfast.repository.layout import ObjectKind, PointName, parse_point_key, point_name
from holdfast.repository.manifest import PointManifest, manifest_root, volume_manifest
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    INSTALLATION,
    INSTANCE,
    NOW,
    VOLUME,
    FakeKms,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    password,
    read_volume,
    write_segment,
)

WRAPPERS = {"none": None, "kms": FakeKms(), "password": password()}


@pytest.fixture(params=sorted(WRAPPERS))
def wrapper(request: pytest.FixtureRequest) -> KeyWrapper | None:
    return WRAPPERS[request.param]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore, wrapper: KeyWrapper | None) -> Repository:
    return make_repository(store, wrapper)


def test_a_full_and_an_incremental_are_read_back(
    repository: Repository, store: MemoryStore, wrapper: KeyWrapper
):
    ids = SeededIds()
    first = {index: block(index, compressible=True) for index in (0, 5, 1000)}
    full = write_segment(repository, first, ids=ids)
    one = commit(repository, make_manifest({0: full}, point_id="p1"))
    incremental = write_segment(repository, {5: block("new")}, {1000}, previous=full, ids=ids)
    two = commit(repository, make_manifest({0: incremental}, point_id="p2", full=False))
    opened = Repository.open(store, wrapper)
    assert read_volume(opened, one) == first
    assert read_volume(opened, two) == {0: first[0], 5: block("new")}


def test_every_point_stands_alone(repository: Repository):
    """Deleting any manifest leaves each of the others whole."""
    ids = SeededIds()
    contents, refs = [{0: block(0), 70: block(70)}], []
    refs.append(write_segment(repository, contents[0], ids=ids))
    for step in (1, 2):
        contents.append({**contents[-1], 70: block(("step", step))})
        refs.append(write_segment(repository, {70: block(("step", step))}, previous=refs[-1], ids=ids))
    names = [commit(repository, make_manifest({0: ref}, point_id=f"p{n}")) for n, ref in enumerate(refs)]
    for gone in range(3):
        saved = repository.store.objects.pop(names[gone].key)
        for kept in {0, 1, 2} - {gone}:
            assert read_volume(repository, names[kept]) == contents[kept]
        repository.store.objects[names[gone].key] = saved


def test_an_unchanged_segment_is_referenced_and_nothing_but_a_manifest_is_written(
    repository: Repository, store: MemoryStore
):
    ids = SeededIds()
    ref = write_segment(repository, {0: block(0)}, ids=ids)
    commit(repository, make_manifest({0: ref}))
    before = set(store.objects)
    same = write_segment(repository, {}, previous=ref, ids=ids)
    name = commit(repository, make_manifest({0: same}, point_id="p2"))
    assert set(store.objects) - before == {name.key}


def test_a_volume_of_several_segments_with_empty_ones(repository: Repository):
    size = 40 * GIB
    second = write_segment(repository, {SEGMENT_BLOCKS + 7: block(1)}, first=SEGMENT_BLOCKS, ids=SeededIds())
    name = commit(repository, make_manifest({1: second}, size_bytes=size))
    assert read_volume(repository, name) == {SEGMENT_BLOCKS + 7: block(1)}
    assert [ref is None for ref in repository.read_point(name).volumes[0].segments] == [True, False, True]


def test_committing_the_same_point_again_is_one_point(repository: Repository):
    manifest = make_manifest({0: write_segment(repository, {0: block(0)}, ids=SeededIds())})
    commit(repository, manifest)
    again = manifest.model_copy(update={"stored_bytes": 999})
    there = repository.commit_point(again, ids=SeededIds("again"), installation=INSTALLATION)
    assert there == manifest
    assert len(list(repository.list_points())) == 1


@pytest.mark.parametrize("update", [{"session_id": "another"}, {"other content": True}])
def test_another_point_of_the_same_name_is_refused(repository: Repository, update: dict[str, object]):
    ids = SeededIds()
    commit(repository, make_manifest({0: write_segment(repository, {0: block(0)}, ids=ids)}))
    other = make_manifest({0: write_segment(repository, {0: block(1)}, ids=ids)})
    if "session_id" in update:
        other = repository.read_point(PointName(INSTANCE, "p1")).model_copy(update=update)
    with pytest.raises(ConflictError, match="Another restore point"):
        repository.commit_point(other, ids=ids, installation=INSTALLATION)


def test_points_are_listed_in_order_and_foreign_objects_are_not_points(
    repository: Repository, store: MemoryStore
):
    for point_id in ("p2", "p1", "p10"):
        commit(repository, make_manifest({}, point_id=point_id))
    for foreign in ("points/readme", "points/a/b/c", "points/.hidden/x", "points/i-1/bad name"):
        store.put_new(foreign, b"foreign")
    assert [name.point_id for name in repository.list_points()] == ["p1", "p10", "p2"]
    assert [name.point_id for name in repository.list_points(INSTANCE)] == ["p1", "p10", "p2"]
    assert list(repository.list_points("i-1")) == []


@pytest.mark.parametrize("part", ["", "..", "a/b", "-x", "x" * 129, "ä", "a\n"])
def test_a_name_that_could_leave_its_folder_is_refused(part: str):
    with pytest.raises(ConfigurationError, match="cannot name"):
        point_name(INSTANCE, part)
    with pytest.raises(ConfigurationError, match="cannot name"):
        point_name(part, "p")
    assert parse_point_key(f"points/{INSTANCE}/{part}") is None


def test_a_point_that_is_not_there_is_not_found(repository: Repository):
    with pytest.raises(NotFoundError):
        repository.read_point(PointName(INSTANCE, "p9"))


def test_reusable_is_what_the_next_backup_may_build_on(repository: Repository):
    ref = write_segment(repository, {0: block(0)}, ids=SeededIds())
    assert repository.is_reusable(make_manifest({0: ref}))
    assert repository.is_reusable(make_manifest({}))


def expire(repository: Repository, names: list[PointName], days: float) -> object:
    return repository.expire_points(
        names, NOW + timedelta(days=days), ids=SeededIds(f"expiry {days}"), installation=INSTALLATION
    )


def test_deletion_takes_two_cycles_a_day_apart(repository: Repository, store: MemoryStore):
    name = commit(repository, make_manifest({}))
    assert expire(repository, [name], 0).marked == (name,)
    assert expire(repository, [name], 0.5).waiting == (name,)
    assert name.key in store.objects
    assert expire(repository, [name], 1).deleted == (name,)
    assert name.key not in store.objects
    assert name.candidate_key not in store.objects


def test_a_point_that_is_kept_after_all_loses_its_mark(repository: Repository, store: MemoryStore):
    name = commit(repository, make_manifest({}))
    expire(repository, [name], 0)
    assert expire(repository, [], 1).released == (name,)
    assert expire(repository, [name], 2).marked == (name,)
    assert name.key in store.objects


def test_a_cycle_that_runs_twice_changes_nothing(repository: Repository):
    name = commit(repository, make_manifest({}))
    expire(repository, [name], 0)
    assert expire(repository, [name], 0).waiting == (name,)
    expire(repository, [name], 1)
    again = expire(repository, [name], 1)
    assert (again.marked, again.waiting, again.released, again.deleted) == ((), (), (), ())


def test_a_crash_between_manifest_and_mark_leaves_nothing_behind(repository: Repository, store: MemoryStore):
    name = commit(repository, make_manifest({}))
    expire(repository, [name], 0)
    del store.objects[name.key]
    assert expire(repository, [name], 2).released == (name,)
    assert not list(store.list("candidates/"))


@pytest.mark.parametrize("damage", ["garbage", "future", "of another point", "no time", "no object"])
def test_a_mark_that_cannot_be_trusted_counts_as_none(
    repository: Repository, store: MemoryStore, damage: str
):
    name, other = (commit(repository, make_manifest({}, point_id=point)) for point in ("p1", "p2"))
    expire(repository, [name, other], 0)
    key = name.candidate_key
    if damage == "garbage":
        store.objects[key] = b"garbage"
    elif damage == "future":
        expire(repository, [], 0)
        expire(repository, [name, other], 300)
    elif damage == "of another point":
        store.objects[key] = store.objects[other.candidate_key]
    else:
        document = {"marked_at": None} if damage == "no time" else [1]
        store.objects[key] = seal_envelope(
            repository.keys, ObjectKind.CANDIDATE, key, document, SeededIds("forged")
        )
    assert name in expire(repository, [name], 30).marked
    assert name.key in store.objects


def test_two_cycles_that_mark_at_once_agree(repository: Repository, store: MemoryStore):
    name = commit(repository, make_manifest({}))
    original = store.put_new

    def put_after_another(key: str, content: bytes, **options: str) -> None:
        store.put_new = original
        original(key, content, **options)
        original(key, content, **options)

    store.put_new = put_after_another
    assert expire(repository, [name], 0).marked == (name,)
    assert expire(repository, [name], 1).deleted == (name,)


def test_only_listed_points_are_deleted(repository: Repository, store: MemoryStore):
    """A verdict about something that is not in the repository touches nothing."""
    store.put_new("points/foreign", b"x")
    before = dict(store.objects)
    ghost = PointName("i-1", "never-was")
    outcome = expire(repository, [ghost], 0)
    assert (outcome.marked, outcome.deleted) == ((), ())
    assert store.objects == before


def test_expiry_never_touches_packs_and_maps(repository: Repository, store: MemoryStore):
    ref = write_segment(repository, {0: block(0)}, ids=SeededIds())
    name = commit(repository, make_manifest({0: ref}))
    data = {key for key in store.objects if key.startswith(("packs/", "maps/"))}
    expire(repository, [name], 0)
    expire(repository, [name], 2)
    assert {key for key in store.objects if key.startswith(("packs/", "maps/"))} == data
    assert len(data) == 2


def test_the_catalog_is_rebuilt_from_the_manifests(repository: Repository):
    manifest = make_manifest({0: write_segment(repository, {0: block(0)}, ids=SeededIds())})
    manifest = manifest.model_copy(update={"flags": frozenset({Flag.WEEKLY, Flag.DAILY}), "keep_until": NOW})
    commit(repository, manifest)
    (point,) = repository.rebuild("main")
    assert point == RestorePoint(
        point_id="p1",
        kind="backup",
        account="111122223333",
        region="eu-central-1",
        instance_id=INSTANCE,
        instance_name="web",
        taken_at=NOW,
        session_id="session-p1",
        policy="daily",
        flags=frozenset({Flag.WEEKLY, Flag.DAILY}),
        keep_until=NOW,
        repository="main",
        full=True,
        snapshot_ids={VOLUME: "snap-1"},
        size_bytes=GIB,
        stored_bytes=1,
        root_digest=manifest.root,
    )


def test_a_damaged_manifest_does_not_hide_the_others(repository: Repository, store: MemoryStore):
    bad, good = (commit(repository, make_manifest({}, point_id=point)) for point in ("p1", "p2"))
    store.objects[bad.key] = b"garbage"
    damaged: list[PointName] = []
    points = list(repository.rebuild("main", lambda name, error: damaged.append(name)))
    assert [point.point_id for point in points] == [good.point_id]
    assert damaged == [bad]
    with pytest.raises(DamagedError) as caught:
        list(repository.rebuild("main"))
    assert caught.value.resource == bad.key


def test_a_manifest_with_members_of_a_later_version_is_read(repository: Repository, store: MemoryStore):
    name = commit(repository, make_manifest({}))
    manifest = repository.read_point(name)
    document = open_envelope(repository.keys, ObjectKind.POINT, name.key, store.objects[name.key])
    document["later"] = 1
    document["configuration"]["later"] = {"x": 1}
    store.objects[name.key] = seal_envelope(
        repository.keys, ObjectKind.POINT, name.key, document, SeededIds("later")
    )
    assert repository.read_point(name) == manifest


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(root="0" * 64),
        lambda d: d["volumes"][0].update(root="0" * 64),
        lambda d: d["volumes"][0].update(size_bytes=40 * GIB),
        lambda d: d["volumes"][0].update(size_bytes=0),
        lambda d: d["volumes"][0]["segments"].append(None),
        lambda d: d["volumes"][0].update(segments=[{"map_id": "x"}]),
        lambda d: d["volumes"][0].update(segments=["text"]),
        lambda d: d.update(format=2),
        lambda d: d.pop("taken_at"),
        lambda d: d.update(taken_at="2026-11-22T07:00:00"),
        lambda d: d.update(point_id="p2"),
        lambda d: d["configuration"]["instance"].update(instance_id="i-other"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_damage(repository: Repository, store: MemoryStore, change):
    """Written with the right keys and wrong: by a broken writer, or by anybody in a plain repository."""
    ref = write_segment(repository, {0: block(0)}, ids=SeededIds())
    name = commit(repository, make_manifest({0: ref}))
    document = open_envelope(repository.keys, ObjectKind.POINT, name.key, store.objects[name.key])
    change(document)
    store.objects[name.key] = seal_envelope(
        repository.keys, ObjectKind.POINT, name.key, document, SeededIds("forged")
    )
    with pytest.raises(DamagedError) as caught:
        repository.read_point(name)
    assert caught.value.resource == name.key


def test_roots_are_computed_and_checked_when_a_manifest_is_made():
    volume = volume_manifest(VOLUME, "/dev/xvda", GIB, [None])
    assert len(volume.root) == 64
    with pytest.raises(ValueError, match="do not add up"):
        make_manifest({}).model_copy(update={"root": "0" * 64}).model_validate(
            make_manifest({}).model_dump() | {"root": "0" * 64}
        )
    with pytest.raises(ValueError, match="number of segments"):
        volume_manifest(VOLUME, "/dev/xvda", GIB, [])
    assert manifest_root([volume]) == make_manifest({}).root


def test_volumes_of_the_same_content_have_the_same_root(repository: Repository):
    ids = SeededIds()
    one, two = (write_segment(repository, {3: block(3)}, ids=ids) for _ in range(2))
    assert one.map_id != two.map_id
    roots = {volume_manifest(VOLUME, device, GIB, [ref]).root for device, ref in (("a", one), ("b", two))}
    assert len(roots) == 1


def test_a_point_without_volumes_is_possible():
    empty = make_manifest({}).model_dump() | {"volumes": (), "root": manifest_root(())}
    manifest = PointManifest.model_validate(empty)
    assert (manifest.size_bytes, manifest.references()) == (0, [])
