"""The command line against a deployed installation; every command opens the simulated AWS anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simulator
from holdfast.cli.main import run
from holdfast.settings import Settings
from tests.disks import noise
from tests.scenarios.conftest import HUB, SHOP, WEST, Installation, configuration


@pytest.fixture
def holdfast(
    deployed: tuple[Path, Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command on a copy of the deployed installation; its result. Other codes than 0 are asked for."""
    shutil.copytree(deployed[0], tmp_path / "aws", symlinks=True)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/all.yaml").write_text(configuration().model_dump_json(exclude_defaults=True))

    def command(*words: str, code: int = 0) -> Any:
        common = ("--simulate", str(tmp_path / "aws"), "--config", str(tmp_path / "config"), "--quiet")
        ended = run([*common, *words])
        shown = capsys.readouterr()
        assert (ended, shown.err if ended != code else "") == (code, "")
        return json.loads(shown.out) if shown.out else shown.err

    return command


def write(tmp_path: Path, settings: Settings) -> tuple[str, dict[str, str]]:
    """Something on the disks of `db`; the instance, and SHA-256 by device."""
    with simulator.open(tmp_path / "aws") as sim:
        installation = Installation(sim, settings)
        volumes = installation.volumes("db")
        for volume_id in volumes.values():
            sim.ebs.write_blocks(volume_id, 5, noise(volume_id))
        hashed = {device: sim.ebs.volume_content(one).sha256() for device, one in volumes.items()}
        return installation.instance_id("db"), hashed


def test_a_policy_started_by_hand_is_restored_by_hand(
    holdfast: Callable[..., Any], deployed: tuple[Path, Settings], tmp_path: Path
) -> None:
    instance_id, before = write(tmp_path, deployed[1])
    session = holdfast("policy", "start", "daily", "--wait")
    assert session["state"] == "Success"
    shown = holdfast("session", "show", session["session_id"])
    assert instance_id in {one["instance_id"] for one in shown["instances"]}
    points = holdfast("points", "list", "--instance", instance_id)
    assert {point["kind"] for point in points} == {"snapshot", "backup"}

    restored = holdfast(
        "restore", "volume", "--instance", instance_id, "--availability-zone", f"{HUB}a", "--yes"
    )
    (volume,) = restored["volumes"]
    assert (restored["request"]["repository"], restored["finished"]) == ("main", True)
    listed = holdfast("simulate", "volumes", "--query", f"[?volume_id=='{volume['volume_id']}']")
    assert listed[0]["account"] == SHOP

    assert holdfast("repository", "check", "--repository", "main")["sound"] is True
    image = tmp_path / "disk.raw"
    told = holdfast("restore", "image", str(image), "--repository", "main", "--instance", instance_id)
    assert {told["sha256"]} == set(before.values())
    assert image.stat().st_size == told["size_bytes"]


def test_a_manual_snapshot_is_copied_and_restored_from_the_copy(
    holdfast: Callable[..., Any], deployed: tuple[Path, Settings], tmp_path: Path
) -> None:
    instance_id, _ = write(tmp_path, deployed[1])
    taken = holdfast("snapshot", instance_id, "--role", "shop", "--copy-region", WEST, "--wait")
    assert taken["copies"].keys() == taken["snapshots"].keys()
    words = ("--instance", instance_id, "--availability-zone", f"{WEST}a", "--region", WEST, "--yes")
    (volume,) = holdfast("restore", "volume", *words)["volumes"]
    assert volume["snapshot_id"] in taken["copies"].values()


def test_what_a_function_refuses_is_told_by_the_command(holdfast: Callable[..., Any]) -> None:
    told = holdfast("snapshot", "i-0123456789abcdef0", "--role", "shop", code=1)
    assert told.startswith("holdfast: ec2:DescribeInstances failed: InvalidInstanceID.NotFound: ")
    told = holdfast("snapshot", "i-0123456789abcdef0", "--role", "nobody", code=1)
    assert told.startswith("holdfast: i-0123456789abcdef0: The account of the instance is not known.")
