"""check: what is wrong, and which restore points it costs; one broken object never hides another."""

from __future__ import annotations

import pytest

from holdfast.ports import KeyWrapper
from holdfast.repository.check import CheckReport
from holdfast.repository.layout import PointName
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    FakeKms,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    write_segment,
)


class Scene:
    """Three points: p1 full, p2 builds on it, p3 on its own."""

    def __init__(self, wrapper: KeyWrapper | None) -> None:
        self.store = MemoryStore()
        self.repository = make_repository(self.store, wrapper)
        ids = SeededIds()
        content = {index: block(index, compressible=True) for index in (0, 70)}
        self.refs = [write_segment(self.repository, content, ids=ids)]
        changed = {70: block("new", compressible=True)}
        self.refs.append(write_segment(self.repository, changed, previous=self.refs[0], ids=ids))
        self.refs.append(write_segment(self.repository, content, ids=ids))
        self.names = [
            commit(self.repository, make_manifest({0: ref}, point_id=f"p{number}"))
            for number, ref in enumerate(self.refs, 1)
        ]

    def pack_of(self, point: int, index: int) -> str:
        row = self.repository.load_map(self.refs[point]).block(index)
        return f"packs/{row.pack_id.hex()[:2]}/{row.pack_id.hex()}"

    def check(self, **options: object) -> CheckReport:
        return self.repository.check(**options)

    def damages(self, **options: object) -> dict[str, tuple[str, ...]]:
        return {d.key: tuple(name.point_id for name in d.points) for d in self.check(**options).damages}


