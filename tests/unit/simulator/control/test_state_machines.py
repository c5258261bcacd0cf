"""State machines run as Step Functions runs them, in virtual time."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest


def invoke(name: str, **fields: Any) -> dict[str, Any]:
    """A Task state that invokes a function with the state's input."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": name, "Payload": "{% $states.input %}"},
        "Output": "{% $states.result.Payload %}",
        "End": True,
        **fields,
    }


def test_a_function_answers_a_task(stack, functions):
    asset = functions(double="def handler(event, context):\n    return {'twice': 2 * event['n']}\n")
    stack.function("double", asset)
    stack.machine("Machine", {"StartAt": "Double", "States": {"Double": invoke("double")}})
    stack.deploy()

    execution = stack.run("Machine", {"n": 21})

    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    assert json.loads(execution.output) == {"twice": 42}
