from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ParamValidationError

from holdfast.aws.faults import FAULTS, is_retryable, translate, translating
from holdfast.errors import (
    AccessDeniedError,
    ChecksumError,
    ConfigurationError,
    ConflictError,
    HoldfastError,
    KeyUnavailableError,
    NotFoundError,
    PermanentError,
    SourceGoneError,
    ThrottledError,
    TransientError,
    UnavailableError,
)

ROLE = "arn:aws:iam::111122223333:role/HoldfastBackup"


@pytest.mark.parametrize(
    "code, action, error",
    [
        ("RequestLimitExceeded", "ec2:CreateSnapshots", ThrottledError),
        ("Client.RequestLimitExceeded", "ec2:CreateSnapshots", ThrottledError),
        ("SlowDown", "s3:PutObject", ThrottledError),
        ("InternalError", "ec2:DescribeInstances", UnavailableError),
        ("ExpiredToken", "s3:GetObject", UnavailableError),
        ("com.amazonaws.dynamodb.v20120810#ThrottlingException", "dynamodb:PutItem", ThrottledError),
        ("ThrottlingException:http://internal.amazon.com/coral/", "kms:Decrypt", ThrottledError),
        ("UnauthorizedOperation", "ec2:CreateSnapshots", AccessDeniedError),
        ("OptInRequired", "ec2:DescribeInstances", AccessDeniedError),
        ("NotFoundException", "kms:Decrypt", KeyUnavailableError),
        ("NotFoundException", "organizations:ListAccounts", NotFoundError),
        ("KMSInvalidStateException", "kms:Decrypt", KeyUnavailableError),
        ("KeyUnavailableException", "kms:Decrypt", UnavailableError),
        ("InvalidCiphertextException", "kms:Decrypt", KeyUnavailableError),
        ("InvalidSnapshot.NotFound", "ec2:DescribeSnapshots", SourceGoneError),
        ("ResourceNotFoundException", "ebs:GetSnapshotBlock", SourceGoneError),
        ("ResourceNotFoundException", "dynamodb:GetItem", NotFoundError),
        ("ConditionalCheckFailedException", "dynamodb:PutItem", ConflictError),
        ("ExecutionAlreadyExists", "states:StartExecution", ConflictError),
        ("InvalidObjectState", "s3:GetObject", PermanentError),
        ("BadDigest", "s3:PutObject", ChecksumError),
        ("SnapshotLimitExceeded", "ec2:CreateSnapshots", PermanentError),
        ("InvalidParameterValue", "ec2:RunInstances", ConfigurationError),
        ("NeverHeardOf", "ec2:RunInstances", PermanentError),
    ],
)
def test_codes_become_errors_that_say_who_acts(code: str, action: str, error: type[HoldfastError]) -> None:
    raised = translate(code, "Something.", action=action, resource="thing-1", status=400)
    assert type(raised) is error
    assert action in raised.message
    assert raised.resource == "thing-1" or error is AccessDeniedError


@pytest.mark.parametrize(
    "status, error",
    [
        (500, UnavailableError),
        (503, UnavailableError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (412, ConflictError),
        (429, ThrottledError),
        (418, PermanentError),
    ],
)
def test_without_a_code_the_status_decides(status: int, error: type[HoldfastError]) -> None:
    assert type(translate("", "", action="s3:GetObject", status=status)) is error


def test_the_reason_of_ebs_wins_over_its_code() -> None:
    for reason, error in (
        ("UNRELATED_SNAPSHOTS", ConflictError),
        ("INVALID_PAGE_TOKEN", TransientError),
        ("SNAPSHOT_NOT_FOUND", SourceGoneError),
        ("NOT_A_REASON", ConfigurationError),
    ):
        raised = translate("ValidationException", "", action="ebs:ListChangedBlocks", reason=reason)
        assert type(raised) is error
    assert is_retryable("ValidationException", service="ebs", reason="WRITE_REQUEST_TIMEOUT")
    assert not is_retryable("ValidationException", service="ebs", reason="INVALID_PAGE_TOKEN")


def test_a_refusal_tells_role_action_resource_and_remedy() -> None:
    error = translate("AccessDenied", "Access Denied", action="s3:PutObject", role=ROLE, resource="s3://b/k")
    assert error.message == f"{ROLE} was denied s3:PutObject on s3://b/k (AccessDenied: Access Denied)"
    assert error.remedy == f"Allow s3:PutObject on s3://b/k to {ROLE}."
    assert error.resource == ROLE


@pytest.mark.parametrize(
    "because, remedy",
    [
        ("no identity-based policy allows the ec2:CreateSnapshots action", "Allow ec2:CreateSnapshots on"),
        ("with an explicit deny in a service control policy", "A service control policy of the Organization"),
        ("with an explicit deny in an identity-based policy", "An explicit deny"),
        ("no permissions boundary allows the action", "The role's permissions boundary"),
        ("no session policy allows the action", "The session's own policy"),
        ("with an explicit deny in a resource control policy", "A resource control policy"),
    ],
)
def test_what_aws_says_about_a_refusal_is_used(because: str, remedy: str) -> None:
    who = "arn:aws:sts::111122223333:assumed-role/HoldfastBackup/holdfast"
    message = (
        f"User: {who} is not authorized to perform: ec2:CreateSnapshots on resource: "
        f"arn:aws:ec2:eu-central-1:111122223333:instance/i-1 because {because}"
    )
    error = translate("UnauthorizedOperation", message, action="ec2:CreateSnapshot")
    assert error.message.startswith(f"{who} was denied ec2:CreateSnapshots on arn:aws:ec2:eu-central-1:")
    assert error.remedy.startswith(remedy)


def test_what_aws_says_is_cut_and_cannot_forge_lines() -> None:
    error = translate("InternalError", "one\r\nERROR two\x1b[31m" + "x" * 5_000, action="ec2:RunInstances")
    assert "one ERROR two [31m" in error.message
    assert len(error.message) < 800
    assert error.message.isprintable()


def test_errors_of_boto3_are_translated_where_they_are_raised() -> None:
    refused = {"Error": {"Code": "Throttling", "Message": "Rate exceeded"}, "ResponseMetadata": {}}
    cases: list[tuple[Exception, type[HoldfastError]]] = [
        (ClientError(refused, "AssumeRole"), ThrottledError),  # type: ignore[arg-type]
        (EndpointConnectionError(endpoint_url="https://sts"), UnavailableError),
        (NoCredentialsError(), ConfigurationError),
    ]
    for raised, error in cases:
        with pytest.raises(error) as caught, translating("sts:AssumeRole", resource=ROLE):
            raise raised
        assert caught.value.__cause__ is raised
        assert caught.value.resource == ROLE


def test_defects_of_ours_and_errors_of_holdfast_pass_as_they_are() -> None:
    for raised in (ParamValidationError(report="x"), KeyError("x"), ConflictError("x")):
        with pytest.raises(type(raised)) as caught, translating("ec2:RunInstances"):
            raise raised
        assert caught.value is raised


def test_every_code_stands_once_in_the_table() -> None:
    assert all(fault.error is not HoldfastError for fault in FAULTS.values())
    assert {"Throttling", "ExpiredToken", "AccessDenied", "UNRELATED_SNAPSHOTS"} <= FAULTS.keys()
