"""What people and programs are told about a day of an SLA-based policy, when, and how often."""

from __future__ import annotations

from datetime import UTC, date, datetime

from holdfast.errors import AccessDeniedError, UnavailableError
from tests.session_play import Crash
from tests.session_world import ACCOUNT, POLICY, SessionWorld
from tests.sla_world import close, play_slot, report, sla_configuration

MONDAY = date(2026, 11, 23)
TOPIC = "arn:aws:sns:eu-central-1:999999999999:results"


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, 23, hour, minute, tzinfo=UTC)


def closed(failing: tuple[int, ...] = (), name: str = "web", **parts: object) -> SessionWorld:
    """A day with four slots, those of the hours ``failing`` without success."""
    world = SessionWorld(sla_configuration(**parts))
    instance = world.add_instance(name=name)
    for hour in (8, 10, 12, 14):
        refusal = AccessDeniedError("CreateSnapshots is denied.", resource=instance, remedy="Allow it.")
        if hour in failing:
            world.spoke(POLICY, ACCOUNT, "eu-central-1").faults["create_snapshots"] = [refusal]
        play_slot(world, at(hour))
    close(world, MONDAY, at(16, 5))
    return world


def test_a_day_that_was_met_is_one_mail_and_one_message():
    world = closed(notifications={"sender": "a@b.c", "recipients": ["d@e.f"], "topic_arn": TOPIC})
    assert report(world, MONDAY)["told"] is True
    (mail,) = world.notifier.mails
    assert mail.subject == "[SLA Met] daily 2026-11-23: snapshot 100 %"
    assert mail.recipients == ("d@e.f",)
    ((topic, subject, text, document),) = world.notifier.notices
    assert (topic, subject) == (TOPIC, mail.subject)
    assert "100 % of 97 %: SLA Met; 1 rated, 0 missed" in text
    assert document["products"][0]["status"] == "SLA Met"
    assert document["missed"] == document["failures"] == []


def test_a_missed_day_names_instances_and_the_failures_of_its_sessions():
    world = closed(failing=(8, 10))
    report(world, MONDAY)
    (mail,) = world.notifier.mails
    assert mail.subject.startswith("[SLA Missed] daily 2026-11-23: snapshot 50 %")
    for form in (mail.text, mail.html):
        assert "Missed SLA (50%, 2/4)" in form
        assert "AccessDenied in 2 sessions: CreateSnapshots is denied." in form
        assert "Allow it." in form


def test_a_hostile_name_does_no_harm_in_the_mail():
    world = closed(failing=(8,), name="<script>alert(1)</script>\r\nBcc: all@example.com")
    report(world, MONDAY)
    (mail,) = world.notifier.mails
    assert "<script>" not in mail.html
    assert "&lt;script&gt;" in mail.html
    assert "\n" not in mail.subject
    assert "\nBcc" not in mail.text


def test_only_missed_days_are_told_when_that_is_asked_for():
    assert report(closed(report={"only_missed": True}), MONDAY)["told"] is False
    missed = closed(failing=(8,), report={"only_missed": True})
    assert report(missed, MONDAY)["told"] is True
    assert len(missed.notifier.mails) == 1


def test_the_report_waits_for_its_time_on_the_following_day():
    world = closed(report={"send_at": "07:30"}, service_time_zone="Europe/Berlin")
    answer = report(world, MONDAY)
    assert (answer["ready"], answer["wait_until"]) == (False, "2026-11-24T06:30:00Z")
    assert world.notifier.mails == []
    world.clock.current = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
    assert report(world, MONDAY)["told"] is True


def test_a_day_is_told_once_and_after_a_crash_at_most_once_more():
    world = closed()
    write = world.catalog.write_part

    def die(*arguments: object, **options: object) -> bool:
        world.catalog.write_part = write
        raise Crash

    world.catalog.write_part = die  # type: ignore[method-assign]
    report(world, MONDAY)
    assert len(world.notifier.mails) == 2
    report(world, MONDAY)
    assert len(world.notifier.mails) == 2


def test_whoever_cannot_be_told_is_written_down_and_the_others_are_told():
    world = closed(notifications={"sender": "a@b.c", "recipients": ["d@e.f"], "topic_arn": TOPIC})
    world.notifier.broken[TOPIC] = UnavailableError("SNS does not answer.", resource=TOPIC)
    report(world, MONDAY)
    assert len(world.notifier.mails) == 1
    told = world.catalog.read_part(f"sla/{POLICY}", f"report/{MONDAY}")
    assert told is not None
    assert told["problems"][0]["resource"] == TOPIC


def test_a_mailing_for_failures_alone_hears_of_missed_days_only():
    quiet = {"sender": "a@b.c", "recipients": ["d@e.f"], "on_success": False, "on_warning": False}
    met, missed = closed(notifications=quiet), closed(failing=(8,), notifications=quiet)
    report(met, MONDAY)
    report(missed, MONDAY)
    assert (len(met.notifier.mails), len(missed.notifier.mails)) == (0, 1)
