"""The entry of the CDK command line, run as the command line runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_app(outdir: Path, *, validation: bool = False, **context: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(outdir),
        "CDK_CONTEXT_JSON": json.dumps(context),
        "CDK_VALIDATION": "true" if validation else "false",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "app.py"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_example_configuration_is_synthesized_and_passes_cdks_own_validation(tmp_path: Path):
    ran = run_app(tmp_path, validation=True, bundling="false")
    assert ran.returncode == 0, ran.stderr
    stacks = {path.name.removesuffix(".template.json") for path in tmp_path.glob("*.template.json")}
    assert {"holdfast-hub", "holdfast-cell-eu-central-1", "holdfast-repository-main"} <= stacks


def test_an_error_in_the_configuration_is_told_with_its_place_and_nothing_is_written(tmp_path: Path):
    directory, outdir = tmp_path / "config", tmp_path / "out"
    directory.mkdir()
    (directory / "settings.yaml").write_text(
        'backup_account: "111122223333"\nhub_region: eu-central-1\npolicys: []\n'
    )
    ran = run_app(outdir, config=str(directory), bundling="false")
    assert ran.returncode == 1
    assert f"{directory / 'settings.yaml'}:3:1: error:" in ran.stderr
    assert "policies" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (outdir / "manifest.json").exists()


def test_a_missing_configuration_is_told_with_a_remedy(tmp_path: Path):
    ran = run_app(tmp_path / "out", config=str(tmp_path / "nowhere"))
    assert ran.returncode == 1
    assert "nowhere" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_entry_stays_short():
    assert len((ROOT / "app.py").read_text().splitlines()) <= 25