@pytest.fixture(params=[None, FakeKms()], ids=["plain", "encrypted"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_a_sound_repository_has_no_damages(scene: Scene):
    report = scene.check(read_data=True)
    assert report.sound
    assert (report.points, report.maps, report.packs, report.blocks) == (3, 3, 3, 5)


def test_without_reading_data_no_pack_is_read(scene: Scene):
    scene.store.reads.clear()
    report = scene.check()
    assert (report.sound, report.blocks) == (True, 0)
    assert not [key for key, _ in scene.store.reads if key.startswith("packs/")]


def test_an_empty_repository_is_sound():
    report = make_repository(MemoryStore()).check(read_data=True)
    assert report == CheckReport(0, 0, 0, 0, ())


def test_a_missing_pack_costs_the_points_that_hold_it(scene: Scene):
    shared = scene.pack_of(0, 0)
    del scene.store.objects[shared]
    assert scene.damages() == scene.damages(read_data=True) == {shared: ("p1", "p2")}


def test_a_pack_of_another_size_is_found_without_reading_it(scene: Scene):
    key = scene.pack_of(2, 0)
    scene.store.objects[key] += b"\0"
    (damage,) = scene.check().damages
    assert (damage.key, [name.point_id for name in damage.points]) == (key, ["p3"])
    assert "instead of" in damage.message


def test_a_damaged_block_is_found_by_reading_data_alone(scene: Scene):
    key = scene.pack_of(1, 70)
    content = bytearray(scene.store.objects[key])
    content[50] ^= 1
    scene.store.objects[key] = bytes(content)
    assert scene.check().sound
    assert scene.damages(read_data=True) == {key: ("p2",)}


def test_a_missing_map_costs_the_points_that_use_its_pages(scene: Scene):
    key = scene.refs[0].key
    del scene.store.objects[key]
    assert scene.damages() == {key: ("p1", "p2")}


def test_a_damaged_page_costs_the_points_that_use_it(scene: Scene):
    key = scene.refs[0].key
    content = bytearray(scene.store.objects[key])
    content[45] ^= 1
    scene.store.objects[key] = bytes(content)
    assert scene.damages() == {key: ("p1", "p2")}


def test_a_page_that_is_not_used_any_more_costs_nobody_else(scene: Scene):
    """Page 1 of the first map was rewritten for p2."""
    key = scene.refs[0].key
    row = scene.repository.load_map(scene.refs[0]).table.rows[1]
    content = bytearray(scene.store.objects[key])
    content[row.offset + 5] ^= 1
    scene.store.objects[key] = bytes(content)
    assert scene.damages() == {key: ("p1",)}


def test_a_map_with_extra_bytes_has_another_size(scene: Scene):
    key = scene.refs[2].key
    scene.store.objects[key] += b"\0"
    assert scene.damages() == {key: ("p3",)}


def test_several_damages_are_all_reported(scene: Scene):
    lost_map, lost_pack, bad_point = scene.refs[2].key, scene.pack_of(1, 70), scene.names[0].key
    del scene.store.objects[lost_map]
    del scene.store.objects[lost_pack]
    scene.store.objects[bad_point] = b"garbage"
    assert scene.damages() == {lost_map: ("p3",), lost_pack: ("p2",), bad_point: ("p1",)}


def test_a_row_that_its_pack_does_not_confirm_is_damage(scene: Scene):
    """A locator that points at the right bytes under a wrong ordinal, as only a broken writer makes it."""
    repository, ids = scene.repository, SeededIds("broken writer")
    segment = repository.load_map(scene.refs[2])
    row = segment.block(0)
    size = scene.store.stat(scene.pack_of(2, 0)).size
    wrong = repository.store_map(
        repository.load_map(None), {0: row._replace(ordinal=7)}, (), ids=ids, pack_bytes={row.pack_id: size}
    )
    commit(repository, make_manifest({0: wrong}, point_id="p4"))
    assert scene.check().sound
    (damage,) = scene.check(read_data=True).damages
    assert (damage.key, damage.points[-1].point_id) == (scene.pack_of(2, 0), "p4")
    assert "not in the directory" in damage.message


def test_a_page_that_many_points_share_is_read_once():
    store = MemoryStore()
    repository = make_repository(store)
    ids = SeededIds()
    content = {index: block(index, compressible=True) for index in range(0, 640, 64)}
    ref = write_segment(repository, content, ids=ids)
    for number in range(8):
        changed = {0: block(("new", number), compressible=True)}
        ref = write_segment(repository, changed, previous=ref, ids=ids)
        commit(repository, make_manifest({0: ref}, point_id=f"p{number}"))
    store.reads.clear()
    assert repository.check().sound
    assert len([key for key, _ in store.reads if key.startswith("maps/")]) == 8 + 8 + 1


def test_every_damaged_page_is_found(scene: Scene):
    ref = scene.refs[2]
    content = bytearray(scene.store.objects[ref.key])
    for row in scene.repository.load_map(ref).table.rows.values():
        content[row.offset + 3] ^= 1
    scene.store.objects[ref.key] = bytes(content)
    pages = scene.repository.check()
    assert [damage.key for damage in pages.damages] == [ref.key]
    scene.store.objects[ref.key] = bytes(content)
    assert scene.damages(read_data=True) == {ref.key: ("p3",)}


def test_a_part_of_the_packs_is_read_and_another_salt_reads_others():
    store = MemoryStore()
    repository = make_repository(store)
    ids = SeededIds()
    for number in range(40):
        content = {0: block(number, compressible=True)}
        commit(
            repository, make_manifest({0: write_segment(repository, content, ids=ids)}, point_id=f"p{number}")
        )

    def packs_read(salt: bytes, percent: float) -> set[str]:
        store.reads.clear()
        assert repository.check(read_data=True, percent=percent, salt=salt).sound
        return {key for key, _ in store.reads if key.startswith("packs/")}

    some = packs_read(b"monday", 30)
    assert 3 < len(some) < 25
    assert packs_read(b"monday", 30) == some
    assert packs_read(b"tuesday", 30) != some
    assert packs_read(b"", 0) == set()
    assert len(packs_read(b"", 100)) == 40


def test_a_point_that_disappears_while_checking_is_reported(scene: Scene):
    name = scene.names[1]
    original = scene.store.get

    def get(key: str) -> bytes:
        if key == name.key:
            scene.store.objects.pop(key, None)
        return original(key)

    scene.store.get = get
    assert scene.damages() == {name.key: ("p2",)}


def test_damages_name_points_as_a_person_finds_them(scene: Scene):
    scene.store.objects[scene.names[0].key] = b""
    (damage,) = (
        Repository.open(scene.store, FakeKms() if scene.repository.encrypted else None).check().damages
    )
    assert damage.points == (PointName("i-0123456789abcdef0", "p1"),)
