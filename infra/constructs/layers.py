"""The layers that functions share: third-party wheels, our library, the validated configuration.

The dependencies layer is made by pip alone, from the lock with its hashes, for the Lambda platform; a machine
without Docker builds the same bytes. Its hash covers the lock and this file: only a change of one of them
uploads it again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from holdfast.bundle import dump_bundle
from holdfast.model.configuration import Configuration
from infra.names import with_keys

ROOT: Final = Path(__file__).parent.parent.parent
LOCK: Final = ROOT / "requirements" / "runtime.txt"
DEPENDENCIES: Final = ROOT / "layers" / "dependencies"
CORE: Final = ROOT / "layers" / "core"
CACHE: Final = ROOT / "build" / "layers"
CONFIGURATION_FILE: Final = "configuration.json"
CONFIGURATION_PATH: Final = f"/opt/{CONFIGURATION_FILE}"

RUNTIME: Final = lambda_.Runtime.PYTHON_3_13
ARCHITECTURE: Final = lambda_.Architecture.ARM_64
PYTHON: Final = "3.13"
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
# For the command line and for synthesis; their libraries are not in the dependencies layer.
LEFT_OUT: Final = ("cli", "configuration.py", "yaml_tree.py")
GENERATED: Final = ["**/__pycache__", "**/*.pyc", "**/.*"]


def compiler() -> str:
    """A Python of the runtime's minor version, whose bytecode the runtime can use; empty for none."""
    found = shutil.which(f"python{PYTHON}")
    if not found:
        return ""
    answer = subprocess.run([found, "-c", "print('ok')"], capture_output=True, text=True, check=False)
    return found if answer.stdout.strip() == "ok" else ""


def dependencies_hash(compiled: bool) -> str:
    """Identity of the dependencies layer: what it is made from and how."""
    parts = (LOCK.read_bytes(), Path(__file__).read_bytes(), b"compiled" if compiled else b"source")
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def pip_command(target: Path) -> list[str]:
    """The command that installs the locked wheels for the Lambda platform into ``target``."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms),
        *("--target", str(target), "--requirement", str(LOCK)),
    ]


def install_dependencies(target: Path, compiler: str = "") -> None:
    """Install the dependencies into ``target``.

    With ``compiler`` the bytecode is made ahead: it spares a cold start the better part of a second. Raises
    CalledProcessError, after pip's own words, when a wheel is missing or its hash is wrong.
    """
    subprocess.run(pip_command(target), check=True)
    shutil.rmtree(target / "bin", ignore_errors=True)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)
    if compiler:
        mode = ("--invalidation-mode", "unchecked-hash")
        subprocess.run([compiler, "-m", "compileall", "-q", *mode, str(target)], check=True)


@jsii.implements(cdk.ILocalBundling)
class _PipBundling:
    """Fills the asset from the cache, and the cache by pip."""

    def __init__(self, identity: str, compiler: str) -> None:
        self.identity = identity
        self.compiler = compiler

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        cached = CACHE / f"dependencies-{self.identity[:16]}"
        if not cached.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                built = Path(scratch) / "built"
                install_dependencies(built / "python", self.compiler)
                with suppress(OSError):  # somebody else was faster, with the same content
                    built.rename(cached)
        shutil.copytree(cached, output_dir, dirs_exist_ok=True)
        return True


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of every function of a stack, in the order in which Lambda lays them over each other."""

    dependencies: lambda_.LayerVersion
    core: lambda_.LayerVersion
    configuration: lambda_.LayerVersion

    def all(self) -> list[lambda_.ILayerVersion]:
        return [self.dependencies, self.core, self.configuration]


def _layer(scope: Construct, name: str, code: lambda_.Code, description: str) -> lambda_.LayerVersion:
    return lambda_.LayerVersion(
        scope,
        name,
        code=code,
        description=description,
        compatible_runtimes=[RUNTIME],
        compatible_architectures=[ARCHITECTURE],
    )


def _dependencies_code(scope: Construct) -> lambda_.Code:
    if not cdk.Stack.of(scope).bundling_required:
        # Under the hash of the full layer, an empty one could take its place in the asset bucket for good.
        return lambda_.Code.from_asset(str(DEPENDENCIES))
    found = compiler()
    identity = dependencies_hash(bool(found))
    return lambda_.Code.from_asset(
        str(DEPENDENCIES),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=identity,
        bundling=cdk.BundlingOptions(
            image=cdk.DockerImage.from_registry(
                "unused"
            ),  # local bundling always answers; Docker is never asked
            local=_PipBundling(identity, found),
        ),
    )


def _configuration_layer(scope: Construct, configuration: Configuration) -> lambda_.LayerVersion:
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory) / CONFIGURATION_FILE
        bundle.write_text(dump_bundle(with_keys(configuration)), encoding="utf-8")
        return _layer(scope, "Configuration", lambda_.Code.from_asset(directory), "Validated configuration")


def layers(scope: Construct, configuration: Configuration) -> Layers:
    """The three layers, from what changes rarely to what changes often."""
    core = lambda_.Code.from_asset(
        str(CORE), exclude=[*GENERATED, *(f"python/holdfast/{name}" for name in LEFT_OUT)]
    )
    return Layers(
        dependencies=_layer(scope, "Dependencies", _dependencies_code(scope), "Third-party libraries"),
        core=_layer(scope, "Core", core, "The Holdfast library"),
        configuration=_configuration_layer(scope, configuration),
    )
