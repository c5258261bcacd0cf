"""JSONata in state machines: expressions between ``{%`` and ``%}``, evaluated as Step Functions does.

An expression that yields nothing is an error there, not null; that difference must survive here, because it
is the commonest mistake in a definition and shows only at run time.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jsonata import Jsonata
from jsonata.jexception import JException
from jsonata.utils import Utils

from simulator.failures import StateFailure

_OPEN, _CLOSE = "{%", "%}"


def is_expression(value: object) -> bool:
    """Whether a string of a definition is a JSONata expression."""
    return isinstance(value, str) and value.startswith(_OPEN) and value.endswith(_CLOSE)


def check(expression: str) -> None:
    """Raise ValueError when the text between the markers is not JSONata."""
    try:
        Jsonata(expression[len(_OPEN) : -len(_CLOSE)])
    except JException as error:
        raise ValueError(f"{expression}: {error}") from error


class Evaluator:
    """Evaluates templates and keeps parsed expressions: a Map evaluates the same few thousands of times."""

    def __init__(self, now: Callable[[], datetime], chance: random.Random) -> None:
        self._now = now
        self._chance = chance
        self._parsed = threading.local()

    def render(self, template: Any, bindings: Mapping[str, Any]) -> Any:
        """``template`` with every expression in it replaced by its value."""
        if isinstance(template, str):
            return self._evaluate(template, bindings) if is_expression(template) else template
        if isinstance(template, dict):
            return {key: self.render(value, bindings) for key, value in template.items()}
        if isinstance(template, list):
            return [self.render(value, bindings) for value in template]
        return template

    def _evaluate(self, text: str, bindings: Mapping[str, Any]) -> Any:
        try:
            value = self._parse(text).evaluate(None, dict(bindings))
        except JException as error:
            raise StateFailure(
                "States.QueryEvaluationError", f"The JSONata expression '{text}' failed: {error}"
            ) from error
        except (TypeError, ValueError, KeyError, ZeroDivisionError, RecursionError) as error:
            raise StateFailure(
                "States.QueryEvaluationError", f"The JSONata expression '{text}' failed: {error!r}"
            ) from error
        if value is None:
            raise StateFailure(
                "States.QueryEvaluationError",
                f"The JSONata expression '{text}' returned nothing (undefined).",
            )
        return _plain(value, text)

    def _parse(self, text: str) -> Jsonata:
        parsed: dict[str, Jsonata] | None = getattr(self._parsed, "expressions", None)
        if parsed is None:
            parsed = self._parsed.expressions = {}
        if text not in parsed:
            expression = Jsonata(text[len(_OPEN) : -len(_CLOSE)])
            expression.set_output_convert_nulls(False)
            expression.set_validate_input(False)
            for name, function in self._functions().items():
                expression.register_lambda(name, function)
            parsed[text] = expression
        return parsed[text]

    def _functions(self) -> dict[str, Callable[..., Any]]:
        """What Step Functions adds to JSONata, and its clock."""
        return {
            "now": lambda *_: self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "millis": lambda *_: int(self._now().timestamp() * 1000),
            "uuid": lambda *_: str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            "random": lambda seed=None: (random.Random(seed) if seed is not None else self._chance).random(),
            "parse": json.loads,
            "partition": lambda values, size: [values[i : i + size] for i in range(0, len(values), size)],
            "range": lambda first, last, step=1: list(range(first, last + 1, step)),
            "hash": lambda text, algorithm: hashlib.new(
                algorithm.replace("-", ""), str(text).encode()
            ).hexdigest(),
        }


def _plain(value: Any, text: str) -> Any:
    """Plain JSON values: the evaluator's own list and null types must not travel on."""
    if value is Utils.NULL_VALUE or value is None:
        return None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return {key: _plain(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item, text) for item in value]
    raise StateFailure(
        "States.QueryEvaluationError", f"The JSONata expression '{text}' returned a function, not a value."
    )
