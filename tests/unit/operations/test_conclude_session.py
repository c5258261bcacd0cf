"""How a session is judged and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, ConfigurationError, ThrottledError
from holdfast.model.configuration import Configuration
from holdfast.model.session import State
from holdfast.operations.sessions.conclude_session import ConcludeSession, conclude_session
from holdfast.operations.sessions.report_cell import ReportCell, report_cell
from holdfast.operations.sessions.start_cell import StartCell, start_cell
from tests.session_play import play
from tests.session_world import ACCOUNT, POLICY, REGION, START, MemoryOrganization, SessionWorld, configured

TOPIC = "arn:aws:sns:eu-central-1:999999999999:results"
OPERATORS = {"sender": "holdfast@example.com", "recipients": ["ops@example.com"], "topic_arn": TOPIC}
STEP = {
    "session_id": "20261122T070000Z-daily-1",
    "policy": POLICY,
    "slot": START.isoformat(),
    "region": REGION,
}


def with_mail(
    general: dict[str, Any], special: dict[str, Any] | None = None, **changes: Any
) -> Configuration:
    document = configured(notifications=general, **changes).model_dump(exclude_defaults=True)
    if special is not None:
        document["policies"][0]["notifications"] = special
    return Configuration.model_validate(document)


def failing(world: SessionWorld, times: int = 9) -> None:
    there = world.spoke(POLICY, ACCOUNT, REGION)
    there.faults["create_snapshots"] = [AccessDeniedError("denied", remedy="Allow it.")] * times


def test_a_success_is_told_to_topic_and_mailbox():
    world = SessionWorld(with_mail(OPERATORS))
    world.add_instance(name="web")
    concluded = play(world)
    ((topic, subject, text, document),) = world.notifier.notices
    (mail,) = world.notifier.mails
    assert (topic, subject, mail.subject) == (TOPIC, "[Success] daily (1 instances)", subject)
    assert document["session"]["session_id"] == concluded["session_id"]
    assert "web" in text
    assert (mail.sender, tuple(mail.recipients)) == ("holdfast@example.com", ("ops@example.com",))


def test_a_failure_says_first_what_failed_and_what_to_do():
    world = SessionWorld(with_mail(OPERATORS, retries=0))
    world.add_instance(1, name="web")
    world.add_instance(2, name="db")
    failing(world, 1)
    play(world)
    ((_, subject, text, document),) = world.notifier.notices
    assert subject == "[Failed] daily (2 instances) 1 issue"
    assert text.index("web") < text.index("What to do: Allow it.") < text.index("SUCCESS") < text.index("db")
    assert document["failures"] == [
        {
            "what": "web (i-00000000000000001)",
            "where": f"{ACCOUNT} {REGION}",
            "cause": "AccessDenied: denied",
            "remedy": "Allow it.",
        }
    ]


@pytest.mark.parametrize("switch, told", [("on_success", False), ("on_failure", True), ("on_warning", True)])
def test_each_result_has_its_own_switch(switch: str, told: bool):
    world = SessionWorld(with_mail({**OPERATORS, switch: False}))
    world.add_instance()
    play(world)
    assert bool(world.notifier.mails) is told


def test_with_retries_only_the_last_one_is_told():
    world = SessionWorld(with_mail(OPERATORS, retries=2))
    world.add_instance()
    failing(world)
    play(world)
    assert len(world.notifier.mails) == 1


def test_every_attempt_is_told_when_asked_for():
    world = SessionWorld(with_mail({**OPERATORS, "last_retry_only": False}, retries=2))
    world.add_instance()
    failing(world)
    play(world)
    assert len(world.notifier.mails) == 3


def test_the_policys_settings_win_for_a_recipient_in_both():
    special = {**OPERATORS, "recipients": ["ops@example.com"], "topic_arn": "", "on_success": False}
    general = {**OPERATORS, "recipients": ["ops@example.com", "boss@example.com"], "topic_arn": ""}
    world = SessionWorld(with_mail(general, special))
    world.add_instance()
    play(world)
    assert [tuple(mail.recipients) for mail in world.notifier.mails] == [("boss@example.com",)]


def test_results_go_to_the_installations_own_topic_where_none_is_configured():
    world = SessionWorld()
    world.settings = replace(world.settings, topic_arn=TOPIC)
    world.add_instance()
    play(world)
    assert [notice[0] for notice in world.notifier.notices] == [TOPIC]


def test_a_notification_that_fails_is_a_warning_in_the_record_and_stops_no_other():
    world = SessionWorld(with_mail(OPERATORS))
    world.add_instance()
    world.notifier.broken[TOPIC] = AccessDeniedError("denied sns:Publish", remedy="Allow it.")
    concluded = play(world)
    session = world.catalog.read_session(concluded["session_id"])
    assert (concluded["state"], session.state) == ("Warning", State.WARNING)
    assert session.problems[0].message == "The result could not be sent: denied sns:Publish"
    assert len(world.notifier.mails) == 1


def test_a_mail_that_fails_does_not_hide_a_failed_session():
    world = SessionWorld(with_mail(OPERATORS, retries=0))
    world.add_instance()
    failing(world)
    world.notifier.broken["holdfast@example.com"] = ConfigurationError("address not verified")
    concluded = play(world)
    assert world.catalog.read_session(concluded["session_id"]).state is State.FAILED


def test_a_session_is_as_bad_as_its_worst_part():
    world = SessionWorld(configured(retries=0))
    for number in (1, 2, 3):
        world.add_instance(number)
    failing(world, 1)
    concluded = play(world)
    session = world.catalog.read_session(concluded["session_id"])
    assert session.state is State.FAILED
    assert {name: session.counts[name] for name in ("instances", "success", "failed")} == {
        "instances": 3,
        "success": 2,
        "failed": 1,
    }


def test_a_lost_region_fails_the_session_by_name_and_never_the_other_region():
    world = SessionWorld(configured(regions=[REGION, "eu-west-1"], retries=0))
    world.add_instance(1)
    concluded = play(world)
    event = {
        "session_id": concluded["session_id"],
        "policy": POLICY,
        "slot": START.isoformat(),
        "regions": [
            {"region": REGION, "error": None},
            {"region": "eu-west-1", "error": {"Error": "States.Timeout", "Cause": ""}},
        ],
    }
    again = conclude_session(ConcludeSession.model_validate(event), world)
    session = world.catalog.read_session(concluded["session_id"])
    assert (again["state"], again["broken"]) == ("Failed", False)
    assert [(problem.code, problem.resource) for problem in session.problems] == [("Timeout", "eu-west-1")]
    assert session.counts["success"] == 1


def test_a_lost_region_is_retried():
    world = SessionWorld(configured(regions=[REGION, "eu-west-1"], retries=1))
    world.add_instance(1)
    concluded = play(world)
    event = {
        "session_id": concluded["session_id"],
        "policy": POLICY,
        "slot": START.isoformat(),
        "regions": [{"region": "eu-west-1", "error": {"Error": "States.Timeout", "Cause": ""}}],
    }
    again = conclude_session(ConcludeSession.model_validate(event), world)
    assert (again["retry"], again["attempt"], again["regions"]) == (True, 1, ["eu-west-1"])
    assert world.catalog.read_session(concluded["session_id"]).state is State.RUNNING


def test_an_account_unreachable_in_two_regions_is_told_once():
    world = SessionWorld(configured(regions=[REGION, "eu-west-1"]))
    world.refused[ACCOUNT] = AccessDeniedError("denied sts:AssumeRole")
    concluded = play(world)
    (problem,) = world.catalog.read_session(concluded["session_id"]).problems
    assert problem.message.endswith("denied sts:AssumeRole (in eu-central-1, eu-west-1)")


def test_an_account_whose_problem_passes_is_looked_at_again():
    world = SessionWorld(configured(retries=1))
    instance_id = world.add_instance()
    there = world.spoke(POLICY, ACCOUNT, REGION)
    there.faults["instances"] = [ThrottledError("RequestLimitExceeded")]
    concluded = play(world)
    assert (concluded["state"], concluded["attempt"]) == ("Success", 1)
    assert instance_id in world.outcomes(concluded["session_id"])


def test_an_instance_listed_by_id_that_nobody_has_is_a_warning():
    world = SessionWorld(configured(selection={"instances": ["i-0000000000000dead"]}))
    concluded = play(world)
    (problem,) = world.catalog.read_session(concluded["session_id"]).problems
    assert (concluded["state"], problem.resource) == ("Warning", "i-0000000000000dead")


def test_metrics_have_the_policy_as_their_only_dimension():
    world = SessionWorld()
    world.add_instance()
    play(world)
    ((policy, metrics),) = world.metrics
    assert policy == POLICY
    assert metrics["Instances"] == 1
    assert metrics["SessionsFailed"] == 0


def test_no_metric_is_counted_twice_by_retries():
    world = SessionWorld(configured(retries=2))
    world.add_instance()
    failing(world)
    play(world)
    assert [metrics["InstancesFailed"] for _, metrics in world.metrics] == [1]


def test_a_scope_without_any_account_is_a_warning():
    company = {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
    world = SessionWorld(configured(source={"organization": "company"}, organizations=[company]))
    world.organizations["company"] = MemoryOrganization({"r-ab12": ([], [])})
    concluded = play(world)
    (problem,) = world.catalog.read_session(concluded["session_id"]).problems
    assert (concluded["state"], problem.code) == ("Warning", "EmptyScope")


def test_a_session_that_protects_nothing_is_a_warning_that_says_so():
    world = SessionWorld(configured(selection={"tags": [{"key": "bakcup"}]}))
    world.add_instance(tags={"backup": "yes"})
    concluded = play(world)
    (problem,) = world.catalog.read_session(concluded["session_id"]).problems
    assert (concluded["state"], concluded["retry"]) == ("Warning", False)
    assert (problem.code, problem.resource) == ("NothingProtected", POLICY)
    assert "1 accounts were looked at, 0 left out" in problem.message


def test_a_person_who_runs_a_policy_that_protects_nothing_sees_it_and_is_not_warned():
    assert play(SessionWorld(), manual=True)["state"] == "Success"


def test_the_cell_is_started_once_and_the_newest_token_is_answered():
    world = SessionWorld()
    first = start_cell(StartCell.model_validate({**STEP, "task_token": "one"}), world)
    second = start_cell(StartCell.model_validate({**STEP, "task_token": "two"}), world)
    report_cell(ReportCell.model_validate(STEP), world)
    executions = world.executions(REGION)
    ((machine, event),) = executions.started.values()
    assert (first["started"], second["started"]) == (True, False)
    assert machine == f"arn:aws:states:{REGION}:999999999999:stateMachine:holdfast-cell"
    assert "task_token" not in event
    assert executions.answers == {"two": {"region": REGION, "state": "Success"}}


def test_a_cell_that_ended_before_it_was_started_again_is_answered_at_once():
    world = SessionWorld()
    start_cell(StartCell.model_validate({**STEP, "task_token": "one"}), world)
    report_cell(ReportCell.model_validate(STEP), world)
    start_cell(StartCell.model_validate({**STEP, "task_token": "two"}), world)
    assert set(world.executions(REGION).answers) == {"one", "two"}


def test_names_of_executions_are_valid_and_differ_by_attempt_and_region():
    names = set()
    for region in ("eu-central-1", "ap-southeast-2"):
        for attempt in (0, 1):
            world = SessionWorld()
            event = {
                **STEP,
                "session_id": "20261122T070000Z-" + "n" * 49,
                "region": region,
                "attempt": attempt,
            }
            start_cell(StartCell.model_validate({**event, "task_token": "one"}), world)
            names |= set(world.executions(region).started)
    assert len(names) == 4
    assert max(len(name) for name in names) <= 80


def test_an_answer_that_nobody_waits_for_is_no_failure():
    world = SessionWorld()
    start_cell(StartCell.model_validate({**STEP, "task_token": "one"}), world)
    world.executions(REGION).nobody_waits = True
    assert report_cell(ReportCell.model_validate(STEP), world)["state"] == "Success"


def test_an_error_that_stopped_the_cell_is_a_problem_of_its_region():
    world = SessionWorld()
    error = {"Error": "States.ItemReaderFailed", "Cause": "Access denied"}
    answer = report_cell(ReportCell.model_validate({**STEP, "error": error}), world)
    part = world.catalog.read_part(STEP["session_id"], f"region/{REGION}")
    assert (answer["state"], part["lost"]) == ("Failed", True)
    assert part["problems"][0]["message"] == "States.ItemReaderFailed: Access denied"


def test_a_late_cell_neither_answers_nor_overwrites_a_later_attempt():
    world = SessionWorld()
    start_cell(StartCell.model_validate({**STEP, "task_token": "one"}), world)
    start_cell(StartCell.model_validate({**STEP, "attempt": 1, "task_token": "two"}), world)
    record = {"attempt": 1, "ended": False, "selected": 1, "problems": []}
    world.catalog.write_part(STEP["session_id"], f"region/{REGION}", record, at=START)
    report_cell(ReportCell.model_validate(STEP), world)
    assert world.executions(REGION).answers == {}
    assert world.catalog.read_part(STEP["session_id"], f"region/{REGION}") == record


def answered(world: SessionWorld, record: dict[str, Any], attempt: int) -> dict[str, Any]:
    """A session whose Region said no more than ``record``, and answered without an error."""
    session_id = play(world)["session_id"]
    world.catalog.write_part(session_id, f"region/{REGION}", record, at=START)
    event = {**STEP, "session_id": session_id, "attempt": attempt, "regions": [{"region": REGION}]}
    return conclude_session(ConcludeSession.model_validate(event), world)


@pytest.mark.parametrize(
    "record",
    [
        {"attempt": 0, "ended": True, "selected": 1, "state": "Success", "problems": []},
        {"attempt": 1, "ended": False, "selected": 1, "state": "Running", "problems": []},
    ],
)
def test_a_region_that_has_not_ended_in_this_attempt_is_failed_by_name(record: dict[str, Any]):
    world = SessionWorld(configured(retries=1))
    world.add_instance()
    again = answered(world, record, 1)
    session = world.catalog.read_session(again["session_id"])
    assert (again["state"], again["retry"]) == ("Failed", False)
    assert [(problem.code, problem.resource) for problem in session.problems] == [("NotConcluded", REGION)]


def test_a_region_with_fewer_outcomes_than_instances_is_failed_and_tried_again():
    world = SessionWorld(configured(retries=1))
    world.add_instance()
    record = {"attempt": 0, "ended": True, "selected": 2, "state": "Success", "problems": []}
    again = answered(world, record, 0)
    part = world.catalog.read_part(again["session_id"], f"region/{REGION}")
    assert (again["state"], again["retry"], again["regions"]) == ("Failed", True, [REGION])
    assert part["problems"][0]["message"] == (
        f"{REGION} selected 2 instances and recorded how 1 of them ended."
    )
