"""Makes one test of every vector: of the specification, and of each file given with ``--vectors``."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parent


def vectors_in(path: Path) -> list[tuple[str, dict]]:
    """Section and vector, in the order of the file."""
    content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return [
        (section, vector)
        for section, vectors in content.items()
        if isinstance(vectors, list)
        for vector in vectors
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vector" not in metafunc.fixturenames:
        return
    files = [HERE / "policy_vectors.yaml", *map(Path, metafunc.config.getoption("--vectors"))]
    found = [(section, vector) for path in files for section, vector in vectors_in(path)]
    metafunc.parametrize("section, vector", found, ids=[vector["id"] for _, vector in found])
