"""Passwords of repositories from Secrets Manager.

The password must never reach a log or an error message: only the ARN of its secret does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.aws.faults import translating
from holdfast.errors import AccessDeniedError, KeyUnavailableError, NotFoundError

if TYPE_CHECKING:
    import boto3


def read_password(session: Callable[[], boto3.Session], secret_arn: str) -> str:
    """The password in a secret: its text, or the field ``password`` of its JSON object.

    Raises KeyUnavailableError naming the secret.
    """
    region = secret_arn.split(":")[3] if secret_arn.count(":") >= 6 else None
    try:
        with translating("secretsmanager:GetSecretValue", resource=secret_arn):
            client = session().client("secretsmanager", region_name=region)
            text = client.get_secret_value(SecretId=secret_arn).get("SecretString") or ""
    except (AccessDeniedError, NotFoundError) as error:
        raise KeyUnavailableError(error.message, resource=secret_arn, remedy=error.remedy) from error
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    password = parsed.get("password") if isinstance(parsed, dict) else text
    if not isinstance(password, str) or not password:
        raise KeyUnavailableError(
            "The secret holds no password.",
            resource=secret_arn,
            remedy='Store the password as its text, or as {"password": "..."}.',
        )
    return password
