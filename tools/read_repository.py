"""Reads a Holdfast repository in a local directory, with docs/repository-format.md for its only source.

It shares no code with the product, so that what one of them misunderstands the other shows. It trusts
nothing: every byte that contributes to its output has been authenticated or matched against a digest.

    read_repository.py DIRECTORY points   [--password-file F | --key-file F]
    read_repository.py DIRECTORY extract INSTANCE/POINT VOLUME OUTPUT [--password-file F | --key-file F]
    read_repository.py DIRECTORY verify   [--password-file F | --key-file F]

``--key-file`` holds the repository key as 64 hex digits, for repositories whose key is wrapped by KMS. Exit
codes: 0, 1 when the repository is damaged (the message names the object), 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import unicodedata
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BLOCK, SEGMENT, PAGE = 524288, 32768, 64
PACK, MAP, POINT, CANDIDATE, ADOPTED = 1, 2, 3, 4, 5
LAST = 0xFFFFFFFF
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
ZERO = bytes(32)


class Damaged(Exception):
    """An object is not what the format says; the message starts with its name."""


def require(condition: object, name: str, what: str) -> None:
    if not condition:
        raise Damaged(f"{name}: {what}")


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def unzstd(frame: bytes, limit: int, name: str) -> bytes:
    try:
        size = zstandard.frame_content_size(frame)
        require(0 <= size <= limit and not frame[4] & 0x1F, name, "not a zstd frame of this format")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"{name}: {error}") from None


class Reader:
    """A repository in ``root``. ``password`` or ``key`` is needed when it is encrypted."""

    def __init__(self, root: Path, password: str | None = None, key: bytes | None = None) -> None:
        self.root = root
        name = "repository.json"
        raw = self.read(name)
        require(len(raw) <= 65536, name, "too long")
        header = self.json(raw, name)
        mac = header.pop("mac", None)
        body = canonical(header)
        require(header.get("format") == "holdfast-repository", name, "not a repository")
        require(header.get("version") == 1, name, "unknown format version")
        sizes = (header.get("block_bytes"), header.get("segment_blocks"), header.get("page_blocks"))
        require(sizes == (BLOCK, SEGMENT, PAGE), name, "other sizes than format 1 has")
        self.id = bytes.fromhex(header["repository_id"])
        encryption = header["encryption"]
        self.epoch = encryption["epoch"] if encryption else 0
        self.key: bytes | None = None
        self.adopted: dict[str, str] = {}
        if not encryption:
            require(not password and not key, name, "is plain although a key was given")
            require(mac == "", name, "has a MAC although it is plain")
            return
        self.key = key or self.unwrap(encryption["key"], password)
        mac_key = self.derive(b"repository.json")
        expected = hmac.new(mac_key, body, "sha256").hexdigest()
        require(isinstance(mac, str) and hmac.compare_digest(mac, expected), name, "fails authentication")
        adopted = encryption["plain_points"]
        if isinstance(adopted, dict):
            content = self.read(adopted["key"])
            right = hashlib.sha256(content).hexdigest() == adopted["digest"]
            require(right, adopted["key"], "does not match its digest")
            self.adopted = self.envelope(adopted["key"], content, ADOPTED, self.epoch)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        try:
            with (self.root / name).open("rb") as file:
                file.seek(offset)
                content = file.read() if length is None else file.read(length)
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from None
        require(length is None or len(content) == length, name, "too short")
        return content

    def json(self, raw: bytes, name: str) -> dict:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise Damaged(f"{name}: not JSON") from None
        require(isinstance(value, dict) and canonical(value) + b"\n" == raw, name, "not canonical JSON")
        digest = value.pop("digest", None)
        body = canonical({member: value[member] for member in value if member != "mac"})
        require(hashlib.sha256(body).hexdigest() == digest, name, "does not match its digest")
        return value

    def derive(self, info: bytes) -> bytes:
        return HKDF(SHA256(), 32, self.id, b"holdfast/1/" + info).derive(self.key or b"")

    def unwrap(self, wrapped: dict, password: str | None) -> bytes:
        name = "repository.json"
        require(password, name, f"is encrypted ({wrapped.get('kind')}): give the password or the key")
        require(wrapped.get("kind") == "password", name, "its key is not wrapped by a password")
        memory, rounds, lanes = (wrapped.get(part) for part in ("memory_kib", "iterations", "lanes"))
        sane = type(memory) is type(rounds) is type(lanes) is int
        sane = sane and 8 <= memory <= 1 << 20 and 1 <= rounds <= 64 and 1 <= lanes <= 16
        require(sane and memory >= 8 * lanes, name, "unacceptable Argon2id parameters")
        salt = bytes.fromhex(wrapped["salt"])
        require(wrapped.get("algorithm") == "argon2id" and 8 <= len(salt) <= 64, name, "unknown wrapping")
        secret = unicodedata.normalize("NFC", password or "").encode()
        kek = Argon2id(salt=salt, length=32, iterations=rounds, lanes=lanes, memory_cost=memory)
        try:
            return AESGCM(kek.derive(secret)).decrypt(
                bytes(12), bytes.fromhex(wrapped["wrapped"]), b"holdfast/1/wrap" + self.id
            )
        except InvalidTag:
            raise Damaged(f"{name}: wrong password") from None

    def header(self, kind: int, epoch: int, ident: bytes) -> bytes:
        return b"HFST" + bytes((1, kind, epoch, 0)) + ident

    def binding(self, header: bytes, part: int, extra: bytes = b"") -> bytes:
        return b"holdfast/1/" + self.id + header + struct.pack(">I", part) + extra

    def open(self, header: bytes, part: int, sealed: bytes, name: str, extra: bytes = b"") -> bytes:
        if header[6] == 0:
            return sealed
        require(self.key and header[6] == self.epoch, name, "no key of its epoch")
        try:
            return AESGCM(self.derive(header)).decrypt(
                bytes(8) + struct.pack(">I", part), sealed, self.binding(header, part, extra)
            )
        except InvalidTag:
            raise Damaged(f"{name}: part {part} fails authentication") from None

    def envelope(self, name: str, content: bytes, kind: int, epoch: int) -> dict:
        header = content[:40]
        require(len(content) > 40 and header == self.header(kind, epoch, header[8:]), name, "wrong header")
        if epoch == 0:
            frame, digest = content[40:-32], content[-32:]
            bound = self.binding(header, 0, name.encode())
            require(hashlib.sha256(bound + frame).digest() == digest, name, "does not match its digest")
        else:
            frame = self.open(header, 0, content[40:], name, name.encode())
        return json.loads(unzstd(frame, 256 << 20, name))

    def points(self) -> list[str]:
        found = self.root.glob("points/*/*")
        return sorted(
            f"{p.parent.name}/{p.name}" for p in found if NAME.match(p.parent.name) and NAME.match(p.name)
        )

    def point(self, point: str) -> dict:
        name = f"points/{point}"
        content = self.read(name)
        epoch = content[6] if len(content) > 40 else 0
        if epoch == 0 and self.epoch:
            listed = self.adopted.get(name) == hashlib.sha256(content).hexdigest()
            require(listed, name, "is plain in an encrypted repository and was not taken over")
        manifest = self.envelope(name, content, POINT, epoch)
        require(manifest["format"] == 1, name, "unknown version of a manifest")
        instance = manifest["configuration"]["instance"]["instance_id"]
        require(f"{instance}/{manifest['point_id']}" == point, name, "describes another point")
        parts = [b"\x04"]
        for volume in manifest["volumes"]:
            refs = volume["segments"]
            count = -(-volume["size_bytes"] // (BLOCK * SEGMENT))
            require(len(refs) == count, name, "a volume has another number of segments than its size")
            require(
                all(ref is None or ref["epoch"] == epoch for ref in refs), name, "refers to another epoch"
            )
            roots = b"".join(bytes.fromhex(ref["root"]) if ref else ZERO for ref in refs)
            root = hashlib.sha256(b"\x03" + struct.pack(">Q", volume["size_bytes"]) + roots)
            require(root.hexdigest() == volume["root"], name, "a volume root is wrong")
            volume_id = volume["volume_id"].encode()
            parts += [struct.pack(">H", len(volume_id)), volume_id, root.digest()]
        require(hashlib.sha256(b"".join(parts)).hexdigest() == manifest["root"], name, "its root is wrong")
        return manifest

    def segment(self, ref: dict) -> list[tuple[int, bytes, bytes, int, int, int, int]]:
        """(block in the segment, digest, pack id, ordinal, offset, length, encoding), ascending by block."""
        ident, epoch = bytes.fromhex(ref["map_id"]), ref["epoch"]
        name = object_name("maps", ident)
        header = self.header(MAP, epoch, ident)
        table = self.open(header, LAST, self.read(name, ref["size"] - ref["table"], ref["table"]), name)
        digest = hashlib.sha256(self.binding(header, LAST) + table).hexdigest()
        require(digest == ref["digest"], name, "its table does not match its digest")
        older = table[0]
        objects = [ident] + [table[1 + 36 * k : 33 + 36 * k] for k in range(older)]
        start = 1 + 36 * older + 64
        present = int.from_bytes(table[start - 64 : start], "big")
        numbers = [page for page in range(512) if present >> page & 1]
        require(older <= 64 and len(table) == start + 74 * len(numbers), name, "its table is malformed")
        rows, contents = [], [ZERO] * 512
        for index, number in enumerate(numbers):
            entry = struct.unpack_from(">BBII32s32s", table, start + 74 * index)
            source, blocks, offset, length, contents[number], whole = entry
            require(source <= older, name, "its table refers to an object that it does not list")
            where = object_name("maps", objects[source])
            sealed = self.read(where, offset, length)
            page = self.open(self.header(MAP, epoch, objects[source]), number, sealed, where)
            require(hashlib.sha256(b"\0" + page).digest() == whole, where, f"page {number} is damaged")
            found = self.page(page, number, contents[number], where)
            require(len(found) == blocks, where, f"page {number} has another number of blocks")
            rows += found
        root = hashlib.sha256(b"\x02" + b"".join(contents)).hexdigest() if numbers else ZERO.hex()
        require(root == ref["root"] and len(rows) == ref["blocks"], name, "its root is wrong")
        return rows

    def page(
        self, page: bytes, number: int, content: bytes, name: str
    ) -> list[tuple[int, bytes, bytes, int, int, int, int]]:
        bitmap = int.from_bytes(page[:8], "big")
        slots = [slot for slot in range(PAGE) if bitmap >> slot & 1]
        packs_at = 8 + 32 * len(slots)
        right = hashlib.sha256(b"\x01" + page[:packs_at]).digest() == content
        require(right and slots, name, f"page {number} has another content digest")
        locators_at = packs_at + 1 + 36 * page[packs_at]
        require(len(page) == locators_at + 14 * len(slots), name, f"page {number} is malformed")
        rows = []
        for rank, slot in enumerate(slots):
            pack, ordinal, offset, length, encoding = struct.unpack_from(
                ">BIIIB", page, locators_at + 14 * rank
            )
            require(pack < page[packs_at] and length <= BLOCK + 16, name, f"page {number} points nowhere")
            pack_id = page[packs_at + 1 + 36 * pack :][:32]
            digest = page[8 + 32 * rank :][:32]
            rows.append((number * PAGE + slot, digest, pack_id, ordinal, offset, length, encoding))
        return rows

    def block(
        self, epoch: int, digest: bytes, pack: bytes, ordinal: int, offset: int, length: int, encoding: int
    ) -> bytes:
        name = object_name("packs", pack)
        sealed = self.read(name, offset, length)
        encoded = self.open(self.header(PACK, epoch, pack), ordinal, sealed, name)
        require(encoding in (0, 1), name, "unknown encoding")
        content = unzstd(encoded, BLOCK, name) if encoding else encoded
        right = len(content) == BLOCK and hashlib.sha256(content).digest() == digest
        require(right, name, f"block {ordinal} does not match its digest")
        return content

    def blocks(self, volume: dict):
        """(block index of the volume, content) of every allocated block of a volume of a manifest."""
        for segment, ref in enumerate(volume["segments"]):
            for index, *where in self.segment(ref) if ref else ():
                yield segment * SEGMENT + index, self.block(ref["epoch"], *where)


def object_name(folder: str, ident: bytes) -> str:
    return f"{folder}/{ident.hex()[:2]}/{ident.hex()}"


def extract(reader: Reader, point: str, volume_id: str, output: Path) -> str:
    """Write the image of a volume as a sparse file; the SHA-256 of the whole image."""
    volumes = {volume["volume_id"]: volume for volume in reader.point(point)["volumes"]}
    require(volume_id in volumes, f"points/{point}", f"has no volume {volume_id}, only {sorted(volumes)}")
    volume = volumes[volume_id]
    size = volume["size_bytes"]
    digest, position = hashlib.sha256(), 0
    zeros = bytes(BLOCK)
    with output.open("wb") as file:
        file.truncate(size)
        for index, content in reader.blocks(volume):
            at = index * BLOCK
            while position < at:
                digest.update(zeros)
                position += BLOCK
            content = content[: size - at]
            digest.update(content)
            os.pwrite(file.fileno(), content, at)
            position = at + len(content)
    while position < size:
        step = min(BLOCK, size - position)
        digest.update(zeros[:step])
        position += step
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--password-file", type=Path, help="file whose first line is the password")
    keys.add_argument("--key-file", type=Path, help="file with the repository key, 64 hex digits")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("points", help="list restore points as JSON lines")
    commands.add_parser("verify", help="read every block of every point")
    one = commands.add_parser("extract", help="write the image of one volume")
    one.add_argument("point", help="INSTANCE/POINT")
    one.add_argument("volume")
    one.add_argument("output", type=Path)
    options = parser.parse_args(arguments)
    password = key = None
    try:
        if options.password_file:
            password = options.password_file.read_text().splitlines()[0]
        if options.key_file:
            key = bytes.fromhex(options.key_file.read_text())
    except (OSError, ValueError, IndexError) as error:
        parser.error(f"no key in {options.password_file or options.key_file}: {error}")
    if key is not None and len(key) != 32:
        parser.error(f"the key in {options.key_file} has {len(key)} bytes, not 32")
    try:
        reader = Reader(options.directory, password, key)
        if options.command == "extract":
            print(extract(reader, options.point, options.volume, options.output))
            return 0
        for point in reader.points():
            manifest = reader.point(point)
            volumes = [
                {"volume_id": v["volume_id"], "size_bytes": v["size_bytes"]} for v in manifest["volumes"]
            ]
            line = {
                "point": point,
                "taken_at": manifest["taken_at"],
                "root": manifest["root"],
                "volumes": volumes,
            }
            if options.command == "verify":
                line["blocks"] = sum(1 for volume in manifest["volumes"] for _ in reader.blocks(volume))
            print(json.dumps(line))
    except Damaged as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
