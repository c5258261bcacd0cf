"""Checks that everything a repository's manifests promise is there, has its size, and verifies.

Nothing is changed. Every object that is wrong is reported with the restore points that need it; one broken
object never hides another.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.errors import DamagedError, NotFoundError
from holdfast.repository.blocks import BlockOpener
from holdfast.repository.layout import MAPS, PACKS, PointName, map_key, pack_key
from holdfast.repository.map import Place, SegmentMap, SegmentRef, present
from holdfast.repository.pack import StoredBlock, read_directory

if TYPE_CHECKING:
    from holdfast.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Damage:
    """One object that is not as promised, and the points that cannot be restored whole because of it."""

    key: str
    message: str
    points: tuple[PointName, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How many things were verified, and what is wrong. ``blocks`` counts blocks whose content was read."""

    points: int
    maps: int
    packs: int
    blocks: int
    damages: tuple[Damage, ...]

    @property
    def sound(self) -> bool:
        return not self.damages


@dataclass(slots=True)
class _Pack:
    """What the maps say about one pack."""

    size: int
    epoch: int
    points: set[PointName] = field(default_factory=set)
    rows: set[StoredBlock] = field(default_factory=set)


class _Choice:
    """Which packs are read: those whose salted hash falls below the percentage."""

    def __init__(self, percent: float, salt: bytes) -> None:
        self._below = percent / 100 * (1 << 64)
        self._salt = salt

    def __call__(self, pack_id: bytes) -> bool:
        return int.from_bytes(hashlib.sha256(self._salt + pack_id).digest()[:8], "big") < self._below


def check_repository(
    repository: Repository, *, read_data: bool = False, percent: float = 100, salt: bytes = b""
) -> CheckReport:
    """Verify manifests, maps and the presence and size of packs; with ``read_data`` also every block.

    ``percent`` of the packs are read; the same ``salt`` chooses the same packs, another one others. Memory
    grows with the blocks of the packs that are read (about 200 bytes each).
    """
    scan = _Scan(repository, _Choice(percent if read_data else 0, salt))
    references: dict[SegmentRef, set[PointName]] = defaultdict(set)
    count = 0
    for name in repository.list_points():
        count += 1
        try:
            for ref in repository.read_point(name).references():
                references[ref].add(name)
        except (DamagedError, NotFoundError) as error:
            scan.blame(error.resource, error.message, {name})
    for ref, points in references.items():
        scan.check_map(ref, points)
    blocks = sum(scan.check_pack(pack_id, pack) for pack_id, pack in sorted(scan.packs.items()))
    maps = len({ref.map_id for ref in references})
    return CheckReport(count, maps, len(scan.packs), blocks, scan.damages())


class _Scan:
    """What was seen so far: packs with what the maps say about them, pages, and damages by object."""

    def __init__(self, repository: Repository, chosen: _Choice) -> None:
        self.repository = repository
        self.chosen = chosen
        self.packs: dict[bytes, _Pack] = {}
        self._sizes = {stat.key: stat.size for kind in (MAPS, PACKS) for stat in repository.store.list(kind)}
        self._pages: dict[Place, tuple[bytes, ...]] = {}
        self._messages: dict[str, str] = {}
        self._points: dict[str, set[PointName]] = defaultdict(set)

    def blame(self, key: str, message: str, points: set[PointName]) -> None:
        """Note a damage; of several of one object the first is told."""
        self._messages.setdefault(key, message)
        self._points[key] |= points

    def damages(self) -> tuple[Damage, ...]:
        return tuple(
            Damage(key, self._messages[key], tuple(sorted(self._points[key])))
            for key in sorted(self._messages)
        )

    def check_map(self, ref: SegmentRef, points: set[PointName]) -> None:
        """Verify a map and each of its pages; a page that another map had as well is not read again."""
        try:
            segment = self.repository.load_map(ref)
        except DamagedError as error:
            self.blame(error.resource, error.message, points)
            return
        for map_id, size in segment.objects:
            self._check_size(map_key(map_id), size, points)
        place = {number: segment.place(number) for number in segment.table.rows}
        with suppress(DamagedError):  # One by one below: each damaged page is to be found.
            segment.prefetch({number for number in place if place[number] not in self._pages})
        for number in place:
            try:
                if place[number] not in self._pages:
                    self._pages[place[number]] = self._read_page(segment, number, ref.epoch)
            except DamagedError as error:
                self.blame(error.resource, error.message, points)
            for pack_id in self._pages.get(place[number], ()):
                self.packs[pack_id].points |= points

    def _read_page(self, segment: SegmentMap, number: int, epoch: int) -> tuple[bytes, ...]:
        """The packs of a page; its blocks are kept for the packs that will be read."""
        found = segment.packs(number)
        for pack_id, size in found.items():
            self.packs.setdefault(pack_id, _Pack(size, epoch))
        for _, block in segment.page_blocks(number):
            if self.chosen(block.pack_id):
                self.packs[block.pack_id].rows.add(block)
        return tuple(found)

    def check_pack(self, pack_id: bytes, pack: _Pack) -> int:
        """Verify presence and size of a pack and, when it is chosen, every block; the blocks verified."""
        key = pack_key(pack_id)
        if not self._check_size(key, pack.size, pack.points) or not self.chosen(pack_id):
            return 0
        count = 0
        try:
            keys = self.repository.keys_of(pack.epoch)
            opener = BlockOpener(keys)
            content = memoryview(present(lambda: self.repository.store.get(key), key))
            entries = {
                StoredBlock(pack_id=pack_id, **e._asdict()) for e in read_directory(keys, pack_id, content)
            }
            for block in sorted(entries | pack.rows, key=lambda block: block.ordinal):
                if block not in entries:
                    raise DamagedError(
                        f"Block {block.ordinal} is not in the directory of {key}.", resource=key
                    )
                opener.open(block, content[block.offset : block.offset + block.length])
                count += 1
        except DamagedError as error:
            self.blame(key, error.message, pack.points)
        return count

    def _check_size(self, key: str, size: int, points: set[PointName]) -> bool:
        found = self._sizes.get(key)
        if found != size:
            message = f"{key} is missing." if found is None else f"{key} has {found} bytes instead of {size}."
            self.blame(key, message, points)
        return found == size
