"""Reads YAML text into plain values that remember where in the file they stand.

The text is hostile: anchors, aliases, explicit types, duplicate keys and documents beyond fixed limits of
size, depth and number of nodes are refused, so that no file can make the reader slow, large, or run
anything. Scalars are those of YAML 1.2: ``on``, ``no`` and ``07:00`` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from holdfast.model.findings import Path, shown

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 24
MAX_SCALAR: Final = 16_384
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class YamlRefused(Exception):
    """The text is not YAML, or not YAML that is read here."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(f"{position}: {message}")
        self.position = position
        self.message = message


@dataclass(slots=True)
class Tree:
    """A value, and the position of every value and every key in it by path."""

    value: Any = None
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)


def _scalar(event: ScalarEvent) -> Any:
    text: str = event.value
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    """Builds a tree from parser events; counts what it has seen."""

    def __init__(self, events: Iterator[Event], file: str) -> None:
        self.events = events
        self.file = file
        self.tree = Tree()
        self.nodes = 0

    def at(self, event: Event) -> Position:
        mark = event.start_mark
        return Position(self.file, mark.line + 1, mark.column + 1)

    def refuse(self, event: Event, message: str) -> YamlRefused:
        return YamlRefused(self.at(event), message)

    def admit(self, event: Event, path: Path) -> None:
        """Refuse what may not stand in a configuration."""
        self.nodes += 1
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise self.refuse(event, "anchors and aliases are not supported: write the value out")
        if getattr(event, "tag", None):
            raise self.refuse(event, "explicit types (!...) are not supported")
        if self.nodes > MAX_NODES:
            raise self.refuse(event, f"more than {MAX_NODES} values in one file: split it")
        if len(path) > MAX_DEPTH:
            raise self.refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise self.refuse(event, f"a value longer than {MAX_SCALAR} characters")
        if isinstance(event, ScalarEvent) and _SURROGATE.search(event.value):
            raise self.refuse(event, "half of a character (\\ud800 to \\udfff): write the whole one")

    def node(self, event: Event, path: Path) -> Any:
        self.admit(event, path)
        self.tree.values[path] = self.at(event)
        if isinstance(event, MappingStartEvent):
            return self.mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(path)
        if isinstance(event, ScalarEvent):
            return _scalar(event)
        raise self.refuse(event, "a value must be text, a list or a mapping")

    def sequence(self, path: Path) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            found.append(self.node(event, (*path, len(found))))
        return found

    def mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            self.admit(event, path)
            if not isinstance(event, ScalarEvent):
                raise self.refuse(event, "a key must be plain text")
            key: str = event.value
            if key in found:
                raise self.refuse(event, f"the key {shown(key)} stands here twice")
            self.tree.keys[(*path, key)] = self.at(event)
            found[key] = self.node(next(self.events), (*path, key))
        return found


def read_tree(content: bytes, file: str) -> Tree:
    """The one document in ``content``; an empty file gives a tree of None. Raises YamlRefused."""
    if len(content) > MAX_BYTES:
        raise YamlRefused(Position(file), f"larger than {MAX_BYTES} bytes: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, start = before.count(b"\n") + 1, before.rfind(b"\n") + 1
        position = Position(file, line, len(before[start:].decode("utf-8", "replace")) + 1)
        raise YamlRefused(position, "not UTF-8 text") from error
    try:
        return _read(text, file)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file)
        raise YamlRefused(position, f"not YAML: {error.problem or error.context}") from error
    except ReaderError as error:
        read = text[: error.position]
        position = Position(file, read.count("\n") + 1, len(read) - read.rfind("\n"))
        raise YamlRefused(position, "a character that YAML does not allow") from error
    except YAMLError as error:
        raise YamlRefused(Position(file), "not YAML") from error


def _read(text: str, file: str) -> Tree:
    reader = _Reader(YAML(typ="safe", pure=True).parse(text), file)
    documents = 0
    for event in reader.events:
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise reader.refuse(event, "one document in a file: split it")
        elif isinstance(event, NodeEvent):
            reader.tree.value = reader.node(event, ())
    return reader.tree
