"""Parts of state machines and functions that tests of the engine put together."""

from __future__ import annotations

from typing import Any

OBJECTS = {"Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], "Resource": "*"}


def invoke(name: str, **fields: Any) -> dict[str, Any]:
    """A Task state that invokes a function with the state's input."""
    ends = {} if "Next" in fields else {"End": True}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": name, "Payload": "{% $states.input %}"},
        "Output": "{% $states.result.Payload %}",
        **ends,
        **fields,
    }


def one_state(state: dict[str, Any]) -> dict[str, Any]:
    """A machine with a single state."""
    return {"StartAt": "Only", "States": {"Only": state}}


DOUBLE = "def handler(event, context):\n    return {'twice': 2 * event['n']}\n"

FRAGILE = """
    class TransientError(Exception): pass
    class PermanentError(Exception): pass
    calls = []
    def handler(event, context):
        calls.append(event)
        if len(calls) <= event.get('failures', 0):
            raise TransientError('try again')
        if event.get('broken'):
            raise PermanentError('no use')
        return {'calls': len(calls)}
"""
