"""Results to people and programs: SNS topics and SES mail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.aws.faults import translating
from holdfast.ports import Mail


class AwsNotifier:
    """`ports.Notifier`. ``client`` gives a boto3 client for service and Region; mail leaves from one."""

    def __init__(self, client: Callable[[str, str], Any], region: str) -> None:
        self._client = client
        self._region = region

    def publish(self, topic_arn: str, subject: str, text: str, document: Mapping[str, Any]) -> None:
        program = json.dumps(document, separators=(",", ":"))
        message = {"default": program, "email": text, "sms": subject, "email-json": program}
        with translating("sns:Publish", resource=topic_arn):
            self._client("sns", topic_arn.split(":")[3]).publish(
                TopicArn=topic_arn,
                Subject=subject,
                Message=json.dumps(message),
                MessageStructure="json",
            )

    def send(self, mail: Mail) -> None:
        with translating("ses:SendEmail", resource=mail.sender):
            self._client("sesv2", self._region).send_email(
                FromEmailAddress=mail.sender,
                Destination={"ToAddresses": list(mail.recipients)},
                Content={
                    "Simple": {
                        "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
                        "Body": {
                            "Text": {"Data": mail.text, "Charset": "UTF-8"},
                            "Html": {"Data": mail.html, "Charset": "UTF-8"},
                        },
                    }
                },
            )
