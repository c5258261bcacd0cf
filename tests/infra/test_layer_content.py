"""The layers carry all that the functions import: what is left out must not be missed at a cold start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.constructs.layers import CORE, LEFT_OUT, LOCK
from infra.function_table import FUNCTIONS_DIRECTORY

ROOT = Path(__file__).parents[2]

# Imports modules where neither a library outside the lock nor our own code outside the layers can be found.
IMPORT_DEPLOYED = """
import importlib, importlib.metadata, sys

locked, left_out, modules = (argument.split(",") for argument in sys.argv[1:])
spelled = lambda name: name.lower().replace("_", "-")
foreign = {
    top
    for top, owners in importlib.metadata.packages_distributions().items()
    if not {spelled(owner) for owner in owners} & set(locked)
}
absent = [*foreign, *left_out, "infra", "simulator", "tools", "benchmarks", "tests"]

class LeftOut:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{one}.") for one in absent):
            raise ModuleNotFoundError(f"{name} is not deployed")

sys.meta_path.insert(0, LeftOut())
for module in modules:
    importlib.import_module(module)
"""


def import_deployed(*modules: str) -> subprocess.CompletedProcess[str]:
    """Import modules in a process of their own that finds nothing but what is deployed."""
    locked = ",".join(name.lower() for name in re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE))
    left_out = ",".join(f"holdfast.{name.removesuffix('.py')}" for name in LEFT_OUT)
    return subprocess.run(
        [sys.executable, "-c", IMPORT_DEPLOYED, locked, left_out, ",".join(modules)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{CORE / 'python'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_function_and_every_module_of_the_layer_can_be_imported_there():
    library = CORE / "python" / "holdfast"
    inside = [path.relative_to(library) for path in sorted(library.rglob("*.py"))]
    modules = [
        ".".join(("holdfast", *path.with_suffix("").parts))
        for path in inside
        if path.parts[0] not in LEFT_OUT and path.name != "__init__.py"
    ]
    verbs = [f"functions.{path.stem}" for path in sorted(FUNCTIONS_DIRECTORY.glob("[!_]*.py"))]
    ran = import_deployed(*modules, *verbs)
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize("module", ["holdfast.cli.main", "holdfast.configuration", "ruamel.yaml", "moto"])
def test_what_is_left_out_cannot_be_imported_there(module: str):
    ran = import_deployed(module)
    assert ran.returncode == 1
    assert "is not deployed" in ran.stderr
