"""Repositories that earlier releases wrote stay readable for ever, by both readers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import KeyWrapper
from holdfast.repository.layout import MAX_MAP_REFERENCES, point_name
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.golden.make_v1 import KMS, PASSWORD
from tests.repository_builders import (
    INSTANCE,
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
from tools.read_repository import Reader

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "v1"
EXPECTED: dict[str, dict[str, dict[str, dict[str, str]]]] = json.loads((GOLDEN / "expected.json").read_text())
WRAPPERS: dict[str, KeyWrapper | None] = {
    "plain": None,
    "kms": FakeKms(KMS),
    "password": password(PASSWORD),
    "adopted": password(PASSWORD),
}


def key_options(name: str, folder: Path) -> list[str]:
    """How the second reader gets the key: a password where there is one, else the key itself."""
    if name == "plain":
        return []
    if name == "kms":
        return ["--key-file", str(GOLDEN / "kms.key")]
    (folder / "password").write_text(PASSWORD + "\n")
    return ["--password-file", str(folder / "password")]


def second_reader(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs with nothing of the product on its path."""
    return subprocess.run(
        [sys.executable, "-I", str(ROOT / "tools" / "read_repository.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_there_is_a_golden_repository_of_every_encryption():
    assert set(EXPECTED) == set(WRAPPERS)
    total = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    assert total < 300 << 10


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_the_library_reads_every_block_of_it(name: str):
    repository = Repository.open(DirectoryStore(GOLDEN / name), WRAPPERS[name])
    for point, volumes in EXPECTED[name].items():
        manifest = repository.read_point(point_name(INSTANCE, point))
        assert [volume.volume_id for volume in manifest.volumes] == sorted(volumes)
        for number, blocks in enumerate(volumes.values()):
            found = read_volume(repository, point_name(INSTANCE, point), number)
            assert {str(i): hashlib.sha256(data).hexdigest() for i, data in found.items()} == blocks
    assert repository.check(read_data=True).sound


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_the_second_reader_verifies_it(name: str, tmp_path: Path):
    ran = second_reader(str(GOLDEN / name), *key_options(name, tmp_path), "verify")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {line["point"]: line["blocks"] for line in lines} == {
        f"{INSTANCE}/{point}": sum(map(len, volumes.values())) for point, volumes in EXPECTED[name].items()
    }
    repository = Repository.open(DirectoryStore(GOLDEN / name), WRAPPERS[name])
    roots = {f"{p.instance_id}/{p.point_id}": repository.read_point(p).root for p in repository.list_points()}
    assert {line["point"]: line["root"] for line in lines} == roots


@pytest.mark.parametrize("name", ["adopted"])
def test_the_second_reader_extracts_the_image_of_a_volume(name: str, tmp_path: Path):
    output = tmp_path / "image"
    point = f"{INSTANCE}/p2"
    ran = second_reader(
        str(GOLDEN / name), *key_options(name, tmp_path), "extract", point, "vol-b", str(output)
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    last = bytes(BLOCK_SIZE - 1) + b"\1"
    digest = hashlib.sha256()
    for _ in range(2047):
        digest.update(bytes(BLOCK_SIZE))
    digest.update(last)
    assert ran.stdout.strip() == digest.hexdigest()
    assert output.stat().st_size == 1 << 30
    with output.open("rb") as file:
        file.seek(2047 * BLOCK_SIZE)
        assert file.read() == last
    assert output.stat().st_blocks * 512 < 8 << 20, "zeros are not written"


def test_the_second_reader_finds_blocks_of_every_segment():
    reader = Reader(GOLDEN / "plain")
    assert reader.points() == [f"{INSTANCE}/p1", f"{INSTANCE}/p2"]
    for point, volumes in EXPECTED["plain"].items():
        for volume in reader.point(f"{INSTANCE}/{point}")["volumes"]:
            found = {str(i): hashlib.sha256(data).hexdigest() for i, data in reader.blocks(volume)}
            assert found == volumes[volume["volume_id"]]


@pytest.mark.parametrize("folder", ["packs", "maps", "points"])
@pytest.mark.parametrize("name", ["plain", "password"])
def test_the_second_reader_names_what_is_damaged(name: str, folder: str, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(GOLDEN / name, copy)
    victim = min(path for path in (copy / folder).rglob("*") if path.is_file())
    content = bytearray(victim.read_bytes())
    content[len(content) // 3] ^= 1
    victim.write_bytes(content)
    ran = second_reader(str(copy), *key_options(name, tmp_path), "verify")
    assert ran.returncode == 1
    assert ran.stderr.startswith(victim.relative_to(copy).as_posix())


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("password", [], "give the password"),
        ("kms", [], "give the password or the key"),
        ("plain", ["--key-file", str(GOLDEN / "kms.key")], "is plain although a key was given"),
        ("kms", ["--key-file", str(GOLDEN / "password.key")], "fails authentication"),
    ],
)
def test_the_second_reader_refuses_a_wrong_key(name: str, options: list[str], message: str):
    ran = second_reader(str(GOLDEN / name), *options, "points")
    assert ran.returncode == 1
    assert message in ran.stderr


@pytest.mark.parametrize("option", ["--password-file", "--key-file"])
@pytest.mark.parametrize("text", ["", "\n", "abc", None])
def test_the_second_reader_says_when_a_file_holds_no_key(option: str, text: str | None, tmp_path: Path):
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    ran = second_reader(str(GOLDEN / "password"), option, str(file), "points")
    wrong = option == "--password-file" and text in ("abc", "\n")
    assert ran.returncode == (1 if wrong else 2)
    assert ("password" if wrong else "key") in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_second_reader_imports_nothing_of_the_product():
    source = (ROOT / "tools" / "read_repository.py").read_text()
    assert "import holdfast" not in source
    assert "from holdfast" not in source


@pytest.mark.parametrize("wrapper", [None, password("p")], ids=["plain", "encrypted"])
def test_the_second_reader_reads_a_fragmented_repository_with_raw_blocks(
    wrapper: KeyWrapper | None, tmp_path: Path
):
    """More backups than a table may refer to, and blocks that do not compress."""
    repository = make_repository(DirectoryStore(tmp_path), wrapper)
    ids = SeededIds()
    content = {index * 64: block(index, compressible=True) for index in range(70)}
    content[1] = block("raw")
    ref = write_segment(repository, content, ids=ids)
    for step in range(70):
        content[step * 64] = bytes([step]) * BLOCK_SIZE
        ref = write_segment(repository, {step * 64: content[step * 64]}, previous=ref, ids=ids)
    name = commit(repository, make_manifest({0: ref}))
    reader = Reader(tmp_path, "p" if wrapper else None)
    (volume,) = reader.point(f"{name.instance_id}/{name.point_id}")["volumes"]
    assert dict(reader.blocks(volume)) == content
    assert len(repository.load_map(ref).table.objects) == MAX_MAP_REFERENCES
