"""Real disk images for the demonstration and the tests: ext4, XFS, NTFS, and a GPT disk that holds several.

Made by the file systems' own mkfs without mounting anything, so no privilege is needed; what is written is
deterministic for a seed, apart from what mkfs itself draws (UUIDs).
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
_SECTOR = 512
_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_BASIC = uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
_PACKAGES = {
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.ntfs": "ntfs-3g",
    "ntfscp": "ntfs-3g",
}


class MissingToolError(RuntimeError):
    """A program that makes file systems is not installed."""


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(
            f"{name} is missing: install the Debian package {_PACKAGES[name]} (or run tools/setup)."
        )
    return found


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))} failed: {done.stderr.strip() or done.stdout.strip()}"
        )


def _empty(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def files(seed: int, total_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of files as guests have them: source text, records, some that do not compress."""
    chance = random.Random(seed)
    library = sorted(Path(os.__file__).parent.glob("*.py"))
    written = count = 0
    while written < total_bytes:
        kind = chance.random()
        if kind < 0.80:
            content = chance.choice(library).read_bytes()
        elif kind < 0.95:
            content = "".join(
                f"{chance.randrange(10**9)},{chance.choice(('paid', 'open', 'void'))},{chance.random():.6f}\n"
                for _ in range(chance.randrange(50, 4000))
            ).encode()
        else:
            content = chance.randbytes(chance.randrange(1_000, 400_000))
        content += f"\n# copy {count}\n".encode()
        yield f"d{count % 23:02d}/f{count:05d}", content
        written += len(content)
        count += 1


@contextmanager
def tree(seed: int, total_bytes: int) -> Iterator[Path]:
    """A temporary directory with :func:`files` in it."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        for name, content in files(seed, total_bytes):
            target = top / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield top


def ext4(path: Path, size_bytes: int, *, seed: int, fill_bytes: int) -> None:
    """An ext4 file system with thousands of files when ``fill_bytes`` is tens of MiB."""
    _empty(path, size_bytes)
    with tree(seed, fill_bytes) as top:
        _run(_tool("mkfs.ext4"), "-q", "-F", "-d", top, path)


def write_into_ext4(path: Path, *, seed: int, fill_bytes: int) -> None:
    """What a guest does between two backups: new files in a directory of their own."""
    with tree(seed, fill_bytes) as top, tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write(f"mkdir /new{seed}\n")
        for index, source in enumerate(sorted(p for p in top.rglob("*") if p.is_file())):
            script.write(f"write {source} /new{seed}/f{index:05d}\n")
        script.flush()
        _run(_tool("debugfs"), "-w", "-f", script.name, path)


def xfs(path: Path, size_bytes: int, *, seed: int, fill_bytes: int) -> None:
    """An XFS file system, filled through a protofile. XFS needs at least 300 MiB."""
    _empty(path, size_bytes)
    with tree(seed, fill_bytes) as top, tempfile.NamedTemporaryFile("w", suffix=".proto") as prototype:
        prototype.write("/\n0 0\nd--755 0 0\n")
        for directory in sorted(p for p in top.iterdir() if p.is_dir()):
            prototype.write(f"{directory.name} d--755 0 0\n")
            for source in sorted(directory.iterdir()):
                prototype.write(f"{source.name} ---644 0 0 {source}\n")
            prototype.write("$\n")
        prototype.write("$\n")
        prototype.flush()
        _run(_tool("mkfs.xfs"), "-q", "-f", "-p", prototype.name, path)


def ntfs(path: Path, size_bytes: int, *, seed: int, fill_bytes: int) -> None:
    """An NTFS file system with some larger files (one process a file: keep ``fill_bytes`` small)."""
    _empty(path, size_bytes)
    _run(_tool("mkfs.ntfs"), "-q", "-Q", "-F", "-L", "Data", path)
    contents = [content for _, content in files(seed, fill_bytes)]
    with tempfile.TemporaryDirectory() as directory:
        for index in range(min(24, len(contents))):
            source = Path(directory) / f"report{index:02d}.bin"
            source.write_bytes(b"".join(contents[index::24]))
            _run(_tool("ntfscp"), "-f", path, source, source.name)


class Partition(NamedTuple):
    """One partition of a GPT disk: its name and the file system image that fills it."""

    name: str
    image: Path
    windows: bool = False


def gpt(path: Path, size_bytes: int, partitions: Sequence[Partition], *, seed: int) -> None:
    """A disk with a protective MBR, both partition tables of UEFI 2.10 (5.3), and the given partitions."""
    chance = random.Random(seed)
    sectors = size_bytes // _SECTOR
    entries = bytearray(128 * 128)
    _empty(path, size_bytes)
    with path.open("r+b") as disk:
        first = MIB // _SECTOR
        for index, partition in enumerate(partitions):
            length = -(-partition.image.stat().st_size // MIB) * (MIB // _SECTOR)
            last = first + length - 1
            if last > sectors - 34:
                raise ValueError(f"partition {partition.name} does not fit on a disk of {size_bytes} bytes")
            struct.pack_into(
                "<16s16sQQQ72s",
                entries,
                index * 128,
                (_BASIC if partition.windows else _LINUX).bytes_le,
                uuid.UUID(int=chance.getrandbits(128), version=4).bytes_le,
                first,
                last,
                0,
                partition.name.encode("utf-16-le"),
            )
            copy_sparse(partition.image, disk.fileno(), first * _SECTOR)
            first = last + 1
        disk_id = uuid.UUID(int=chance.getrandbits(128), version=4).bytes_le
        disk.seek(446)
        disk.write(
            struct.pack(
                "<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF)
            )
        )
        disk.seek(510)
        disk.write(b"\x55\xaa")
        for here, other, table in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 33)):
            header = struct.pack(
                "<8sIIIIQQQQ16sQIII",
                b"EFI PART",
                0x00010000,
                92,
                0,
                0,
                here,
                other,
                34,
                sectors - 34,
                disk_id,
                table,
                128,
                128,
                zlib.crc32(entries),
            )
            header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
            disk.seek(here * _SECTOR)
            disk.write(header)
            disk.seek(table * _SECTOR)
            disk.write(entries)


def copy_sparse(source: Path, target: int, offset: int = 0) -> None:
    """Copy the data of ``source`` (not its holes) into an open file at ``offset``."""
    size = source.stat().st_size
    with source.open("rb") as file:
        position = 0
        while position < size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            while start < end:
                chunk = os.pread(file.fileno(), min(4 * MIB, end - start), start)
                os.pwrite(target, chunk, offset + start)
                start += len(chunk)
            position = end
