"""Replaces attributes of moto's classes while a simulator is open, and puts them back.

A patch that outlived its simulator would change the next one, or a test that uses moto alone.
"""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """The replaced attributes of one part of the simulator."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Replace ``owner.name`` and return what was there (None when nothing was)."""
        original = vars(owner).get(name, _ABSENT)
        self._originals.append((owner, name, original))
        setattr(owner, name, value)
        return getattr(original, "__func__", original) if original is not _ABSENT else None

    def undo(self) -> None:
        """Put everything back, last replaced first."""
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
