"""Runs the commands of the demonstration as a person would type them, and shows what they say.

Commands run in this process, each opening and saving the simulation anew: what a later command finds is what
an earlier one left on disk.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from shlex import join
from typing import Any

from rich.console import Console

from holdfast.cli.main import run


class CommandFailedError(RuntimeError):
    """A command of the demonstration did not end well; nothing after it would prove anything."""


@dataclass(frozen=True)
class Terminal:
    """Where the demonstration is shown. ``common`` are the global options of every command."""

    console: Console
    common: tuple[str, ...]

    def say(self, text: str) -> None:
        """A line of the story."""
        self.console.print(text, highlight=False, markup=False)

    def chapter(self, text: str) -> None:
        """A heading."""
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def run(self, *words: str, show: bool = False, expect: tuple[int, ...] = (0,)) -> Any:
        """Run ``holdfast`` with these words and return its JSON result. Raises CommandFailedError."""
        text = self._output(words, expect)
        if show:
            self.console.print(text.rstrip(), highlight=False, markup=False)
        return json.loads(text) if text.strip() else None

    def show(self, *words: str, expect: tuple[int, ...] = (0,)) -> None:
        """Run ``holdfast`` with these words and show what a person sees. Raises CommandFailedError."""
        text = self._output(words, expect)
        self.console.print(text.rstrip(), highlight=False, markup=False, soft_wrap=True)

    def _output(self, words: tuple[str, ...], expect: tuple[int, ...]) -> str:
        self.console.print(f"$ holdfast {join(words)}", style="dim", highlight=False, markup=False)
        output = io.StringIO()
        with redirect_stdout(output):
            code = run([*self.common, *words])
        text = output.getvalue()
        if code not in expect:
            sys.stderr.write(text)
            raise CommandFailedError(f"holdfast {' '.join(words)} ended with exit code {code}")
        return text
