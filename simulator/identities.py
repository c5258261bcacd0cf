"""Who is calling: access keys of the simulated accounts, and boto3 sessions that carry them.

An access key belongs to one account and, when temporary, to one role; every account boundary in the simulator
rests on this mapping.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import moto.iam.models
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from simulator.clock import VirtualClock
from simulator.patches import Patches

PARTITION = "aws"
OPERATOR = "Operator"


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of an access key. ``role_arn`` and ``token`` are empty for the key of a user."""

    access_key: str
    secret: str
    account: str
    role_arn: str = ""
    token: str = ""
    expires_at: datetime | None = None


class Identities:
    """Looks up access keys in moto's IAM and STS, and makes new ones."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._known: dict[str, Identity] = {}
        self._parents: dict[str, str] = {}
        self._lock = threading.Lock()

    def find(self, access_key: str) -> Identity | None:
        """The identity behind ``access_key``, None when nobody has it."""
        return self._known.get(access_key) or self._search(access_key)

    def is_expired(self, identity: Identity) -> bool:
        """Whether its session has ended by the virtual clock."""
        return identity.expires_at is not None and identity.expires_at <= self._clock.now()

    def descends(self, child: str, parent: str) -> None:
        """Note that the key ``child`` was obtained with the key ``parent``."""
        with self._lock:
            self._parents[child] = parent

    def root(self, access_key: str) -> str:
        """The key at the start of the chain of assumed roles that led to ``access_key``."""
        while parent := self._parents.get(access_key):
            access_key = parent
        return access_key

    def assume(
        self, account: str, role: str, *, name: str = "simulator", seconds: float = 43_200
    ) -> Identity:
        """A session of a role, without asking its trust policy: the simulator's own way in."""
        assumed = sts_backends[account][PARTITION].assume_role(
            region_name="us-east-1",
            role_session_name=name,
            role_arn=role if role.startswith("arn:") else f"arn:{PARTITION}:iam::{account}:role/{role}",
            policy="",
            duration=int(seconds),
            external_id="",
        )
        return self._remember(assumed)

    def session(self, account: str, region: str, role: str | None = None) -> boto3.Session:
        """A boto3 session as ``role`` of ``account``; without one as its operator, who may do everything."""
        identity = self.assume(account, role or OPERATOR, seconds=43_200 if role else 10 * 365 * 86_400)
        return session_for(identity, region)

    def forget_sessions(self) -> None:
        """End every temporary session: the processes that held them have ended."""
        for account in list(sts_backends):
            ended = sts_backends[account][PARTITION].assumed_roles
            for assumed in ended:
                iam_backends[account][PARTITION].access_keys.pop(assumed.access_key_id, None)
            ended.clear()
        self._known.clear()

    def _search(self, access_key: str) -> Identity | None:
        for account in list(sts_backends):
            for assumed in reversed(sts_backends[account][PARTITION].assumed_roles):
                if assumed.access_key_id == access_key:
                    return self._remember(assumed)
        for account in list(iam_backends):
            for user in list(iam_backends[account][PARTITION].users.values()):
                for key in user.access_keys:
                    if key.access_key_id == access_key:
                        return Identity(access_key, key.secret_access_key, account)
        return None

    def _remember(self, assumed: Any) -> Identity:
        identity = Identity(
            access_key=assumed.access_key_id,
            secret=assumed.secret_access_key,
            account=assumed.account_id,
            role_arn=assumed.role_arn,
            token=assumed.session_token,
            expires_at=assumed.expiration.replace(tzinfo=UTC),
        )
        self._known[identity.access_key] = identity
        return identity


def session_for(identity: Identity, region: str) -> boto3.Session:
    """A boto3 session that signs as ``identity``."""
    return boto3.Session(
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret,
        aws_session_token=identity.token or None,
        region_name=region,
    )


_patches = Patches()


def install(simulator: Any) -> None:
    """Let moto find the account of an access key without searching all accounts."""
    original = moto.iam.models.get_account_id_from

    def get_account_id_from(access_key: str) -> str:
        identity = simulator.identities.find(access_key)
        return identity.account if identity else str(original(access_key))

    _patches.set(moto.iam.models, "get_account_id_from", get_account_id_from)


def uninstall() -> None:
    """Give moto its own search back."""
    _patches.undo()
