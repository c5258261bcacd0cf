"""Says in the operator's words why pydantic refused a configuration.

Every remark names the field and what would be accepted; a value of the operator is quoted and cut, never
trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from zoneinfo import available_timezones

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from holdfast.model.findings import Finding, Path, closest, shown


def _inner(annotation: Any) -> list[Any]:
    """The types that an annotation is made of: union members, items, values."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _inner(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _inner(member)]
    return [annotation]


def _models(annotation: Any, step: str | int | None) -> Iterator[type[BaseModel]]:
    """The models that stand at ``annotation``, after ``step`` into a list or mapping."""
    for part in _inner(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part
        elif get_origin(part) in (tuple, dict) and step is not None:
            for argument in get_args(part):
                yield from _models(argument, None)


def _fields_at(model: type[BaseModel], path: Path) -> dict[str, FieldInfo]:
    """The fields that may stand at ``path`` in ``model``."""
    models, fields = [model], dict(model.model_fields)
    annotation: Any = None
    for step in path:
        if isinstance(step, str) and step in fields:
            annotation = fields[step].annotation
        models = list(_models(annotation, step))
        fields = {name: field for found in models for name, field in found.model_fields.items()}
    return fields


def _real(loc: tuple[str | int, ...], value: Any) -> Path:
    """The part of an error's location that exists in the value; pydantic also names branches of unions."""
    path: list[str | int] = []
    for step in loc:
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_list or (isinstance(value, dict) and step in value):
            value = value[step]
            path.append(step)
    return tuple(path)


def _options(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _about(field: FieldInfo | None) -> str:
    return f"expected: {field.description}" if field is not None and field.description else ""


_DEMANDS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a mapping",
    "string_too_long": "may have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_long": "may have at most {max_length} entries",
    "too_short": "needs at least {min_length} entry",
    "tuple_type": "must be a list",
}


def _demand(kind: str, context: dict[str, Any], message: str) -> str:
    """What pydantic asks for, in plain words."""
    if kind in _DEMANDS:
        return _DEMANDS[kind].format(**context)
    return f"is refused: {message[:1].lower()}{message[1:]}"


def _zone_suggestion(name: str, value: Any) -> str:
    return closest(str(value), available_timezones()) if "time_zone" in name else ""


def _finding(detail: ErrorDetails, model: type[BaseModel], whole: Any) -> Finding:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    path = _real(detail["loc"], whole)
    name = next((str(step) for step in reversed(path) if isinstance(step, str)), "the configuration")
    if kind == "missing":
        return Finding(path, f"{detail['loc'][-1]} is missing")
    if kind == "extra_forbidden":
        key, known = str(detail["loc"][-1]), sorted(_fields_at(model, path[:-1]))
        return Finding(
            path,
            f"unknown key {shown(key)}",
            closest(key, known) or f"known: {', '.join(known)}",
            at_key=True,
        )
    if kind in ("literal_error", "enum"):
        options = _options(str(context["expected"]))
        suggestion = closest(str(value), options) or f"one of {context['expected']}"
        return Finding(path, f"{shown(str(value))} is not a value of {name}", suggestion)
    if kind == "string_type" and isinstance(value, int | float):
        return Finding(path, f"{name} must be text", "put it in quotes")
    if kind == "string_pattern_mismatch":
        fields = _fields_at(model, path[: path.index(name)]) if name in path else {}
        return Finding(path, f"{shown(str(value))} is not a valid {name}", _about(fields.get(name)))
    if kind == "value_error":
        return Finding(path, f"{name}: {context['error']}", _zone_suggestion(name, value))
    return Finding(path, f"{name} {_demand(kind, context, detail['msg'])}")


def _telling(finding: Finding) -> tuple[int, bool, bool]:
    """How much a remark says, where branches of a union each refuse the same value."""
    return len(finding.path), finding.suggestion.startswith("did you mean"), ": write" in finding.message


def _better(one: Finding, other: Finding) -> Finding:
    """The remark that says more; words that would have been accepted are added to one that names none."""
    first, second = (other, one) if _telling(other) > _telling(one) else (one, other)
    words = second.suggestion.removeprefix("one of ")
    if first.path != second.path or first.suggestion or words == second.suggestion:
        return first
    return replace(first, suggestion=f"or {words}")


def findings(error: ValidationError, model: type[BaseModel], whole: Any) -> list[Finding]:
    """What is wrong with ``whole``, one finding for each place. Time zones get a suggestion."""
    best: dict[Path, Finding] = {}
    for detail in error.errors(include_url=False):
        finding = _finding(detail, model, whole)
        in_union = _union_place(detail["loc"], finding.path, whole)
        place = in_union if in_union is not None else (*finding.path, finding.message)
        other = best.get(place)
        best[place] = _better(other, finding) if other else finding
    return list(best.values())


def _union_place(loc: tuple[str | int, ...], path: Path, whole: Any) -> Path | None:
    """The path of the union that an error comes from, or None when its location names no branch."""
    walked: list[str | int] = []
    for step in loc:
        if _real((*walked, step), whole) == (*walked, step):
            walked.append(step)
        elif isinstance(step, str) and re.search(r"[\[('-]|^[A-Z]", step):
            return tuple(walked)
    return None
