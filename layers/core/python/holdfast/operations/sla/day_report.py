"""A day of an SLA-based policy as people and programs read it: what was promised, made and missed, and why.

Names and messages come from protected accounts and are hostile: they are cleaned as those of a session's
report are, and HTML is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from holdfast.model.session import Outcome, Problem, Session, State
from holdfast.operations.reports.report import (
    LARGEST_MAIL,
    LARGEST_NOTICE,
    MESSAGE,
    ROWS,
    Row,
    clean,
    environment,
)
from holdfast.operations.sla.sla_records import Page
from holdfast.planning.compliance import Status, label, percent, policy_ratio, status
from holdfast.planning.ledger import Member


@dataclass(frozen=True, slots=True)
class Product:
    """How one product of the policy stood on the day."""

    name: str
    status: str
    ratio: str
    target: str
    rated: int
    missed: int
    removed: int


@dataclass(frozen=True, slots=True)
class DayReport:
    """What there is to tell about a day. ``hidden`` counts rows that did not find room."""

    policy: str
    on: date
    products: tuple[Product, ...]
    missed: tuple[Row, ...]
    removed: tuple[Row, ...]
    failures: tuple[Row, ...]
    sessions: int
    unfinished: int
    hidden: int = 0

    @property
    def is_missed(self) -> bool:
        return any(one.status == Status.MISSED for one in self.products)

    @property
    def state(self) -> State:
        """Failed when the SLA was missed; a warning when something else needs a look."""
        if self.is_missed:
            return State.FAILED
        odd = self.missed or self.removed or self.failures or self.unfinished
        return State.WARNING if odd else State.SUCCESS

    @property
    def headline(self) -> str:
        return f"{Status.MISSED if self.is_missed else Status.MET}: {clean(self.policy)}, {self.on}"


def build_day_report(
    policy: str,
    on: date,
    pages: Sequence[Page],
    sessions: Sequence[tuple[Session, Sequence[Outcome]]],
    unfinished: int,
) -> DayReport:
    """Products in the order of the ledger; instances below their target; failures once for each cause."""
    products, missed, removed = [], list[Row](), list[Row]()
    for page in pages:
        entry = page.entry
        rated = [share for share in entry.shares if not share.removed]
        below = [share for share in rated if share.ratio < entry.target]
        gone = [share for share in entry.shares if share.removed]
        ratio = policy_ratio(entry.shares)
        products.append(
            Product(
                entry.kind.value,
                status(ratio, entry.target).value,
                f"{percent(ratio)} %" if ratio is not None else "–",
                f"{percent(entry.target)} %",
                len(rated),
                len(below),
                len(gone),
            )
        )
        for shares, rows in ((below, missed), (gone, removed)):
            for share in shares:
                member = page.members[share.instance_id]
                rows.append(
                    Row(_name(member), _where(member), f"{entry.kind}: {label(share, entry.target)}", "")
                )
    failures = tuple(_failures(sessions))
    return DayReport(
        policy, on, tuple(products), tuple(missed), tuple(removed), failures, len(sessions), unfinished
    )


def _name(member: Member) -> str:
    return clean(f"{member.name} ({member.instance_id})" if member.name else member.instance_id)[:200]


def _where(member: Member) -> str:
    return clean(f"{member.account} {member.region}")


def _failures(sessions: Iterable[tuple[Session, Sequence[Outcome]]]) -> Iterable[Row]:
    """Problems of the day's sessions, each with the number of sessions that had it."""
    found: dict[tuple[str, str, str], tuple[Problem, set[str]]] = {}
    for session, outcomes in sessions:
        told = [(problem.resource or session.policy, "", problem) for problem in session.problems]
        for one in outcomes:
            member = Member(one.instance_id, one.account, one.region, one.instance_name)
            told += [(_name(member), _where(member), problem) for problem in one.problems]
        for what, where, problem in told:
            _, ids = found.setdefault((what, where, problem.code), (problem, set()))
            ids.add(session.session_id)
    for (what, where, code), (problem, ids) in sorted(
        found.items(), key=lambda one: (-len(one[1][1]), one[0])
    ):
        times = f"{len(ids)} sessions" if len(ids) > 1 else "1 session"
        yield Row(
            clean(what)[:200],
            where,
            clean(f"{code} in {times}: {problem.message[: 2 * MESSAGE]}")[:MESSAGE],
            clean(problem.remedy[: 2 * MESSAGE])[:MESSAGE],
        )


def day_subject(report: DayReport) -> str:
    """The subject of the mail: one line, at most 200 characters."""
    ratios = ", ".join(f"{one.name} {one.ratio}" for one in report.products)
    return clean(
        f"[{Status.MISSED if report.is_missed else Status.MET}] {report.policy} {report.on}: {ratios}"
    )[:200]


def render_day(report: DayReport, *, html: bool) -> str:
    """The report as HTML or plain text, as small as the mail or notice that carries it has to be."""
    template = environment().get_template("day.html.j2" if html else "day.txt.j2")
    limit, rendered = LARGEST_MAIL if html else LARGEST_NOTICE, ""
    for rows in ROWS:
        rendered = template.render(report=shortened(report, rows))
        if len(rendered.encode()) <= limit:
            break
    return rendered


def day_document(report: DayReport) -> dict[str, Any]:
    """The report for programs."""
    body: dict[str, Any] = {}
    for rows in ROWS:
        told = shortened(report, rows)
        body = {
            "policy": told.policy,
            "day": told.on.isoformat(),
            "state": told.state.value,
            "sessions": told.sessions,
            "unfinished": told.unfinished,
            "products": [
                {
                    "product": one.name,
                    "status": one.status,
                    "ratio": one.ratio,
                    "target": one.target,
                    "instances": one.rated,
                    "missed": one.missed,
                    "removed": one.removed,
                }
                for one in told.products
            ],
            **{
                name: [
                    {"what": row.what, "where": row.where, "cause": row.cause, "remedy": row.remedy}
                    for row in found
                ]
                for name, found in (
                    ("missed", told.missed),
                    ("removed", told.removed),
                    ("failures", told.failures),
                )
            },
            "hidden": told.hidden,
        }
        if len(str(body)) <= LARGEST_NOTICE:
            break
    return body


def shortened(report: DayReport, rows: int) -> DayReport:
    """At most ``rows`` rows, the gravest first."""
    missed = report.missed[:rows]
    removed = report.removed[: rows - len(missed)]
    failures = report.failures[: rows - len(missed) - len(removed)]
    every = len(report.missed) + len(report.removed) + len(report.failures)
    hidden = every - len(missed) - len(removed) - len(failures)
    return replace(report, missed=missed, removed=removed, failures=failures, hidden=hidden)
