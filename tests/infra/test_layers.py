"""The dependencies layer: pip alone, the platform of Lambda, and the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.model.configuration import Configuration
from infra.constructs import layers
from infra.synth import synthesize
from tests.infra.conftest import BACKUP_ACCOUNT, resources


@pytest.fixture
def nothing_but_a_hub() -> Configuration:
    return Configuration(backup_account=BACKUP_ACCOUNT, hub_region="eu-central-1")


def dependencies(assembly: Path) -> tuple[str, Path]:
    """Hash and directory of the dependencies layer."""
    template = json.loads((assembly / "holdfast-hub.template.json").read_text())
    (key,) = [
        found["Properties"]["Content"]["S3Key"]
        for found in resources(template, "AWS::Lambda::LayerVersion").values()
        if found["Properties"]["Description"] == "Third-party libraries"
    ]
    files = json.loads((assembly / "holdfast-hub.assets.json").read_text())["files"]
    identity = key.removesuffix(".zip")
    return identity, assembly / files[identity]["source"]["path"]


def test_bundling_takes_what_the_cache_holds_for_this_lock_and_never_its_hash_for_an_empty_layer(
    nothing_but_a_hub: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    identity = layers.dependencies_hash(bool(layers.compiler()))
    built = tmp_path / "cache" / f"dependencies-{identity[:16]}" / "python"
    built.mkdir(parents=True)
    (built / "library.py").write_text("answer = 42\n")
    monkeypatch.setattr(layers, "CACHE", tmp_path / "cache")
    full, directory = dependencies(synthesize(nothing_but_a_hub, tmp_path / "full", bundling=True))
    assert (directory / "python" / "library.py").read_text() == "answer = 42\n"
    empty, directory = dependencies(synthesize(nothing_but_a_hub, tmp_path / "empty", bundling=False))
    assert not (directory / "python").exists()
    assert empty != full


def test_the_hash_follows_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = layers.dependencies_hash(compiled=False)
    lock = tmp_path / "runtime.txt"
    lock.write_bytes(layers.LOCK.read_bytes() + b"another==1.0\n")
    monkeypatch.setattr(layers, "LOCK", lock)
    assert layers.dependencies_hash(compiled=False) != before


def test_pip_installs_locked_wheels_of_the_lambda_platform_and_nothing_else(tmp_path: Path):
    command = layers.pip_command(tmp_path)
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} <= set(command)
    assert command[command.index("--python-version") + 1] == "3.13"
    platforms = {command[place + 1] for place, word in enumerate(command) if word == "--platform"}
    assert platforms
    assert all(platform.endswith("_aarch64") for platform in platforms)
    assert command[command.index("--requirement") + 1] == str(layers.LOCK)
