"""Blocks with the content of a small system disk, taken from the files of the Python installation.

Random or constant bytes would flatter or hide the compressor, which is half of all CPU time. The shares of
the kinds are chosen so that zstd-1 leaves somewhat less than 0.40, as it does of an ext4 image of /usr.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from holdfast.model.blocks import BLOCK_SIZE

KINDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (5, (".so", ".a", "")),
    (2, (".pyc",)),
    (2, (".py", ".json", ".h", ".txt", ".html")),
    (1, (".gz", ".tgz", ".whl", ".npz", ".zip")),
)
"""Blocks of each kind in ten, and the suffixes of its files."""


def _files() -> Iterator[Path]:
    """The files of the installation, in a stable order; no further than somebody reads."""
    for root in sorted({sysconfig.get_path(name) for name in ("stdlib", "platlib")}):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                yield Path(folder, name)


def _stream(suffixes: tuple[str, ...]) -> Iterator[bytes]:
    """Blocks of the files with these suffixes, each file beginning at a multiple of 4 KiB, as on a disk."""
    pending = bytearray()
    for path in _files():
        if path.suffix in suffixes and not path.is_symlink():
            content = path.read_bytes()[: 4 << 20]
            pending += content + bytes(-len(content) % 4096)
        while len(pending) >= BLOCK_SIZE:
            yield bytes(pending[:BLOCK_SIZE])
            del pending[:BLOCK_SIZE]


def blocks(count: int) -> list[bytes]:
    """``count`` different blocks."""
    streams = [(share, _stream(suffixes)) for share, suffixes in KINDS]
    made: list[bytes] = []
    for share, stream in cycle(streams):
        for _ in range(share):
            block = next(stream, None)
            if block is None:
                raise SystemExit(f"The Python installation holds too little content for {count} blocks.")
            made.append(block)
            if len(made) == count:
                return made
    return made
