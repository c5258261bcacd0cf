"""Telling a result to people and programs: one SNS topic and one mail for each mailing.

Whoever could not be told is a warning, and the others are told all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.model.configuration import Mailing
from holdfast.model.session import Problem, State
from holdfast.operations.reports.report import ascii_subject
from holdfast.operations.services import Services
from holdfast.operations.steps import problem_of
from holdfast.ports import Mail

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A result in all its forms; ``subject`` is one line."""

    subject: str
    text: str
    html: str
    document: Mapping[str, Any] = field(hash=False)


def tell(mailing: Mailing, message: Message, services: Services) -> list[Problem]:
    """Publish and send; what could not be is returned as warnings."""
    problems = []
    try:
        if mailing.topic_arn:
            subject = ascii_subject(message.subject)
            services.notifier.publish(mailing.topic_arn, subject, message.text, message.document)
    except HoldfastError as error:
        problems.append(_untold(error, mailing.topic_arn))
    try:
        if mailing.recipients and mailing.sender:
            services.notifier.send(
                Mail(mailing.sender, mailing.recipients, message.subject, message.text, message.html)
            )
    except HoldfastError as error:
        problems.append(_untold(error, ", ".join(mailing.recipients)))
    return problems


def _untold(error: HoldfastError, whom: str) -> Problem:
    log.error("%s could not be told: %s", whom, error)
    problem = problem_of(error, resource=whom, severity=State.WARNING)
    return problem.model_copy(update={"message": f"The result could not be sent: {problem.message}"})
