"""What is wrong with a configuration: where, what, and what was probably meant.

A finding's path leads through the configuration as YAML spells it; the loader turns it into file, line and
column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark. ``at_key`` points at the key instead of its value; a warning does not stop anything."""

    path: Path
    message: str
    suggestion: str = ""
    warning: bool = False
    at_key: bool = False


def shown(text: str, limit: int = 60) -> str:
    """A value from outside, safe to print: quoted, printable, short."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return repr(short)


def closest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known word that is nearest, or nothing."""
    by_fold = {name.casefold(): name for name in known}
    found = get_close_matches(word[:200].casefold(), list(by_fold), 1, 0.6)
    return f"did you mean {by_fold[found[0]]!r}?" if found else ""


def dangling(path: Path, what: str, name: str, known: Iterable[str], section: str) -> Finding:
    """A reference to something that is not configured."""
    names = sorted(known)
    suggestion = closest(name, names)
    if not suggestion:
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        suggestion = f"configured: {listed}" if names else f"nothing is configured under `{section}`"
    return Finding(path, f"there is no {what} {shown(name)}", suggestion)
