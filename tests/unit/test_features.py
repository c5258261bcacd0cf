"""The table of features names every feature once, and only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.vectors.conftest import vectors_in

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| ([PI]\d+) \| ([^|]+) \| ([^|]+) \| ([^|]*) \|$",
    (ROOT / "docs/features.md").read_text(),
    re.MULTILINE,
)


def test_every_feature_has_one_row():
    wanted = [f"P{number}" for number in range(1, 89)] + [f"I{number}" for number in range(1, 63)]
    assert [row[0] for row in ROWS] == wanted


def test_every_row_names_a_test_or_says_why_not():
    assert [row[0] for row in ROWS if row[2].strip() == "–" and not row[3].strip()] == []


def test_every_test_that_is_named_exists():
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    known = set(re.findall(r"^ *(?:async )?def (test_\w+)", written, re.MULTILINE))
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[2])}
    assert named - known == set()


def test_every_vector_that_is_named_exists_and_every_vector_is_named():
    known = {vector["id"] for _, vector in vectors_in(ROOT / "tests/vectors/policy_vectors.yaml")}
    named = {name for row in ROWS for name in re.findall(r"vector ([A-Z]+-\d+)", row[2])}
    assert named - known == set()
    assert known - named == set()
