"""Prints results: JSON, YAML, table or text on standard output; progress on standard error.

A result is printed whole and once, at the end, so that a pipe never sees half of it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import typer

_FORMULA = ("=", "+", "-", "@")
_BREAKS = re.compile(r"[\t\n]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Format(StrEnum):
    """What ``--output`` takes."""

    JSON = "json"
    YAML = "yaml"
    TABLE = "table"
    TEXT = "text"
    CSV = "csv"


def printable(text: object) -> str:
    """``text`` without control, escape and bidirectional characters: names come from outside."""
    return _CONTROL.sub("\ufffd", str(text))


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=str, sort_keys=True)
    return printable(_BREAKS.sub(" ", str(value)))


def _rows(result: Any) -> list[Mapping[str, Any]]:
    rows = result if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    return [row if isinstance(row, Mapping) else {"value": row} for row in rows]


def _table(result: Any) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = _rows(result)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut off cannot be pasted
    for row in rows:
        table.add_row(*[Text(_scalar(row.get(column))) for column in columns])
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _csv(result: Any) -> str:
    """RFC 4180 with a line of names; a value that a spreadsheet would run as a formula is made text."""
    import csv
    import io

    rows = _rows(result)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [_scalar(row.get(column)) for column in columns]
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return stream.getvalue().rstrip("\n")


def check_query(query: str) -> None:
    """Raises typer.BadParameter for a query that is not JMESPath, before anything is done for its sake."""
    if not query:
        return
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        jmespath.compile(query)
    except JMESPathError as error:
        raise typer.BadParameter(f"--query: {error}") from error


def render(result: Any, form: Format, query: str = "") -> str:
    """``result`` (JSON-safe values) as text, after an optional JMESPath ``query``.

    Raises typer.BadParameter for a query that does not fit the result.
    """
    if query:
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            result = jmespath.search(query, result)
        except JMESPathError as error:
            raise typer.BadParameter(f"--query: {error}") from error
    if form is Format.JSON:
        return json.dumps(result, indent=2, default=str)
    if form is Format.YAML:
        import io

        from ruamel.yaml import YAML

        stream = io.StringIO()
        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style = False
        writer.allow_unicode = False  # escapes what would act on a terminal, as JSON does
        writer.dump(json.loads(json.dumps(result, default=str)), stream)
        return stream.getvalue().rstrip("\n")
    if form is Format.TABLE:
        return _table(result)
    if form is Format.CSV:
        return _csv(result)
    return "\n".join("\t".join(_scalar(value) for value in row.values()) for row in _rows(result))


class Progress:
    """Says where a long command is: one live line on a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._last = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        clear = "\r\x1b[K" if self._live else ""
        print(f"{clear}{printable(text)}", file=sys.stderr, flush=True)
        self._last = ""

    def update(self, text: str) -> None:
        """The state right now; on a terminal it overwrites the previous one, repeated text is dropped."""
        if self._quiet or text == self._last:
            return
        self._last = text
        if self._live:
            print(f"\r\x1b[K{printable(text)}", end="", file=sys.stderr, flush=True)
        else:
            print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def task(self, text: str) -> Iterator[None]:
        """Announces ``text`` before the block runs."""
        self.say(text)
        yield
