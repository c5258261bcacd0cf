"""What people and programs are told: mails sent through SES, messages published to SNS topics.

Messages are kept as they were sent, so that a test or a person can read them; nothing leaves the process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from typing import Any

from moto.ses.models import ses_backends
from moto.sesv2.responses import SESV2Response
from moto.sns.models import sns_backends

from simulator.patches import Patches


@dataclass(frozen=True, slots=True)
class SentMail:
    """A mail that SES accepted; ``text`` or ``html`` is empty when there was no such part."""

    account: str
    region: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Published:
    """A message that a topic accepted."""

    topic_arn: str
    subject: str
    message: str
    attributes: dict[str, Any]


class Mailbox:
    """Every mail of the world, in the order sent; ``simulator.mail``."""

    def all(self) -> list[SentMail]:
        """Mails of all accounts and Regions."""
        return [
            _read(account, region, message)
            for account, regions in sorted(ses_backends.items())
            for region, backend in sorted(regions.items())
            for message in backend.sent_messages
        ]

    def to(self, recipient: str) -> list[SentMail]:
        """Mails to one address."""
        return [mail for mail in self.all() if recipient in mail.recipients]


class Topics:
    """What was published to topics; ``simulator.topics``."""

    def published(self, name: str = "") -> list[Published]:
        """Messages of topics whose ARN contains ``name``."""
        return [
            Published(arn, subject or "", message, dict(attributes or {}))
            for regions in list(sns_backends.values())
            for backend in list(regions.values())
            for arn, topic in sorted(backend.topics.items())
            if name in arn
            for _, message, subject, attributes, *_ in topic.sent_notifications
        ]


def _read(account: str, region: str, message: Any) -> SentMail:
    given = getattr(message, "given", None)
    if given is None:  # sent through the first version of the API
        recipients = _addresses(message.destinations) if hasattr(message, "destinations") else ()
        text = getattr(message, "body", "")
        return SentMail(
            account, region, message.source, recipients, getattr(message, "subject", ""), text, ""
        )
    recipients = _addresses(given.get("Destination", {}))
    content = given["Content"]
    if "Raw" in content:
        parsed = message_from_string(message.raw_data)
        text, html = _part(parsed, "text/plain"), _part(parsed, "text/html")
        return SentMail(
            account, region, given["FromEmailAddress"], recipients, parsed["Subject"] or "", text, html
        )
    body = content["Simple"]["Body"]
    return SentMail(
        account,
        region,
        given["FromEmailAddress"],
        recipients,
        content["Simple"]["Subject"]["Data"],
        body.get("Text", {}).get("Data", ""),
        body.get("Html", {}).get("Data", ""),
    )


def _addresses(destination: Any) -> tuple[str, ...]:
    if isinstance(destination, dict):
        return tuple(address for addresses in destination.values() for address in addresses)
    return tuple(destination)


def _part(message: Message, kind: str) -> str:
    for part in message.walk():
        if part.get_content_type() == kind:
            return bytes(part.get_payload(decode=True)).decode()  # type: ignore[arg-type]
    return ""


def install(patches: Patches) -> None:
    """Keep both parts of a mail; moto keeps one."""

    def send_email(response: SESV2Response) -> str:
        answer: str = original(response)
        sent = response.sesv2_backend.core_backend.sent_messages
        given = json.loads(response.body)
        identifier = json.loads(answer)["MessageId"]
        for message in reversed(sent):
            if message.id == identifier:
                message.given = given
                break
        return answer

    original = patches.set(SESV2Response, "send_email", send_email)
