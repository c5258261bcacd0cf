"""The IAM policy language: what a set of policy documents says about one request.

An operator, key form or element that is not understood here raises; guessing would turn a missing
permission into a passing test. Source: "Policy evaluation logic" and "IAM JSON policy elements" of the IAM
user guide.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Effect = Literal["Allow", "Deny", "None"]
Document = Mapping[str, Any]
Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One action on one resource. ``context`` holds condition keys, lower case, each with its values."""

    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the documents say, and by which statement (its place: document name and index)."""

    effect: Effect
    statement: str = ""


def evaluate(documents: Iterable[tuple[str, Document]], request: Request) -> Decision:
    """An explicit Deny wins, then any Allow; otherwise "None": nothing was said."""
    allowed = Decision("None")
    for name, document in documents:
        for index, statement in enumerate(statements(document)):
            if allowed.effect == "Allow" and statement["Effect"] == "Allow":
                continue
            if not applies(statement, request):
                continue
            if statement["Effect"] == "Deny":
                return Decision("Deny", f"{name}[{index}]")
            allowed = Decision("Allow", f"{name}[{index}]")
    return allowed


def statements(document: Document) -> list[Statement]:
    """The statements of a document; a single one may stand without a list."""
    found = document.get("Statement", [])
    return [found] if isinstance(found, Mapping) else list(found)


def applies(statement: Statement, request: Request) -> bool:
    """Whether a statement speaks about a request. Raises ValueError for what is not understood."""
    if "Principal" in statement and not matches_principal(statement["Principal"], request.principal):
        return False
    if "NotPrincipal" in statement:
        raise ValueError("NotPrincipal is not understood here")
    if "Action" in statement:
        if not any(like(pattern, request.action, fold=True) for pattern in _listed(statement["Action"])):
            return False
    elif any(like(pattern, request.action, fold=True) for pattern in _listed(statement["NotAction"])):
        return False
    variables = request.context
    if "Resource" in statement:
        patterns = [_filled(pattern, variables) for pattern in _listed(statement["Resource"])]
        if not any(like(pattern, request.resource) for pattern in patterns):
            return False
    elif "NotResource" in statement:
        patterns = [_filled(pattern, variables) for pattern in _listed(statement["NotResource"])]
        if any(like(pattern, request.resource) for pattern in patterns):
            return False
    return all(
        _holds(operator, key, _listed(expected), variables)
        for operator, block in statement.get("Condition", {}).items()
        for key, expected in block.items()
    )


def matches_principal(element: Any, principal: str) -> bool:
    """Whether a Principal element names ``principal``: the ARN of a role or user, or a service name."""
    if element == "*":
        return True
    if not principal:
        return False
    account = principal.split(":")[4] if principal.startswith("arn:") else ""
    for kind, values in element.items():
        for value in _listed(values):
            if kind == "Service" and value == principal:
                return True
            if kind != "AWS":
                continue
            if value in ("*", principal) or (account and value in (account, f"arn:aws:iam::{account}:root")):
                return True
    return False


def names_principal(element: Any, principal: str) -> bool:
    """Whether a Principal element names the role itself, not only its account."""
    return isinstance(element, Mapping) and principal in _listed(element.get("AWS", []))


def like(pattern: str, text: str, *, fold: bool = False) -> bool:
    """IAM's wildcards: ``*`` any text, ``?`` one character."""
    return _pattern(pattern, fold).fullmatch(text) is not None


@functools.lru_cache(maxsize=8192)
def _pattern(pattern: str, fold: bool) -> re.Pattern[str]:
    parts = [{"*": ".*", "?": "."}.get(part, re.escape(part)) for part in re.split(r"([*?])", pattern)]
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def _listed(value: Any) -> list[str]:
    return [_text(item) for item in value] if isinstance(value, list | tuple) else [_text(value)]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filled(pattern: str, context: Mapping[str, Sequence[str]]) -> str:
    """A pattern with policy variables replaced; one without a value matches nothing."""
    if "${" not in pattern:
        return pattern

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in {"*", "?", "$"}:
            return f"[{name}]" if name != "$" else "$"
        values = context.get(name.lower())
        return values[0] if values else "\0"

    return re.sub(r"\$\{([^}]+)\}", value, pattern)


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda actual, expected: compare(float(actual), float(expected))


def _date(compare: Callable[[datetime, datetime], bool]) -> Callable[[str, str], bool]:
    return lambda actual, expected: compare(datetime.fromisoformat(actual), datetime.fromisoformat(expected))


def _arn_like(actual: str, expected: str) -> bool:
    actual_parts, expected_parts = actual.split(":", 5), expected.split(":", 5)
    if len(actual_parts) != 6 or len(expected_parts) != 6:
        return False
    return all(like(one, other) for one, other in zip(expected_parts, actual_parts, strict=True))


# Per operator: how one actual value relates to one expected value, and whether the operator is a negation.
_OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (lambda actual, expected: actual == expected, False),
    "StringNotEquals": (lambda actual, expected: actual == expected, True),
    "StringEqualsIgnoreCase": (lambda actual, expected: actual.lower() == expected.lower(), False),
    "StringNotEqualsIgnoreCase": (lambda actual, expected: actual.lower() == expected.lower(), True),
    "StringLike": (lambda actual, expected: like(expected, actual), False),
    "StringNotLike": (lambda actual, expected: like(expected, actual), True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (lambda actual, expected: actual.lower() == expected.lower(), False),
    "NumericEquals": (_number(lambda actual, expected: actual == expected), False),
    "NumericNotEquals": (_number(lambda actual, expected: actual == expected), True),
    "NumericLessThan": (_number(lambda actual, expected: actual < expected), False),
    "NumericLessThanEquals": (_number(lambda actual, expected: actual <= expected), False),
    "NumericGreaterThan": (_number(lambda actual, expected: actual > expected), False),
    "NumericGreaterThanEquals": (_number(lambda actual, expected: actual >= expected), False),
    "DateLessThan": (_date(lambda actual, expected: actual < expected), False),
    "DateGreaterThan": (_date(lambda actual, expected: actual > expected), False),
    "IpAddress": (
        lambda actual, expected: ipaddress.ip_address(actual) in ipaddress.ip_network(expected),
        False,
    ),
    "NotIpAddress": (
        lambda actual, expected: ipaddress.ip_address(actual) in ipaddress.ip_network(expected),
        True,
    ),
}


def _holds(operator: str, key: str, expected: list[str], context: Mapping[str, Sequence[str]]) -> bool:
    quantifier, _, name = operator.rpartition(":")
    values = context.get(key.lower())
    if name == "Null":
        return (values is None) == (expected[0] == "true")
    optional = name.endswith("IfExists")
    base = name.removesuffix("IfExists")
    if base not in _OPERATORS or quantifier not in {"", "ForAllValues", "ForAnyValue"}:
        raise ValueError(f"the condition operator {operator} is not understood here")
    relation, negated = _OPERATORS[base]
    expected = [_filled(value, context) for value in expected]
    if values is None:
        return optional or quantifier == "ForAllValues" or (negated and quantifier == "")

    def one(actual: str) -> bool:
        return any(relation(actual, value) for value in expected) != negated

    if quantifier == "ForAllValues":
        return all(one(actual) for actual in values)
    return any(one(actual) for actual in values)
