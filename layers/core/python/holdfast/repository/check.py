"""Checks that everything a repository's manifests promise is there, has its size, and verifies.

Nothing is changed. Every object that is wrong is reported with the restore points that need it; one broken
object never hides another.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.errors import DamagedError, NotFoundError
from holdfast.repository.blocks import BlockOpener
from holdfast.repository.keys import Keys
from holdfast.repository.layout import MAPS, PACKS, PointName, map_key, pack_key
from holdfast.repository.map import SegmentMap, SegmentRef, present
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


class _Findings:
    """Damages by object, with the points they concern."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self.points: dict[str, set[PointName]] = defaultdict(set)

    def add(self, key: str, message: str, points: set[PointName]) -> None:
        self.messages.setdefault(key, message)
        self.points[key] |= points

    def damages(self) -> tuple[Damage, ...]:
        return tuple(
            Damage(key, self.messages[key], tuple(sorted(self.points[key]))) for key in sorted(self.messages)
        )


def check_repository(
    repository: Repository, *, read_data: bool = False, percent: float = 100, salt: bytes = b""
) -> CheckReport:
    """Verify manifests, maps and the presence and size of packs; with ``read_data`` also every block.

    ``percent`` of the packs are read; the same ``salt`` chooses the same packs, another one others. Memory
    grows with the blocks of the packs that are read (about 200 bytes each).
    """
    findings = _Findings()
    sizes = {stat.key: stat.size for prefix in (MAPS, PACKS) for stat in repository.store.list(prefix)}
    packs: dict[bytes, _Pack] = {}
    references: dict[SegmentRef, set[PointName]] = defaultdict(set)
    count = 0
    for name in repository.list_points():
        count += 1
        try:
            for ref in repository.read_point(name).references():
                references[ref].add(name)
        except (DamagedError, NotFoundError) as error:
            findings.add(error.resource, error.message, {name})
    chosen = _Choice(percent if read_data else 0, salt)
    for ref, points in references.items():
        _check_map(repository, ref, points, packs, sizes, findings, chosen)
    blocks = 0
    for pack_id, pack in sorted(packs.items()):
        _check_size(pack_key(pack_id), pack.size, pack.points, sizes, findings)
        if chosen(pack_id) and pack_key(pack_id) not in findings.messages:
            blocks += _check_pack(repository, pack_id, pack, findings)
    maps = len({ref.map_id for ref in references})
    return CheckReport(count, maps, len(packs), blocks, findings.damages())


class _Choice:
    """Which packs are read: those whose salted hash falls below the percentage."""

    def __init__(self, percent: float, salt: bytes) -> None:
        self._below = percent / 100 * (1 << 64)
        self._salt = salt

    def __call__(self, pack_id: bytes) -> bool:
        return int.from_bytes(hashlib.sha256(self._salt + pack_id).digest()[:8], "big") < self._below


def _check_size(
    key: str, size: int, points: set[PointName], sizes: dict[str, int], findings: _Findings
) -> None:
    found = sizes.get(key)
    if found is None:
        findings.add(key, f"{key} is missing.", points)
    elif found != size:
        findings.add(key, f"{key} has {found} bytes instead of {size}.", points)


def _check_map(
    repository: Repository,
    ref: SegmentRef,
    points: set[PointName],
    packs: dict[bytes, _Pack],
    sizes: dict[str, int],
    findings: _Findings,
    chosen: _Choice,
) -> None:
    """Read every page of a map and note the packs that it refers to."""
    try:
        segment = repository.load_map(ref)
    except DamagedError as error:
        findings.add(error.resource, error.message, points)
        return
    for map_id, size in segment.objects:
        _check_size(map_key(map_id), size, points, sizes, findings)
    for number in segment.table.rows:
        try:
            _note_page(segment, number, ref.epoch, points, packs, chosen)
        except DamagedError as error:
            findings.add(error.resource, error.message, points)


def _note_page(
    segment: SegmentMap,
    number: int,
    epoch: int,
    points: set[PointName],
    packs: dict[bytes, _Pack],
    chosen: _Choice,
) -> None:
    page = segment.page(number)
    if page is None:
        return
    for pack_id, size in page.packs().items():
        pack = packs.setdefault(pack_id, _Pack(size, epoch))
        pack.points |= points
    for _, block in segment.page_blocks(number):
        if chosen(block.pack_id):
            packs[block.pack_id].rows.add(block)


def _check_pack(repository: Repository, pack_id: bytes, pack: _Pack, findings: _Findings) -> int:
    """Verify every block of a pack, and that the maps agree with its directory; the blocks verified."""
    key = pack_key(pack_id)
    keys: Keys = repository.keys_of(pack.epoch)
    opener = BlockOpener(keys)
    count = 0
    try:
        content = memoryview(present(lambda: repository.store.get(key), key))
        entries = {
            StoredBlock(entry.digest, pack_id, entry.ordinal, entry.offset, entry.length, entry.encoding)
            for entry in read_directory(keys, pack_id, content)
        }
        for block in sorted(entries | pack.rows, key=lambda block: block.ordinal):
            if block not in entries:
                raise DamagedError(f"Block {block.ordinal} is not in the directory of {key}.", resource=key)
            opener.open(block, content[block.offset : block.offset + block.length])
            count += 1
    except DamagedError as error:
        findings.add(key, error.message, pack.points)
    return count
