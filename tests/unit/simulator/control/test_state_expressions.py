"""JSONata as Step Functions evaluates it."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.expressions import Evaluator
from simulator.failures import StateFailure, matches

NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
STATES = {"input": {"n": 3, "none": None, "list": [1, 2, 3], "one": [{"k": "v"}], "text": 'say "hi" \\ {%'}}


@pytest.fixture
def evaluate() -> Any:
    """Renders a template over the same input."""
    evaluator = Evaluator(lambda: NOW, random.Random(1))
    return lambda template: evaluator.render(template, {"states": STATES, "known": {"a": 1}})


@pytest.mark.parametrize(
    "template, value",
    [
        ("plain {% text", "plain {% text"),
        ("{% $states.input.n + 1 %}", 4),
        ("{% $known.a %}", 1),
        ("{% $states.input.none %}", None),
        ("{% $states.input.one.k %}", "v"),
        ("{% [$states.input.one.k] %}", ["v"]),
        ("{% $states.input.text %}", 'say "hi" \\ {%'),
        ({"a": ["{% $states.input.n %}", 1.5, True, None]}, {"a": [3, 1.5, True, None]}),
        ("{% {'absent': $states.input.absent, 'n': 1} %}", {"n": 1}),
        ("{% $map($states.input.list, function($v) { $v * 2 }) %}", [2, 4, 6]),
        ("{% $partition([1, 2, 3, 4, 5], 2) %}", [[1, 2], [3, 4], [5]]),
        ("{% $range(1, 9, 3) %}", [1, 4, 7]),
        ("{% $parse('{\"a\": [1]}') %}", {"a": [1]}),
        ("{% $hash('abc', 'SHA-256') %}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{% $now() %}", "2026-11-22T07:00:00.000Z"),
        ("{% $millis() %}", int(NOW.timestamp() * 1000)),
        ("{% 10 / 4 %}", 2.5),
        ("{% 10 / 5 %}", 2),
    ],
)
def test_a_template_is_rendered(evaluate, template, value):
    assert evaluate(template) == value


def test_ids_and_chance_are_well_formed_and_seeded(evaluate):
    first, second = evaluate("{% $uuid() %}"), evaluate("{% $uuid() %}")
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)
    assert evaluate("{% $random(7) %}") == evaluate("{% $random(7) %}")


@pytest.mark.parametrize(
    "template",
    [
        "{% $states.input.absent %}",
        {"deep": ["{% $unknown %}"]},
        "{% $states.input.text + 1 %}",
        "{% $nosuchfunction() %}",
        "{% $error('stop') %}",
        "{% function($x) { $x } %}",
        "{% $parse('not json') %}",
    ],
)
def test_what_yields_no_value_fails_the_state(evaluate, template):
    with pytest.raises(StateFailure) as failure:
        evaluate(template)
    assert failure.value.error == "States.QueryEvaluationError"


@pytest.mark.parametrize(
    "error, clause, is_matched",
    [
        ("TransientError", ["TransientError"], True),
        ("TransientError", ["Other"], False),
        ("TransientError", ["States.TaskFailed"], True),
        ("TransientError", ["States.ALL"], True),
        ("States.Timeout", ["States.TaskFailed"], False),
        ("States.Timeout", ["States.ALL"], True),
        ("States.HeartbeatTimeout", ["States.Timeout"], True),
        ("States.DataLimitExceeded", ["States.ALL"], False),
        ("States.DataLimitExceeded", ["States.DataLimitExceeded"], True),
        ("States.Runtime", ["States.ALL"], False),
    ],
)
def test_clauses_match_errors_as_the_service_does(error, clause, is_matched):
    assert matches(error, clause) is is_matched
