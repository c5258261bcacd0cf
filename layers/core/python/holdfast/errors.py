"""Every error Holdfast raises on purpose.

HoldfastError
├── TransientError      retry later: the service or the network will recover
│   ├── ThrottledError          a request quota was exceeded
│   └── UnavailableError        time-out, connection lost, 5xx, token expired
├── PermanentError      a person or a change of configuration has to act
│   ├── ConfigurationError      the operator's YAML or an argument is wrong
│   ├── AccessDeniedError       an IAM, SCP or key policy refused a call
│   ├── KeyUnavailableError     a KMS key or password cannot open the data
│   ├── SourceGoneError         instance, volume or snapshot no longer exists
│   ├── NotFoundError           a restore point, object or session is not there
│   ├── ConflictError           somebody else made it first, or owns it
│   └── StoppedError            an operator stopped the session
└── IntegrityError      bytes are not what they were: nothing was trusted
    ├── ChecksumError           data in flight does not match its checksum
    └── DamagedError            an object of a repository is damaged or missing

The family says who acts next, and Step Functions matches on the family's name alone
(``edge`` raises it); the class and its ``code`` say what happened.
"""

from __future__ import annotations

from typing import ClassVar


class HoldfastError(Exception):
    """What went wrong, and what the reader can do about it.

    ``resource`` names the thing concerned (an ARN, an id, a file position, an object key).
    """

    code: ClassVar[str] = "Error"

    def __init__(self, message: str, *, resource: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.resource = resource
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.resource}: " if self.resource and self.resource not in self.message else ""
        then = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{then}"


class TransientError(HoldfastError):
    """The same call may succeed later."""

    code = "Transient"


class ThrottledError(TransientError):
    """A request quota was exceeded."""

    code = "Throttled"


class UnavailableError(TransientError):
    """The service did not answer, or answered that it cannot now."""

    code = "Unavailable"


class PermanentError(HoldfastError):
    """Trying again without a change is useless."""

    code = "Permanent"


class ConfigurationError(PermanentError):
    """The configuration or an argument cannot be used."""

    code = "Configuration"


class AccessDeniedError(PermanentError):
    """A permission is missing; ``resource`` names the role, the message the action."""

    code = "AccessDenied"


class KeyUnavailableError(PermanentError):
    """A key is disabled, deleted, refused, or the password is wrong."""

    code = "KeyUnavailable"


class SourceGoneError(PermanentError):
    """The instance, volume or snapshot to read no longer exists."""

    code = "SourceGone"


class NotFoundError(PermanentError):
    """What was asked for does not exist."""

    code = "NotFound"


class ConflictError(PermanentError):
    """A conditional write lost, or another owner holds the resource."""

    code = "Conflict"


class StoppedError(PermanentError):
    """An operator stopped the session before this was done."""

    code = "Stopped"


class IntegrityError(HoldfastError):
    """Bytes differ from what was promised; they were not used."""

    code = "Integrity"


class ChecksumError(IntegrityError):
    """Data in flight does not match its checksum."""

    code = "Checksum"


class DamagedError(IntegrityError):
    """A repository object is damaged or missing; ``resource`` is its key."""

    code = "Damaged"
