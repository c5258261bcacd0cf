"""Loads the operator's YAML: every ``*.yaml`` in a directory, merged and validated, remarks with positions.

The order of files must not matter: lists are joined in the order of file names, and anything else may
stand in one file only. Deployed functions never import this module; they read the JSON bundle (``bundle``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from holdfast.bundle import dump_bundle, load_bundle
from holdfast.errors import ConfigurationError
from holdfast.model.checks import check
from holdfast.model.configuration import Configuration
from holdfast.model.findings import Finding, shown
from holdfast.model.findings import Path as Where
from holdfast.model.refusals import findings
from holdfast.model.unavailable import unavailable
from holdfast.yaml_tree import MAX_BYTES, Position, Tree, YamlRefused, read_tree

__all__ = ["Remark", "dump_bundle", "load", "load_bundle", "positions", "read"]

MAX_FILES: Final = 100
_LISTS: Final = frozenset(
    name for name, field in Configuration.model_fields.items() if str(field.annotation).startswith("tuple")
)


@dataclass(frozen=True, slots=True)
class Remark:
    """An error or warning at a place in a file."""

    position: Position
    message: str
    suggestion: str = ""
    warning: bool = False

    def __str__(self) -> str:
        kind = "warning" if self.warning else "error"
        return f"{self.position}: {kind}: {self.message}{f' ({self.suggestion})' if self.suggestion else ''}"


def _content(path: Path) -> bytes:
    """What is in a file, at most one byte more than is allowed. Raises YamlRefused."""
    try:
        if not path.is_file():
            raise YamlRefused(Position(str(path)), "not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlRefused(Position(str(path)), f"cannot be read: {error.strerror}") from error


def _shift(tree: Tree, merged: Tree, key: str, offset: int) -> None:
    """Copy the positions under ``key``, its items moved up by ``offset``."""
    for source, target in ((tree.values, merged.values), (tree.keys, merged.keys)):
        for path, position in source.items():
            if path[:1] == (key,):
                first = path[1] + offset if len(path) > 1 and isinstance(path[1], int) else None
                target.setdefault(path if first is None else (key, first, *path[2:]), position)


def _merge(tree: Tree, merged: Tree) -> Iterator[Remark]:
    """Add one file to the whole."""
    position = tree.values[()]
    if not isinstance(tree.value, dict):
        yield Remark(
            position, "a configuration file is a mapping", "for example `policies:` with a list below it"
        )
        return
    for key, value in tree.value.items():
        if key not in merged.value:
            merged.value[key] = list(value) if isinstance(value, list) else value
            _shift(tree, merged, key, 0)
        elif key in _LISTS and isinstance(value, list) and isinstance(merged.value[key], list):
            _shift(tree, merged, key, len(merged.value[key]))
            merged.value[key] += value
        else:
            first = merged.keys[(key,)]
            yield Remark(tree.keys[(key,)], f"{shown(key)} is already set in {first.file}:{first.line}")


def _files(directory: Path, instead: Iterable[Path] = ()) -> list[Path]:
    there = {path for path in directory.iterdir() if path.suffix in (".yaml", ".yml")}
    found = sorted(there.union(instead))
    if not found:
        raise ConfigurationError(
            "There is no *.yaml file.",
            resource=str(directory),
            remedy="Name the directory with --config DIR.",
        )
    if len(found) > MAX_FILES:
        raise ConfigurationError(f"There are more than {MAX_FILES} files.", resource=str(directory))
    return found


def _locate(finding: Finding, merged: Tree, whole: Position) -> Remark:
    """A finding at the position of its path, or of the nearest thing around it."""
    path: Where = finding.path
    if finding.at_key and path in merged.keys:
        position = merged.keys[path]
    else:
        while path and path not in merged.values:
            path = path[:-1]
        position = merged.values.get(path, whole)
    return Remark(position, finding.message, finding.suggestion, finding.warning)


def _validate(merged: Tree) -> tuple[Configuration | None, Iterable[Finding]]:
    try:
        configuration = Configuration.model_validate(merged.value)
    except ValidationError as error:
        return None, findings(error, Configuration, merged.value)
    return configuration, [*check(configuration), *unavailable(configuration)]


def _read(directory: Path, instead: Mapping[Path, bytes]) -> tuple[Tree, list[Remark], Position]:
    """All files as one tree, what is wrong with their YAML, and where a remark without a place stands."""
    merged, remarks = Tree({}), list[Remark]()
    try:
        files = _files(directory, instead)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration cannot be read: {error.strerror}.",
            resource=str(directory),
            remedy="Name the directory with --config DIR.",
        ) from error
    for path in files:
        try:
            tree = read_tree(instead[path] if path in instead else _content(path), str(path))
        except YamlRefused as refused:
            remarks.append(Remark(refused.position, refused.message))
            continue
        if tree.value is not None:
            remarks += _merge(tree, merged)
    return merged, remarks, Position(str(files[0]))


def read(
    directory: Path | str, *, instead: Mapping[Path, bytes] | None = None
) -> tuple[Configuration | None, tuple[Remark, ...]]:
    """The configuration, or None when there is an error, and all remarks in the order of files and lines.

    ``instead`` holds content that is read in place of files, or as if there were such a file. Raises
    ConfigurationError when the directory cannot be read or holds no YAML.
    """
    merged, remarks, whole = _read(Path(directory), instead or {})
    configuration = None
    if not remarks:
        configuration, found = _validate(merged)
        remarks = [_locate(finding, merged, whole) for finding in found]
    ordered = tuple(sorted(dict.fromkeys(remarks), key=lambda remark: (remark.position, remark.message)))
    return (None if any(not remark.warning for remark in ordered) else configuration), ordered


def positions(directory: Path | str) -> Mapping[Where, Position]:
    """Where every value of a configuration stands that :func:`read` finds no error in."""
    return _read(Path(directory), {})[0].values


def load(directory: Path | str) -> Configuration:
    """The configuration in ``directory``. Raises ConfigurationError with every error, one a line."""
    configuration, remarks = read(directory)
    if configuration is None:
        errors = "\n".join(str(remark) for remark in remarks if not remark.warning)
        raise ConfigurationError(f"The configuration is not valid:\n{errors}", resource=str(directory))
    return configuration
