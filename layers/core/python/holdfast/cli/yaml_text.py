"""Edits YAML text where it stands: what is not edited keeps every character, comments and order too.

Text in, text out. An edit is found by the positions of the parsed nodes; whoever calls has to read the result
again and compare it with what was meant, because YAML can be written in ways that no edit foresees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+()-]+)*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_WIDE: Final = 90
Path = Sequence[str | int]


def scalar(value: Any) -> str:
    """A value of JSON in one line of YAML."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else '"' + "".join(map(_escaped, value)) + '"'
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _escaped(character: str) -> str:
    code = ord(character)
    if 32 <= code < 127:
        return "\\" + character if character in '"\\' else character
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def flow(value: Any) -> str:
    """The value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def lines(value: Mapping[str, Any]) -> list[str]:
    """A mapping in lines, as a person would write it."""
    found: list[str] = []
    for key, one in value.items():
        short = f"{scalar(key)}: {flow(one)}"
        nested = isinstance(one, (Mapping, list)) and bool(one)
        simple = isinstance(one, list) and not any(isinstance(each, (Mapping, list)) for each in one)
        if not nested or (simple and len(short) <= _WIDE):
            found.append(short)
        elif isinstance(one, Mapping):
            found += [f"{scalar(key)}:", *(f"  {line}" for line in lines(one))]
        else:
            found += [f"{scalar(key)}:", *(f"  {line}" for each in one for line in item(each))]
    return found


def item(value: Any) -> list[str]:
    """One entry of a list in lines."""
    if not isinstance(value, Mapping) or not value:
        return [f"- {flow(value)}"]
    first, *rest = lines(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def set_value(text: str, path: Path, key: str, value: Any, *, after: str) -> str:
    """Set ``key`` of the mapping at ``path`` to a scalar or short list; a new key stands behind ``after``."""
    mapping = _at(text, path)
    for name, node in mapping.value:
        if name.value == key:
            return text[: node.start_mark.index] + flow(value) + text[_end(node, text) :]
    behind = [node for name, node in mapping.value if name.value == after] or [mapping.value[-1][1]]
    end = _end(behind[0], text)
    if mapping.flow_style:
        return f'{text[:end]}, "{key}": {flow(value)}{text[end:]}'
    return _new_lines(text, end, mapping.start_mark.column, [f"{key}: {flow(value)}"])


def append(text: str, path: Path, value: Any) -> str:
    """Add an entry to the list at ``path``."""
    sequence = _at(text, path)
    if sequence.flow_style and not sequence.value and not _at(text, path[:-1]).flow_style:
        return _first(text, sequence, value)
    if sequence.flow_style:
        at = _end(sequence.value[-1], text) if sequence.value else sequence.start_mark.index + 1
        return text[:at] + (", " if sequence.value else "") + flow(value) + text[at:]
    end = _end(sequence, text)
    apart = isinstance(value, Mapping) and re.search(r"\n[ \t]*\r?\n", text[sequence.start_mark.index : end])
    added = ["", *item(value)] if apart else item(value)
    return _new_lines(text, end, sequence.start_mark.column, added)


def _first(text: str, sequence: SequenceNode, value: Any) -> str:
    """The entry of a list that was empty, on lines of its own below the key."""
    added = "".join(f"{_newline(text)}  {line}" for line in item(value))
    return text[: sequence.start_mark.index].rstrip(" ") + added + text[sequence.end_mark.index :]


def add_section(text: str, key: str, value: Any) -> str:
    """Add a list with one entry under a new key of the whole document."""
    root = _compose(text)
    if root is not None and root.flow_style:
        at = _end(root.value[-1][1], text) if root.value else root.start_mark.index + 1
        return f'{text[:at]}{", " if root.value else ""}"{key}": {flow([value])}{text[at:]}'
    broken = _newline(text)
    gap = "" if not text or text.endswith("\n") else broken
    return text + gap + broken.join([f"{key}:", *(f"  {line}" for line in item(value)), ""])


def remove(text: str, path: Path, index: int) -> str:
    """Take an entry out of the list at ``path``, with the comment right above it."""
    sequence = _at(text, path)
    entry = sequence.value[index]
    if sequence.flow_style:
        return _remove_flow(text, sequence, index)
    begin = text.rfind("\n", 0, _dash(text, entry, sequence)) + 1
    end = _line_end(text, _end(entry, text))
    end += len(_newline(text)) if end < len(text) else 0
    if len(sequence.value) == 1:
        key_end = _end(_key(text, path), text)
        at = text.index(":", key_end) + 1
        return text[:at] + " []" + text[at:begin] + text[end:]
    while index and (above := text.rfind("\n", 0, begin - 1) + 1) < begin:
        if not text[above:begin].strip().startswith("#"):
            break
        begin = above
    rest = text[end:]
    blank = re.match(r"([ \t]*\r?\n)+", rest)
    if blank and re.search(r"\n[ \t]*\r?\n$", text[:begin]):
        rest = rest[blank.end() :]
    return text[:begin] + rest


def _remove_flow(text: str, sequence: SequenceNode, index: int) -> str:
    entries = sequence.value
    if index + 1 < len(entries):
        return text[: entries[index].start_mark.index] + text[entries[index + 1].start_mark.index :]
    begin = _end(entries[index - 1], text) if index else entries[index].start_mark.index
    return text[:begin] + text[_end(entries[index], text) :]


def _compose(text: str) -> Any:
    return YAML(typ="safe", pure=True).compose(text)


def _at(text: str, path: Path) -> Any:
    """The mapping or list at a path. Raises KeyError."""
    node: Any = _compose(text)
    for step in path:
        if isinstance(step, int):
            node = node.value[step]
        else:
            node = next((one for name, one in node.value if name.value == step), None)
        if not isinstance(node, (MappingNode, SequenceNode)):
            raise KeyError(step)
    return node


def _key(text: str, path: Path) -> ScalarNode:
    """The key under which the value at a path stands."""
    parent = _at(text, path[:-1])
    found: ScalarNode = next(name for name, _ in parent.value if name.value == path[-1])
    return found


def _end(node: Any, text: str) -> int:
    """Where the last character of a node's content ends; comments and blank lines do not belong to it."""
    if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, MappingNode) else last, text)
    end: int = node.end_mark.index
    while end > node.start_mark.index and text[end - 1].isspace():
        end -= 1
    return end


def _dash(text: str, entry: Node, sequence: SequenceNode) -> int:
    """Where the dash of an entry stands."""
    at: int = entry.start_mark.index
    while text[at] != "-" or at - (text.rfind("\n", 0, at) + 1) != sequence.start_mark.column:
        at -= 1
    return at


def _line_end(text: str, at: int) -> int:
    """Where the line ends that holds a place, before its line break."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if end and text[end - 1 : end] == "\r" else end


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _new_lines(text: str, end: int, column: int, added: Sequence[str]) -> str:
    """Lines after the one in which the content up to ``end`` ends, and after a comment behind it."""
    at, broken = _line_end(text, end), _newline(text)
    indented = (f"{' ' * column}{line}" if line else "" for line in added)
    return text[:at] + "".join(f"{broken}{line}" for line in indented) + text[at:]
