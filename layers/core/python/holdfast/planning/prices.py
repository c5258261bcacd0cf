"""What AWS requests cost: list prices in USD of us-east-1, as published in 2026.

Only requests are priced here; storage and transfer depend on time and place. Sources: the pricing pages of
EBS (EBS direct APIs), S3 Standard, Lambda (requests), Step Functions (Standard), DynamoDB (on demand), KMS,
SNS and SES.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

USD_PER_REQUEST: Final[Mapping[str, float]] = {
    "ebs:GetSnapshotBlock": 0.003 / 1000,
    "ebs:PutSnapshotBlock": 0.006 / 1000,
    "ebs:ListSnapshotBlocks": 0.0006 / 1000,
    "ebs:ListChangedBlocks": 0.0006 / 1000,
    "s3:PutObject": 0.005 / 1000,
    "s3:CopyObject": 0.005 / 1000,
    "s3:ListObjectsV2": 0.005 / 1000,
    "s3:GetObject": 0.0004 / 1000,
    "s3:HeadObject": 0.0004 / 1000,
    "lambda:Invoke": 0.20 / 1_000_000,
    "states:StateTransition": 0.025 / 1000,
    "dynamodb:PutItem": 0.625 / 1_000_000,
    "dynamodb:UpdateItem": 0.625 / 1_000_000,
    "dynamodb:DeleteItem": 0.625 / 1_000_000,
    "dynamodb:GetItem": 0.125 / 1_000_000,
    "dynamodb:Query": 0.125 / 1_000_000,
    "kms:Encrypt": 0.03 / 10_000,
    "kms:Decrypt": 0.03 / 10_000,
    "secretsmanager:GetSecretValue": 0.05 / 10_000,
    "sns:Publish": 0.50 / 1_000_000,
    "ses:SendEmail": 0.10 / 1000,
}


def request_cost(requests: Mapping[str, int]) -> float:
    """USD for these requests (by ``service:Operation``); those that AWS does not charge for cost nothing."""
    return sum(USD_PER_REQUEST.get(name, 0.0) * count for name, count in requests.items())
