"""Identities: the function's own, and roles that it assumes in other accounts.

Assumed roles live for an hour (the most that role chaining allows) and are renewed after fifty minutes, so
that no call starts with a token that ends under it. Secrets never appear in a representation or a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from holdfast.aws.faults import translating
from holdfast.aws.signing import Credentials
from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    import boto3

SESSION_SECONDS: Final = 3_600
RENEW_AFTER: Final = 3_000.0
RECHECK_AFTER: Final = 60.0


class SessionCredentials:
    """`aws.http.CredentialSource` over a boto3 session: asks it once a minute, botocore renews behind it."""

    def __init__(
        self, session: Callable[[], boto3.Session], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._monotonic = monotonic
        self._lock = Lock()
        self._known: Credentials | None = None
        self._checked_at = 0.0

    def current(self) -> Credentials:
        """Raises ConfigurationError when the session has no credentials."""
        known = self._known
        if known is not None and self._monotonic() - self._checked_at < RECHECK_AFTER:
            return known
        with self._lock:
            return self._check()

    def renew(self, stale: Credentials) -> None:
        with self._lock:
            if self._known is None or self._known == stale:
                self._check()

    def _check(self) -> Credentials:
        with translating("sts:GetCallerIdentity"):
            source = self._session().get_credentials()
            frozen = source.get_frozen_credentials() if source is not None else None
        if frozen is None or not frozen.access_key:
            raise ConfigurationError(
                "There are no AWS credentials.", remedy="Sign in, or name a profile with --profile."
            )
        fresh = Credentials(frozen.access_key, str(frozen.secret_key), frozen.token or "")
        if self._known is None or self._known[:3] != fresh[:3]:
            self._known = fresh
        self._checked_at = self._monotonic()
        return self._known


class AssumedRole:
    """A role of some account, assumed when needed. Safe for many threads.

    It is an `aws.http.CredentialSource`, and :meth:`session` gives the same identity to boto3. ``clock``
    gives seconds since 1970. Raises AccessDeniedError naming the role when its trust policy or external id
    refuses.
    """

    def __init__(
        self,
        session: Callable[[], boto3.Session],
        role_arn: str,
        external_id: str = "",
        *,
        session_name: str = "holdfast",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self.role_arn = role_arn
        self._external_id = external_id
        self._session_name = session_name
        self._clock = clock
        self._lock = Lock()
        self._known: Credentials | None = None
        self._renew_at = 0.0

    def current(self) -> Credentials:
        known = self._known
        if known is not None and self._clock() < self._renew_at:
            return known
        with self._lock:
            if self._known is None or self._clock() >= self._renew_at:
                self._assume()
            return self._known  # type: ignore[return-value]

    def renew(self, stale: Credentials) -> None:
        with self._lock:
            if self._known is None or self._known == stale:
                self._assume()

    def session(self, region: str) -> boto3.Session:
        """A boto3 session in ``region`` under this role, which renews itself."""
        import boto3
        from botocore.credentials import CredentialResolver
        from botocore.session import Session

        provider: Any = _Provider(self)
        botocore_session = Session()
        botocore_session.register_component("credential_provider", CredentialResolver([provider]))
        return boto3.Session(botocore_session=botocore_session, region_name=region)

    def now(self) -> datetime:
        """The time by which credentials are renewed."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def metadata(self) -> dict[str, str]:
        """Credentials as botocore's own renewal wants them."""
        known = self.current()
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(known.expires_at))
        return {
            "access_key": known.access_key,
            "secret_key": known.secret_key,
            "token": known.token,
            "expiry_time": expiry,
        }

    def _assume(self) -> None:
        wanted = {
            "RoleArn": self.role_arn,
            "RoleSessionName": self._session_name,
            "DurationSeconds": SESSION_SECONDS,
        }
        if self._external_id:
            wanted["ExternalId"] = self._external_id
        with translating("sts:AssumeRole", resource=self.role_arn):
            session = self._session()
            client = session.client("sts", region_name=session.region_name or "us-east-1")
            given = client.assume_role(**wanted)["Credentials"]
        self._known = Credentials(
            given["AccessKeyId"],
            given["SecretAccessKey"],
            given["SessionToken"],
            given["Expiration"].timestamp(),
        )
        self._renew_at = self._clock() + RENEW_AFTER


class _Provider:
    """What botocore asks for credentials, in place of its search in files and environment."""

    METHOD = CANONICAL_NAME = "holdfast-assumed-role"

    def __init__(self, role: AssumedRole) -> None:
        self._role = role

    def load(self) -> Any:
        from botocore.credentials import RefreshableCredentials

        known = self._role.current()
        return RefreshableCredentials(
            known.access_key,
            known.secret_key,
            known.token,
            datetime.fromtimestamp(known.expires_at or 0, UTC),
            self._role.metadata,
            self.METHOD,
            time_fetcher=self._role.now,
        )
