"""IAM statements as values: what is allowed, on what, when, and why a wildcard is unavoidable.

A resource or action with a ``*`` must carry a reason. The reason is shown in docs/iam-permissions.md and is
the acknowledgement of the finding in the security checks, so that no wildcard exists without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import IConstruct

from holdfast.errors import ConfigurationError

INLINE_LIMIT: Final = 10_240
MANAGED_LIMIT: Final = 6_144

Conditions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Statement:
    """One Allow. ``because`` explains a wildcard in resources or actions, and is empty without one."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    when: Conditions = field(default_factory=dict)
    because: str = ""

    def __post_init__(self) -> None:
        wild = [text for text in (*self.actions, *self.resources) if "*" in text]
        if bool(wild) != bool(self.because):
            detail = f"has {wild[0]} without a reason" if wild else "has a reason but no wildcard"
            raise ValueError(f"IAM statement {self.sid} {detail}")

    def document(self) -> dict[str, Any]:
        """The statement as IAM reads it; lists are sorted, so that templates are stable."""
        conditions = (
            {"Condition": {key: dict(value) for key, value in self.when.items()}} if self.when else {}
        )
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(self.resources),
            **conditions,
        }


def allow(
    sid: str, actions: str, *resources: str, when: Conditions | None = None, because: str = ""
) -> Statement:
    """A statement; ``actions`` are separated by spaces, and those without a service take the previous one's.

    Raises ValueError when a wildcard has no reason.
    """
    named: list[str] = []
    service = ""
    for word in actions.split():
        head, colon, action = word.rpartition(":")
        service = head if colon else service
        named.append(f"{service}:{action}")
    return Statement(sid, tuple(named), resources, when or {}, because)


def without_repeats(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Statements of pieces that overlap, each once. Raises ValueError when two with one name differ."""
    known: dict[str, Statement] = {}
    for statement in statements:
        if known.setdefault(statement.sid, statement) != statement:
            raise ValueError(f"Two different IAM statements are called {statement.sid}")
    return tuple(known.values())


def policy_document(
    statements: Iterable[Statement], whose: str, limit: int = INLINE_LIMIT
) -> iam.PolicyDocument:
    """These statements as a document. Raises ConfigurationError when it is longer than IAM allows."""
    document = {"Version": "2012-10-17", "Statement": [statement.document() for statement in statements]}
    length = len(json.dumps(document, separators=(",", ":")))
    if length > limit:
        raise ConfigurationError(
            f"The permissions need {length} characters; IAM allows {limit}.",
            resource=whose,
            remedy="Name fewer roles, repositories or topics; an Organization stands for many roles.",
        )
    return iam.PolicyDocument.from_json(document)


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Accept one finding of the security checks on this construct, for a reason."""
    cdk.Validations.of(construct).acknowledge(
        cdk.Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=" ".join(reason.split()))
    )


def acknowledge_wildcards(construct: IConstruct, statements: Sequence[Statement]) -> None:
    """Accept every wildcard of these statements on this construct, each for the statement's own reason."""
    reasons: dict[str, list[str]] = {}
    for statement in statements:
        for kind, texts in (("Resource", statement.resources), ("Action", statement.actions)):
            for text in texts:
                if "*" in text and not cdk.Token.is_unresolved(text):
                    reasons.setdefault(f"IAM5[{kind}::{text}]", []).append(statement.because)
    for rule, because in reasons.items():
        acknowledge(construct, rule, " ".join(dict.fromkeys(because)))
