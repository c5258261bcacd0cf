"""Commands on repositories that are directories: listing, checking, images, keys, the catalog again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.restore import _new_file
from holdfast.model.blocks import BLOCK_SIZE, GIB
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.repository_builders import (
    INSTANCE,
    VOLUME,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    password,
    write_segment,
)

CONTENT = {0: block("boot"), 1: block("next"), 900: block("far", compressible=True), 2047: block("last")}
SECRET = "correct horse"
Command = Callable[..., Any]


def expected_sha256() -> str:
    digest = hashlib.sha256()
    for index in range(GIB // BLOCK_SIZE):
        digest.update(CONTENT.get(index, bytes(BLOCK_SIZE)))
    return digest.hexdigest()


def fill(repository: Repository, *points: str) -> None:
    for number, point in enumerate(points):
        ref = write_segment(repository, CONTENT, ids=SeededIds(f"blocks {number}"))
        manifest = make_manifest({0: ref}, point_id=point)
        instance = manifest.configuration.instance
        root = (instance.volumes[0].model_copy(update={"root": True}),)
        rooted = manifest.configuration.model_copy(
            update={"instance": instance.model_copy(update={"volumes": root})}
        )
        commit(repository, manifest.model_copy(update={"configuration": rooted}))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """An unencrypted repository with two points."""
    folder = tmp_path / "plain"
    folder.mkdir()
    fill(make_repository(DirectoryStore(folder)), "p1", "p2")
    return folder


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The same under a password."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    fill(make_repository(DirectoryStore(folder), password(SECRET)), "p1", "p2")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "password.txt"
    path.write_text(f"{SECRET}\n")
    return str(path)


def damage(folder: Path, kind: str) -> str:
    """Flip a bit in the middle of an object; its key."""
    path = next(path for path in sorted((folder / kind).rglob("*")) if path.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.relative_to(folder).as_posix()


def test_an_image_equals_the_volume_and_is_sparse(
    holdfast: Command, sealed: Path, key: str, tmp_path: Path
) -> None:
    image = tmp_path / "disk.raw"
    ended = holdfast(
        "restore", "image", str(image), "--repository", f"file://{sealed}", "--instance", INSTANCE,
        "--password-file", key, "--output", "json",
    )  # fmt: skip
    assert ended.code == 0
    assert ended.result == {
        "instance": INSTANCE,
        "restore_point": "p2",
        "volume": VOLUME,
        "size_bytes": GIB,
        "blocks_written": 4,
        "image": str(image),
        "sha256": expected_sha256(),
    }
    assert hashlib.sha256(image.read_bytes()).hexdigest() == expected_sha256()
    assert os.stat(image).st_blocks * 512 <= 5 * BLOCK_SIZE


@pytest.mark.parametrize("volume", ["", VOLUME, "/dev/xvda"])
def test_a_volume_is_named_by_id_or_device_and_the_root_by_nothing(
    holdfast: Command, plain: Path, tmp_path: Path, volume: str
) -> None:
    chosen = ("--volume", volume) if volume else ()
    ended = holdfast(
        "restore", "image", str(tmp_path / "disk.raw"), "--repository", f"file://{plain}",
        "--instance", INSTANCE, "--point", "p1", *chosen,
    )  # fmt: skip
    assert (ended.code, ended.result["restore_point"], ended.result["volume"]) == (0, "p1", VOLUME)


@pytest.mark.parametrize(
    "words",
    [
        ("--point", "p9", "--instance", INSTANCE),
        ("--instance", "i-0000beef"),
        ("--instance", INSTANCE, "--volume", "/dev/sdz"),
    ],
)
def test_what_the_repository_does_not_have_is_exit_code_4(
    holdfast: Command, plain: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    image = tmp_path / "disk.raw"
    assert holdfast("restore", "image", str(image), "--repository", f"file://{plain}", *words).code == 4
    assert not image.exists()


def test_a_name_that_could_leave_its_folder_is_refused(
    holdfast: Command, plain: Path, tmp_path: Path
) -> None:
    ended = holdfast(
        "restore", "image", str(tmp_path / "disk.raw"), "--repository", f"file://{plain}",
        "--instance", "..", "--point", "../owner.json",
    )  # fmt: skip
    assert (ended.code, "cannot name a restore point" in ended.err) == (1, True)


def test_a_file_that_exists_is_never_overwritten(holdfast: Command, plain: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_text("precious")
    ended = holdfast(
        "restore", "image", str(image), "--repository", f"file://{plain}", "--instance", INSTANCE
    )
    assert (ended.code, image.read_text()) == (1, "precious")


def test_an_image_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    with _new_file(image) as file:
        file.write(b"half")
        assert not image.exists()
        file.write(b" and half")
    assert image.read_bytes() == b"half and half"
    assert list(tmp_path.iterdir()) == [image]


def test_what_a_killed_run_left_is_named_and_not_touched(
    holdfast: Command, plain: Path, tmp_path: Path
) -> None:
    left = tmp_path / "disk.raw.partial"
    left.write_text("half")
    ended = holdfast(
        "restore", "image", str(tmp_path / "disk.raw"), "--repository", f"file://{plain}",
        "--instance", INSTANCE,
    )  # fmt: skip
    assert (ended.code, left.read_text()) == (1, "half")
    assert not (tmp_path / "disk.raw").exists()


def test_of_a_damaged_repository_no_image_is_left(
    holdfast: Command, sealed: Path, key: str, tmp_path: Path
) -> None:
    for kind in ("packs",):
        for path in [path for path in (sealed / kind).rglob("*") if path.is_file()]:
            content = bytearray(path.read_bytes())
            content[500] ^= 1
            path.write_bytes(content)
    image = tmp_path / "disk.raw"
    ended = holdfast(
        "restore", "image", str(image), "--repository", f"file://{sealed}", "--instance", INSTANCE,
        "--password-file", key,
    )  # fmt: skip
    assert (ended.code, "packs/" in ended.err) == (1, True)
    assert not image.exists()


@pytest.mark.parametrize(
    "content,told", [("wrong\n", "does not open"), ("", "no first line"), (None, "cannot be read")]
)
def test_a_wrong_password_file_is_told(
    holdfast: Command, sealed: Path, tmp_path: Path, content: str | None, told: str
) -> None:
    path = tmp_path / "other.txt"
    if content is not None:
        path.write_text(content)
    ended = holdfast("repository", "list", "--repository", f"file://{sealed}", "--password-file", str(path))
    assert (ended.code, told in ended.err) == (1, True)


def test_a_missing_password_is_told_with_the_option(holdfast: Command, sealed: Path) -> None:
    ended = holdfast("repository", "list", "--repository", f"file://{sealed}")
    assert (ended.code, "--password-file" in ended.err) == (1, True)


def test_with_a_password_a_repository_that_lost_its_encryption_is_not_trusted(
    holdfast: Command, plain: Path, key: str
) -> None:
    ended = holdfast("repository", "list", "--repository", f"file://{plain}", "--password-file", key)
    assert (ended.code, "not encrypted" in ended.err) == (1, True)


@pytest.mark.parametrize("address", ["file:///no/such/folder", "file://host/share"])
def test_an_address_that_leads_nowhere_is_told(holdfast: Command, address: str) -> None:
    assert holdfast("repository", "list", "--repository", address).code in (1, 4)


def test_the_repository_itself_lists_its_points(holdfast: Command, sealed: Path, key: str) -> None:
    ended = holdfast("repository", "list", "--repository", f"file://{sealed}", "--password-file", key)
    assert [point["point_id"] for point in ended.result] == ["p1", "p2"]


def test_a_sound_repository_is_exit_code_0(holdfast: Command, sealed: Path, key: str) -> None:
    ended = holdfast(
        "repository", "check", "--read-data", "--repository", f"file://{sealed}", "--password-file", key
    )
    assert (ended.code, ended.result["sound"], ended.result["points"]) == (0, True, 2)
    assert ended.result["blocks_read"] == 8


@pytest.mark.parametrize("kind", ["points", "maps", "packs"])
def test_a_damaged_object_is_named_with_the_points_that_lose_by_it(
    holdfast: Command, sealed: Path, key: str, kind: str
) -> None:
    damaged = damage(sealed, kind)
    ended = holdfast(
        "repository", "check", "--read-data", "--repository", f"file://{sealed}", "--password-file", key
    )
    assert (ended.code, ended.result["sound"]) == (1, False)
    (told,) = ended.result["damages"]
    assert told["object"] == damaged
    assert told["restore_points"] in ([f"{INSTANCE}/p1"], [f"{INSTANCE}/p2"])


def test_a_new_password_replaces_the_old_one(
    holdfast: Command, sealed: Path, key: str, tmp_path: Path
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("battery staple\n")
    address = ("--repository", f"file://{sealed}")
    before = {path: path.read_bytes() for path in sealed.rglob("*") if path.is_file()}
    ended = holdfast("repository", "rekey", *address, "--password-file", key, "--new-password-file", str(new))
    assert ended.result == {"repository": f"file://{sealed}", "key": "password"}
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"repository.json"}
    assert holdfast("repository", "list", *address, "--password-file", key).code == 1
    assert holdfast("repository", "list", *address, "--password-file", str(new)).code == 0


@pytest.mark.parametrize("command", ["rekey", "encrypt"])
@pytest.mark.parametrize("words", [(), ("--new-password-file", "a", "--new-kms-key", "arn:aws:kms:x")])
def test_exactly_one_new_key_is_given(
    holdfast: Command, sealed: Path, command: str, words: tuple[str, ...]
) -> None:
    assert holdfast("repository", command, "--repository", f"file://{sealed}", *words).code == 2


def test_a_plain_repository_can_be_encrypted_and_keeps_its_points(
    holdfast: Command, plain: Path, key: str
) -> None:
    address = ("--repository", f"file://{plain}")
    assert holdfast("repository", "encrypt", *address, "--new-password-file", key, "--yes").code == 0
    ended = holdfast("repository", "list", *address, "--password-file", key)
    assert [point["point_id"] for point in ended.result] == ["p1", "p2"]
    assert holdfast("repository", "list", *address).code == 1


def test_the_catalog_is_written_again_from_the_repository(
    holdfast: Command, aws: Any, sealed: Path, key: str
) -> None:
    ended = holdfast(
        "repository", "rebuild", "--repository", f"file://{sealed}", "--name", "main", "--password-file", key
    )
    assert (ended.code, ended.result) == (0, {"restore_points": 2, "damaged": []})
    points = list(aws.catalog.points(INSTANCE))
    assert [(point.point_id, point.repository) for point in points] == [("p1", "main"), ("p2", "main")]
    assert aws.catalog.configuration(INSTANCE, "p2").instance.name == "web"


def test_a_damaged_point_does_not_keep_the_others_from_the_catalog(
    holdfast: Command, aws: Any, sealed: Path, key: str
) -> None:
    damage(sealed, "points")
    ended = holdfast(
        "repository", "rebuild", "--repository", f"file://{sealed}", "--name", "main", "--password-file", key
    )
    assert (ended.code, ended.result["restore_points"]) == (3, 1)
    assert ended.result["damaged"][0]["restore_point"] == f"{INSTANCE}/p1"


def test_the_catalog_takes_only_points_that_functions_can_find_again(
    holdfast: Command, aws: Any, plain: Path
) -> None:
    ended = holdfast("repository", "rebuild", "--repository", f"file://{plain}")
    assert (ended.code, "--name" in ended.err) == (1, True)
    assert list(aws.catalog.points(INSTANCE)) == []


def test_a_repository_nobody_configured_is_told_with_those_there_are(
    holdfast: Command, aws: Any, key: str
) -> None:
    ended = holdfast("repository", "list", "--repository", "other", "--password-file", key)
    assert (ended.code, "The configuration has: main." in ended.err) == (1, True)
