"""A session's result as people and programs read it: subject, text, HTML, JSON.

Names, tags and messages come from protected accounts and are hostile: control and bidirectional characters go
before anything is rendered, HTML is escaped by the template engine, headers are one line.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.model.session import Outcome, Problem, Session, State

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST_MAIL = 100_000
"""Bytes of HTML; Gmail clips what is longer."""
LARGEST_NOTICE = 100_000
"""Bytes of each form in an SNS message, which may have 256 KB in all its forms."""
ROWS = (400, 200, 100, 50, 20, 5)
"""Rows that are tried, until the result is small enough."""
MESSAGE = 400
"""Characters of a cause or remedy."""


_VARIABLE = re.compile("%(?:JobResult|JobName|ObjectCount|Issues)%")


@dataclass(frozen=True, slots=True)
class Row:
    """One problem, ready to show."""

    what: str
    where: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to tell about a session. ``hidden`` counts rows that did not find room."""

    session: Session
    failures: tuple[Row, ...]
    warnings: tuple[Row, ...]
    successes: tuple[Row, ...]
    hidden: int = 0

    @property
    def issues(self) -> int:
        return len(self.failures) + len(self.warnings)


def clean(text: str) -> str:
    """One line without control, format (bidirectional) and unassigned characters."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    return " ".join(
        "".join(c for c in kept if unicodedata.category(c) not in ("Cf", "Cs", "Cn", "Co")).split()
    )


def build_report(session: Session, outcomes: Sequence[Outcome]) -> Report:
    """Failures first, each with its cause and what to do; then warnings; then what went well."""
    failures: list[Row] = []
    warnings: list[Row] = []
    successes: list[Row] = []
    for problem in session.problems:
        row = _row(problem.resource or session.policy, "", problem)
        (failures if problem.severity is State.FAILED else warnings).append(row)
    for outcome in outcomes:
        name = (
            f"{outcome.instance_name} ({outcome.instance_id})"
            if outcome.instance_name
            else outcome.instance_id
        )
        where = f"{outcome.account} {outcome.region}"
        for problem in outcome.problems:
            row = _row(name, where, problem)
            (failures if problem.severity is State.FAILED else warnings).append(row)
        if outcome.state is State.SUCCESS:
            made = ", ".join(outcome.kinds) or "nothing due"
            successes.append(Row(clean(name), where, made, size(outcome.bytes_stored)))
    return Report(session, tuple(failures), tuple(warnings), tuple(successes))


def _row(what: str, where: str, problem: Problem) -> Row:
    about = f" [{problem.resource}]" if problem.resource and problem.resource not in what else ""
    return Row(
        clean(what)[:200],
        clean(where),
        clean(f"{problem.code}: {problem.message[: 2 * MESSAGE]}{about}")[:MESSAGE],
        clean(problem.remedy[: 2 * MESSAGE])[:MESSAGE],
    )


def subject(template: str, report: Report) -> str:
    """The subject of the mail: one line, at most 200 characters."""
    issues = report.issues
    values = {
        "%JobResult%": report.session.state.value,
        "%JobName%": report.session.policy,
        "%ObjectCount%": str(report.session.counts.get("instances", 0)),
        "%Issues%": "" if not issues else "1 issue" if issues == 1 else f"{issues} issues",
    }
    return clean(_VARIABLE.sub(lambda found: values[found[0]], template))[:200]


def ascii_subject(text: str) -> str:
    """What SNS accepts as a subject: printable ASCII, at most 100 characters, beginning with no blank."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).strip()[:100] or "Holdfast"


def render_html(report: Report) -> str:
    """The mail's HTML part, at most LARGEST_MAIL bytes."""
    return _fitting("session.html.j2", report, LARGEST_MAIL)


def render_text(report: Report) -> str:
    """The same as plain text."""
    return _fitting("session.txt.j2", report, LARGEST_NOTICE)


def document(report: Report) -> dict[str, Any]:
    """The result for programs: the session and its problems, without what ended well."""
    for rows in ROWS:
        told = shortened(report, rows)
        body = {
            "session": told.session.model_dump(mode="json", exclude={"problems"}),
            "failures": [_told(row) for row in told.failures],
            "warnings": [_told(row) for row in told.warnings],
            "hidden": told.hidden,
        }
        if len(str(body)) <= LARGEST_NOTICE:
            break
    return body


def _told(row: Row) -> dict[str, str]:
    return {"what": row.what, "where": row.where, "cause": row.cause, "remedy": row.remedy}


def shortened(report: Report, rows: int) -> Report:
    """At most ``rows`` rows, the gravest first."""
    failures = report.failures[:rows]
    warnings = report.warnings[: rows - len(failures)]
    successes = report.successes[: rows - len(failures) - len(warnings)]
    every = len(report.failures) + len(report.warnings) + len(report.successes)
    hidden = every - len(failures) - len(warnings) - len(successes)
    return replace(report, failures=failures, warnings=warnings, successes=successes, hidden=hidden)


def _fitting(template: str, report: Report, limit: int) -> str:
    rendered = ""
    for rows in ROWS:
        told = shortened(report, rows)
        rendered = environment().get_template(template).render(report=told, session=told.session)
        if len(rendered.encode()) <= limit:
            break
    return rendered


@cache
def environment() -> Environment:
    """The templates of reports; HTML is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"], default=False, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(size=size, instant=instant, duration=duration, clean=clean)
    return made


def size(count: int) -> str:
    """``1.5 GiB``."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def instant(moment: datetime | None) -> str:
    """``2026-11-22 07:00 UTC``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "–"


def duration(session: Session) -> str:
    """How long a session took."""
    if session.ended_at is None:
        return "–"
    seconds = int((session.ended_at - session.started_at).total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
