"""AWS error codes, translated once: what happened in Holdfast's words, and what the reader can do about it.

Codes are looked up by the EBS ``Reason``, then as ``Operation:code`` and ``service:code``, then bare, then by
HTTP status: a service's own meaning of a common code wins. Adapters retry what :func:`is_retryable` says and
raise what :func:`translate` returns; nobody else compares AWS codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

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


class Fault(NamedTuple):
    """The error that a code becomes, and its remedy."""

    error: type[HoldfastError]
    remedy: str = ""


_LATER: Final = "It is tried again later."
_KEY: Final = "Enable the key, or cancel its deletion, and let its key policy allow the role kms:Decrypt."
_GONE: Final = "It was deleted since it was listed; the next session takes a new one."
_QUOTA: Final = "Raise the quota in Service Quotas."

_GROUPS: Final[tuple[tuple[Fault, str], ...]] = (
    (
        Fault(ThrottledError, _LATER),
        """
        Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException
        TooManyRequestsException TooManyRequests ProvisionedThroughputExceededException
        RequestLimitExceeded BandwidthLimitExceeded SlowDown EC2ThrottledException
        PriorRequestNotComplete ClientThrottled ConcurrentLimitExceededException
        SnapshotCreationPerVolumeRateExceeded ConcurrentSnapshotLimitExceeded
        PendingSnapshotLimitExceeded ConcurrentModificationException TransactionInProgressException
        sns:Throttled ses:LimitExceededException lambda:ResourceConflictException
        CopySnapshot:ResourceLimitExceeded
        """,
    ),
    (
        Fault(UnavailableError, _LATER),
        """
        InternalError InternalFailure InternalServerError InternalServerException InternalErrorException
        ServiceUnavailable ServiceUnavailableException Unavailable ServiceException RequestTimeout
        RequestTimeoutException RequestTimeTooSkewed RequestInTheFuture IDPCommunicationError
        ServerException kms:KMSInternalException KMSInternalException kms:DependencyTimeoutException
        DependencyTimeoutException kms:KeyUnavailableException s3:ConditionalRequestConflict
        s3:OperationAborted ServiceFailure WRITE_REQUEST_TIMEOUT CONFLICTING_BLOCK_UPDATE
        """,
    ),
    (
        Fault(TransientError, "The listing is too old; blocks are listed again."),
        """
        INVALID_PAGE_TOKEN INVALID_BLOCK_TOKEN
        """,
    ),
    (
        Fault(UnavailableError, "The session token expired; a new one is requested."),
        """
        ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired
        """,
    ),
    (
        Fault(
            AccessDeniedError,
            "Allow the action in the policies of the role, and in the resource's own policy.",
        ),
        """
        AccessDenied AccessDeniedException UnauthorizedOperation AuthorizationError
        AuthorizationErrorException Forbidden AllAccessDisabled NotAuthorized UnauthorizedException
        UNAUTHORIZED_ACCOUNT
        """,
    ),
    (
        Fault(
            AccessDeniedError,
            "The credentials are not known to AWS: check the identity, and wait a minute after creating it.",
        ),
        """
        InvalidClientTokenId UnrecognizedClientException InvalidAccessKeyId SignatureDoesNotMatch
        AuthFailure InvalidSignatureException IncompleteSignature MissingAuthenticationToken
        """,
    ),
    (
        Fault(AccessDeniedError, "Enable the Region for the account, or take it out of the policy."),
        """
        OptInRequired RegionDisabledException
        """,
    ),
    (
        Fault(KeyUnavailableError, _KEY),
        """
        DisabledException KMS.DisabledException KMSInvalidStateException KMS.KMSInvalidStateException
        kms:NotFoundException KMS.NotFoundException KMSNotFoundException KMSDisabledException
        kms:InvalidKeyUsageException KMS.AccessDeniedException KMSAccessDeniedException InvalidKmsKeyArn
        KMS.InvalidStateException KmsKeyInaccessible InvalidKMSKey.InvalidState INVALID_CUSTOMER_KEY
        KMSKeyNotAccessibleFault DEPENDENCY_ACCESS_DENIED secretsmanager:DecryptionFailure
        secretsmanager:EncryptionFailure
        """,
    ),
    (
        Fault(KeyUnavailableError, "The wrapped key belongs to another KMS key or another repository."),
        """
        InvalidCiphertextException IncorrectKeyException IncorrectKeyMaterialException
        """,
    ),
    (
        Fault(SourceGoneError, _GONE),
        """
        InvalidSnapshot.NotFound InvalidInstanceID.NotFound InvalidVolume.NotFound
        InvalidVolumeID.NotFound InvalidSnapshotID.NotFound InvalidAMIID.NotFound InvalidAMIID.Unavailable
        ebs:ResourceNotFoundException SNAPSHOT_NOT_FOUND
        """,
    ),
    (
        Fault(SourceGoneError, "The snapshot is not complete, or there never was one with this id."),
        "INVALID_SNAPSHOT_ID",
    ),
    (
        Fault(NotFoundError, "Check the bucket's name and Region in the configuration."),
        """
        NoSuchBucket PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException
        """,
    ),
    (
        Fault(NotFoundError, "Check the name, the account and the Region."),
        """
        NoSuchKey NoSuchVersion NotFound NotFoundException ResourceNotFoundException ResourceNotFound
        NoSuchEntity ExecutionDoesNotExist StateMachineDoesNotExist TaskDoesNotExist
        TargetNotFoundException AccountNotFoundException OrganizationalUnitNotFoundException
        ParentNotFoundException ChildNotFoundException AWSOrganizationsNotInUseException TopicNotFound
        NoSuchConfiguration ObjectLockConfigurationNotFoundError
        """,
    ),
    (
        Fault(ConflictError, "Somebody else made or changed it first."),
        """
        ConditionalCheckFailedException PreconditionFailed ConflictException IdempotentParameterMismatch
        ExecutionAlreadyExists EntityAlreadyExists BucketAlreadyOwnedByYou BucketAlreadyExists
        InvalidAMIName.Duplicate
        ResourceInUseException ResourceExistsException InvalidSnapshot.InUse ResourceConflictException
        TransactionCanceledException IncorrectState IncorrectInstanceState TaskTimedOut
        """,
    ),
    (
        Fault(ConflictError, "The base snapshot is of another volume; everything is read and compared."),
        "UNRELATED_SNAPSHOTS",
    ),
    (
        Fault(PermanentError, "The object lies in an archive storage class: retrieve it first."),
        "InvalidObjectState",
    ),
    (Fault(ChecksumError, _LATER), "BadDigest XAmzContentChecksumMismatch InvalidDigest"),
    (
        Fault(PermanentError, _QUOTA),
        """
        SnapshotLimitExceeded ServiceQuotaExceededException ResourceLimitExceeded InstanceLimitExceeded
        VcpuLimitExceeded VolumeLimitExceeded MaxSpotInstanceCountExceeded InsufficientVolumeCapacity
        LimitExceeded LimitExceededException ResourceCountLimitExceeded TagLimitExceeded
        MaxIOPSLimitExceeded
        """,
    ),
    (
        Fault(UnavailableError, "Choose another instance type or Availability Zone, or wait."),
        """
        InsufficientInstanceCapacity InsufficientHostCapacity InsufficientCapacity
        """,
    ),
    (
        Fault(ConfigurationError, "Correct the value named in the message."),
        """
        ValidationException ValidationError InvalidParameterValue InvalidParameterCombination
        InvalidParameter InvalidParameterException MissingParameter InvalidRequest
        InvalidRequestException InvalidInput InvalidInputException InvalidArgument
        MalformedPolicyDocument InvalidGroup.NotFound InvalidSubnetID.NotFound
        InvalidSecurityGroupID.NotFound InvalidKeyPair.NotFound InvalidAvailabilityZone Unsupported
        UnsupportedOperation InvalidInstanceType InvalidTargetArn InvalidArn InvalidName
        InvalidInstanceID.Malformed InvalidSnapshotID.Malformed InvalidVolumeID.Malformed
        MessageRejected MailFromDomainNotVerifiedException MailFromDomainNotVerified InvalidCharacter
        InvalidTag
        """,
    ),
)

FAULTS: Final[dict[str, Fault]] = {code: fault for fault, codes in _GROUPS for code in codes.split()}

_STATUS: Final[dict[int, Fault]] = {
    401: FAULTS["AccessDenied"],
    403: FAULTS["AccessDenied"],
    404: FAULTS["NotFound"],
    408: FAULTS["RequestTimeout"],
    409: FAULTS["ConflictException"],
    412: FAULTS["PreconditionFailed"],
    429: FAULTS["Throttling"],
}

EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
"""Codes that new credentials cure."""

_DENIED: Final = re.compile(
    r"(?:User: )?(?P<principal>arn:aws[\w-]*:(?:sts|iam)::\d*:\S+) is not authorized to perform: "
    r"(?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?"
)
_GUARDS: Final = (
    ("service control policy", "A service control policy of the Organization denies it: change that policy."),
    (
        "resource control policy",
        "A resource control policy of the Organization denies it: change that policy.",
    ),
    ("permissions boundary", "The role's permissions boundary denies it: change the boundary."),
    ("session policy", "The session's own policy denies it: take a session without that policy."),
    ("explicit deny", "An explicit deny in a policy wins over every allow: remove it."),
)
_TRANSPORT: Final = frozenset(
    [
        "ConnectionError",
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ConnectionClosedError",
        "SSLError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseStreamingError",
        "ProxyConnectionError",
        "ResponseParserError",
    ]
)
_IDENTITY: Final = frozenset(
    [
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "RefreshWithMFAUnsupportedError",
        "NoRegionError",
    ]
)
_CLEAN: Final = re.compile(r"[\x00-\x1f\x7f]+")


def lookup(code: str, *, service: str = "", operation: str = "", reason: str = "", status: int = 0) -> Fault:
    """The fault of an AWS error; an unknown code is judged by its HTTP status (5xx: unavailable)."""
    bare = code.rpartition("#")[2].partition(":")[0].removeprefix("Client.").removeprefix("Server.")
    for key in (reason, f"{operation}:{bare}", f"{service}:{bare}", bare, bare.removesuffix("Exception")):
        if key and key in FAULTS:
            return FAULTS[key]
    if status >= 500:
        return FAULTS["InternalError"]
    return _STATUS.get(status, Fault(PermanentError))


def is_retryable(code: str, *, service: str = "", reason: str = "", status: int = 0) -> bool:
    """Whether the same call may succeed when repeated."""
    return lookup(code, service=service, reason=reason, status=status).error in (
        ThrottledError,
        UnavailableError,
    )


def translate(
    code: str,
    message: str,
    *,
    action: str,
    role: str = "",
    resource: str = "",
    reason: str = "",
    status: int = 0,
) -> HoldfastError:
    """The error to raise for an AWS error.

    ``action`` is the IAM action called (``ebs:GetSnapshotBlock``), ``role`` the ARN of the caller when known,
    ``resource`` what the call was about. AWS's own message, which is not trusted, is cut and stripped of
    control characters.
    """
    service, _, operation = action.partition(":")
    fault = lookup(code, service=service, operation=operation, reason=reason, status=status)
    text = _CLEAN.sub(" ", message).strip()[:600]
    if issubclass(fault.error, AccessDeniedError):
        return _denied(fault, code, text, action, role, resource)
    said = f"{code or status}{f' ({reason})' if reason else ''}{f': {text}' if text else ''}"
    return fault.error(_sentence(f"{action} failed: {said}"), resource=resource, remedy=fault.remedy)


def _sentence(text: str) -> str:
    """``text`` with an end, so that a remedy can follow it."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _denied(fault: Fault, code: str, text: str, action: str, role: str, resource: str) -> HoldfastError:
    """Name the role and the action, from AWS's message where it tells them."""
    told = _DENIED.search(text)
    if told:
        role, action = told["principal"], told["action"]
        resource = resource or (told["resource"] or "").rstrip(".,")
    guard = next((remedy for sign, remedy in _GUARDS if sign in text), "")
    who = role or "The caller"
    about = f" on {resource}" if resource else ""
    default = f"Allow {action}{about} to {who}." if fault is FAULTS["AccessDenied"] else fault.remedy
    message = f"{who} was denied {action}{about} ({code}{f': {text}' if text and not told else ''})"
    return fault.error(message, resource=role or resource, remedy=guard or default)


def from_boto(error: Exception, *, action: str, role: str = "", resource: str = "") -> HoldfastError | None:
    """The translation of an error that boto3 raised, or None when it is not AWS's word but our defect."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        told = response["Error"]
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return translate(
            str(told.get("Code", "")),
            str(told.get("Message", "")),
            action=action,
            role=role,
            resource=resource,
            reason=str(response.get("Reason", "") or told.get("Reason", "") or ""),
            status=int(status or 0),
        )
    names = {
        cls.__name__ for cls in type(error).__mro__ if cls.__module__.startswith(("botocore", "urllib3"))
    }
    if names & _TRANSPORT:
        return UnavailableError(f"{action} got no answer: {error}", resource=resource, remedy=_LATER)
    if names & _IDENTITY:
        return ConfigurationError(
            f"{action} has no usable AWS identity: {error}",
            resource=resource,
            remedy="Configure credentials and a Region (--profile, --region), or sign in again.",
        )
    return None


@contextmanager
def translating(action: str, *, role: str = "", resource: str = "") -> Iterator[None]:
    """Raise errors of boto3 calls inside the block as HoldfastError."""
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        translated = from_boto(error, action=action, role=role, resource=resource)
        if translated is None:
            raise
        raise translated from error
