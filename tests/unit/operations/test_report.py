"""Results as people read them, with names that try to break out."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.configuration import Mailing
from holdfast.model.session import Outcome, Problem, Session, State
from holdfast.operations.reports.report import (
    LARGEST_MAIL,
    ascii_subject,
    build_report,
    clean,
    document,
    render_html,
    render_text,
    size,
    subject,
)
from tests.session_world import ACCOUNT, REGION, START

EVIL = "<script>alert(1)</script>\"'\r\nBcc: all@example.com\u202egpj.exe\x1b[31m\u2066"


def a_session(**changes: object) -> Session:
    return Session.model_validate(
        {
            "session_id": "20261122T070000Z-daily-1",
            "policy": "daily",
            "slot": START,
            "started_at": START,
            "ended_at": START,
            "state": State.FAILED,
            "counts": {"instances": 2, "failed": 1, "success": 1},
            **changes,
        }
    )


def an_outcome(
    number: int = 1, name: str = "web", state: State = State.FAILED, message: str = "denied"
) -> Outcome:
    problem = Problem(
        code="AccessDenied", message=message, resource="arn:role", remedy="Allow it.", severity=state
    )
    return Outcome(
        account=ACCOUNT,
        region=REGION,
        instance_id=f"i-{number:017x}",
        instance_name=name,
        state=state,
        problems=() if state is State.SUCCESS else (problem,),
        kinds=("snapshot",),
    )


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def elements(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    return found


def test_the_default_subject_is_the_one_of_the_reference():
    report = build_report(a_session(), [an_outcome(), an_outcome(2, state=State.SUCCESS)])
    assert subject(Mailing().subject, report) == "[Failed] daily (2 instances) 1 issue"


def test_a_subject_without_issues_ends_without_a_blank():
    report = build_report(a_session(state=State.SUCCESS), [])
    assert subject(Mailing().subject, report) == "[Success] daily (2 instances)"


def test_a_name_that_looks_like_a_variable_is_shown_as_it_is():
    report = build_report(a_session(policy="%ObjectCount%"), [])
    assert subject("%JobName%", report) == "%ObjectCount%"


@given(st.text())
def test_no_subject_ever_has_a_second_line_or_a_hidden_direction(name: str):
    report = build_report(a_session(policy=name), [])
    line = subject(Mailing().subject, report)
    assert not any(ord(c) < 32 or c in "\u2028\u2029\x7f\x85" for c in line)
    assert not any(
        "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" or c in "\u200e\u200f\u061c" for c in line
    )
    assert all(" " <= c <= "~" for c in ascii_subject(line))
    assert 1 <= len(ascii_subject(line)) <= 100


def test_markup_in_names_and_messages_is_shown_and_never_obeyed():
    hostile = build_report(a_session(policy=EVIL), [an_outcome(name=EVIL, message=EVIL)])
    harmless = build_report(a_session(), [an_outcome()])
    page = render_html(hostile)
    assert elements(page).seen == elements(render_html(harmless)).seen
    assert elements(page).attributes == elements(render_html(harmless)).attributes
    assert "&lt;script&gt;" in page
    assert not any(c in page for c in "\x1b\u202e\u2066\r")


def test_text_has_no_control_characters_but_line_ends():
    text = render_text(build_report(a_session(policy=EVIL), [an_outcome(name=EVIL, message=EVIL)]))
    assert not any(ord(c) < 32 and c != "\n" for c in text)
    assert "Bcc:" not in [line.split(" ")[0] for line in text.splitlines()]


@pytest.mark.parametrize("count", [0, 1, 50, 5_000])
def test_a_mail_is_small_enough_however_much_failed(count: int):
    outcomes = [an_outcome(number, message="é" * 3_000) for number in range(count)]
    report = build_report(a_session(), outcomes)
    page = render_html(report)
    assert len(page.encode()) <= LARGEST_MAIL
    assert len(render_text(report).encode()) <= LARGEST_MAIL
    assert len(str(document(report)).encode()) <= 200_000


def test_what_found_no_room_is_counted():
    report = build_report(a_session(), [an_outcome(number) for number in range(5_000)])
    assert f"{5_000 - render_html(report).count('What to do:')} more are not shown" in render_html(report)


def test_failures_come_before_warnings_and_successes():
    outcomes = [
        an_outcome(1, "fine", State.SUCCESS),
        an_outcome(2, "odd", State.WARNING),
        an_outcome(3, "broken", State.FAILED),
    ]
    for rendered in (render_html, render_text):
        page = rendered(build_report(a_session(), outcomes))
        assert page.index("broken") < page.index("odd") < page.index("fine")


def test_problems_of_accounts_are_told_beside_those_of_instances():
    problem = Problem(code="AccessDenied", message="Account 1 could not be looked at", severity=State.WARNING)
    report = build_report(a_session(problems=(problem,)), [])
    assert (len(report.warnings), report.issues) == (1, 1)


def test_sizes_are_readable():
    assert [size(n) for n in (0, 1023, 1536, 5 << 30, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str):
    assert clean(clean(text)) == clean(text)
