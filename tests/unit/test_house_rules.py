"""Rules that no other tool checks, over the files under version control."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = {"package-lock.json", "LICENSE"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    content = path.read_bytes()
    return None if b"\0" in content else content.decode()


def lines_matching(pattern: str, *paths: str) -> list[str]:
    wanted = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked(*paths)
        if path.name not in GENERATED and (text := text_of(path)) is not None
        for number, line in enumerate(text.splitlines(), 1)
        if wanted.search(line)
    ]


def test_there_are_files_under_version_control_to_check():
    assert ROOT / "pyproject.toml" in tracked("*.toml")


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    assert lines_matching(r"""(?<![\w.$}\]-])/(work|root|home/\w+|Users|tmp)/\w""") == []


# The brackets keep a pattern from finding itself.
@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"\b(TOD[O]|FIXM[E]|XX[X])\b", id="unfinished work"),
        pytest.param(r"\bNotImplemented[E]rror\b", id="hollow functions"),
        pytest.param(r"pragma:[ ]no cover", id="lines hidden from coverage"),
        pytest.param(r"\b(pytest|mark)\.(skip|skipif|xfail|importorskip)\b", id="tests that do not run"),
        pytest.param(r"\bassert[ ]True\b", id="assertions that cannot fail"),
    ],
)
def test_python_files_leave_nothing_open(pattern: str):
    assert lines_matching(pattern, "*.py") == []


def test_handlers_are_at_most_60_lines():
    lengths = {path.name: len(path.read_text().splitlines()) for path in tracked("functions/*.py")}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_modules_of_the_library_are_at_most_500_lines():
    lengths = {
        path.name: len(path.read_text().splitlines()) for path in tracked("layers/*.py", "simulator/*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_python_dependencies_are_locked_with_hashes_and_without_addresses():
    locks = tracked("requirements/*.txt")
    assert {path.stem for path in locks} == {"runtime", "cli", "dev"}
    assert (
        lines_matching(r"://|^\s*(-i|-f|--(extra-)?index-url|--find-links)\b|@ ", "requirements/*.txt") == []
    )
    for path in locks:
        requirements = re.sub(r"\\\n\s*", "", path.read_text()).splitlines()
        assert [line for line in requirements if "==" not in line or "--hash=sha256:" not in line] == [], (
            path.name
        )


def test_the_smaller_locks_hold_the_versions_of_the_development_lock():
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert pins("runtime.txt") <= pins("cli.txt") <= pins("dev.txt")


def test_no_lock_of_another_tool_is_kept_beside_them():
    assert (
        tracked("uv.lock", "**/uv.lock", "poetry.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml") == []
    )


def test_node_dependencies_are_locked_with_hashes_and_without_addresses():
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert [name for name, package in installed.items() if "resolved" in package] == []
    assert [
        name for name, package in installed.items() if not package["integrity"].startswith("sha512-")
    ] == []
