"""Composition root: from settings to the adapters that an operation works with.

Nothing connects at import, and every client is made at its first use, once per World: a handler pays for what
its own operation touches. Operations and adapters take everything that differs between AWS, the simulator and
tests from here; nobody else reads the environment, a clock or a source of chance.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from holdfast.errors import ConfigurationError, ConflictError, DamagedError, NotFoundError
from holdfast.settings import Settings

if TYPE_CHECKING:
    import boto3

    from holdfast.aws.http import CredentialSource, HttpClient
    from holdfast.aws.signing import Credentials
    from holdfast.aws.sts import AssumedRole
    from holdfast.model.configuration import Configuration
    from holdfast.ports import (
        Catalog,
        Clock,
        Executions,
        IdSource,
        KeyWrapper,
        Notifier,
        ObjectStore,
        OrganizationTree,
        RestoreSite,
        SnapshotCopier,
        SnapshotReader,
        SnapshotWriter,
        Spoke,
        WorkLists,
    )
    from holdfast.repository.repository import Repository

T = TypeVar("T")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemIds:
    """The operating system's randomness."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


@dataclass(frozen=True, eq=False)
class World:
    """Everything that differs between AWS, the simulator and tests.

    ``session`` is the identity of the function (or of the person at the command line); ``endpoints`` maps
    "ebs" and "s3" to the base URL that the fast client uses instead of AWS; ``log`` receives log lines and
    metrics instead of standard output.
    """

    environment: Mapping[str, str]
    clock: Clock
    ids: IdSource
    session: Callable[[], boto3.Session]
    endpoints: Mapping[str, str] = field(default_factory=dict)
    log: TextIO | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def from_process(cls, session: Callable[[], boto3.Session] | None = None) -> World:
        """The real world of a deployed function, or of a person whose identity ``session`` gives."""
        return cls(dict(os.environ), SystemClock(), SystemIds(), session or _process_session)

    @cached_property
    def settings(self) -> Settings:
        return Settings.parse(self.environment)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, made at most once in this World."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]  # type: ignore[no-any-return]

    def recent(self, key: Hashable, make: Callable[[], T], *, within: timedelta) -> T:
        """What ``make`` returned last, made again when that is longer ago than ``within``."""
        with self._lock:
            now = self.clock.now()
            made_at, made = self._made.get(key, (None, None))
            if made_at is None or not timedelta() <= now - made_at <= within:
                made = make()
                self._made[key] = now, made
            return made  # type: ignore[no-any-return]


installed: ContextVar[World | None] = ContextVar("holdfast_world", default=None)


@cache
def _process_world() -> World:
    return World.from_process()


@cache
def _process_session() -> boto3.Session:
    import boto3

    return boto3.Session()


def world() -> World:
    """The World around this call: the installed one (simulator, tests), else the process's own."""
    return installed.get() or _process_world()


class Services:
    """What one invocation works with (`operations.services`). Made at first use, kept as long as its World.

    ``remaining`` tells the seconds left before the platform stops this invocation.
    """

    def __init__(self, world: World, remaining: Callable[[], float] = lambda: math.inf) -> None:
        self.world = world
        self.remaining = remaining

    @property
    def clock(self) -> Clock:
        return self.world.clock

    @property
    def ids(self) -> IdSource:
        return self.world.ids

    @property
    def settings(self) -> Settings:
        return self.world.settings

    @property
    def configuration(self) -> Configuration:
        """The validated bundle that travels with the functions."""

        def load() -> Configuration:
            from holdfast.bundle import load_bundle

            return load_bundle(Path(self.settings.configuration))

        return self.world.once("configuration", load)

    @property
    def bundle(self) -> Mapping[str, Any]:
        """The same bundle as plain JSON: workers that move blocks do not pay for its models."""
        return self.world.once(
            "bundle", lambda: json.loads(Path(self.settings.configuration).read_text("utf-8"))
        )

    @property
    def catalog(self) -> Catalog:
        def make() -> Catalog:
            from holdfast.aws.dynamodb import DynamoCatalog

            client = self._client("dynamodb", self.settings.hub_region)
            return DynamoCatalog(client, self.settings.table_name, self._record_for())

        return self.world.once("catalog", make)

    @property
    def work(self) -> WorkLists:
        def make() -> WorkLists:
            from holdfast.stores.lists import StoredLists

            return StoredLists(self.object_store(self.settings.work_bucket, self._own_region(), ""))

        return self.world.once("work", make)

    def work_of(self, region: str) -> WorkLists:
        from holdfast.stores.lists import StoredLists

        settings, account = self.settings, self.bundle["backup_account"]
        bucket = f"{settings.installation}-cell-{account}-{region}"
        return self.world.once(("work", region), lambda: StoredLists(self.object_store(bucket, region, "")))

    @property
    def notifier(self) -> Notifier:
        def make() -> Notifier:
            from holdfast.aws.notifier import AwsNotifier

            return AwsNotifier(self._client, self.settings.hub_region)

        return self.world.once("notifier", make)

    def executions(self, region: str) -> Executions:
        def make() -> Executions:
            from holdfast.aws.stepfunctions import StepFunctions

            return StepFunctions(self._client("stepfunctions", region))

        return self.world.once(("executions", region), make)

    def organization(self, name: str) -> OrganizationTree:
        def make() -> OrganizationTree:
            from holdfast.aws.organizations import AwsOrganization

            found = _named(self.bundle, "organizations", name)
            role = self._assumed(found["management_role"], found.get("external_id", ""))
            return AwsOrganization(role.session(self.settings.hub_region), role.role_arn)

        return self.world.once(("organization", name), make)

    def spoke(self, policy: str, account: str, region: str) -> Spoke:
        return self._spoke(self._policy_role(policy, account), region)

    def reader(self, policy: str, account: str, region: str) -> SnapshotReader:
        role = self._policy_role(policy, account)

        def make() -> SnapshotReader:
            from holdfast.aws.ebs import EbsSnapshotReader

            return EbsSnapshotReader(self._ebs(role, region), workers=WORKERS)

        return self.world.once(("reader", role.role_arn, region), make)

    def spoke_in(self, account: str, region: str, role: str = "") -> Spoke:
        return self._spoke(self._account_role(account, "backup", role), region)

    def snapshot_copier(self, account: str, region: str, role: str = "") -> SnapshotCopier:
        from holdfast.aws.ec2_copy import Ec2SnapshotCopier

        assumed = self._account_role(account, "backup", role)
        return Ec2SnapshotCopier(assumed.session(region), assumed.role_arn)

    def restore_spoke(self, account: str, region: str) -> Spoke:
        return self._spoke(self._account_role(account, "restore"), region)

    def restore_site(self, account: str, region: str) -> RestoreSite:
        from holdfast.aws.ec2_restore import Ec2RestoreSite

        role = self._account_role(account, "restore")
        return Ec2RestoreSite(role.session(region), role.role_arn)

    def snapshot_writer(self, account: str, region: str) -> SnapshotWriter:
        role = self._account_role(account, "restore")

        def make() -> SnapshotWriter:
            from holdfast.aws.ebs import EbsSnapshotWriter

            return EbsSnapshotWriter(self._ebs(role, region), workers=WORKERS)

        return self.world.once(("writer", role.role_arn, region), make)

    def repository(self, name: str, *, create: bool = False) -> Repository:
        """The repository of that name. With ``create``, one that never was is made and claimed.

        It is opened anew after a while, and at the beginning of every backup (``create``): a key that was
        disabled, and an encryption that was turned on, must not wait for the end of this sandbox.
        """

        def make() -> Repository:
            from holdfast.repository.repository import Repository

            found = _named(self.bundle, "repositories", name)
            store = self.object_store(found["bucket"], found["region"], found.get("prefix", "holdfast"))
            wrapper = self._key_wrapper(found.get("encryption") or {})
            try:
                return Repository.open(store, wrapper)
            except NotFoundError:
                if not create:
                    raise
                require_empty(store, name)
            try:
                return Repository.create(
                    store,
                    self.ids,
                    self.clock,
                    key_wrapper=wrapper,
                    pack_class=found.get("storage_class", "STANDARD"),
                )
            except ConflictError:
                return Repository.open(store, wrapper)

        within = timedelta() if create else REOPENED_AFTER
        repository = self.world.recent(("repository", name), make, within=within)
        if create:
            repository.claim(self.settings.installation, self.clock.now())
        return repository

    def object_store(self, bucket: str, region: str, prefix: str, *, anybodys: bool = False) -> ObjectStore:
        """A folder of a bucket under the function's own identity; its connections are kept.

        S3 refuses every call when the bucket is not the backup account's, unless it may be ``anybodys``: a
        name that was given up can be taken by a stranger, who must neither get backups nor give any.
        """
        owner = "" if anybodys else self.bundle["backup_account"]

        def make() -> ObjectStore:
            from holdfast.aws.s3 import S3ObjectStore, s3_url, tell

            endpoint = self.world.endpoints.get("s3")
            url, root = (endpoint, f"/{bucket}/") if endpoint else s3_url(bucket, region)
            client = self._http("s3", region, url, self._own_credentials(), tell)
            return S3ObjectStore(client, bucket, prefix, root=root, owner=owner)

        return self.world.once(("store", bucket, region, prefix, owner), make)

    def count(self, metrics: Mapping[str, float], *, policy: str) -> None:
        from holdfast.metrics import publish

        publish(metrics, policy=policy, namespace=self.settings.metrics_namespace, stream=self.world.log)

    def _spoke(self, role: AssumedRole, region: str) -> Spoke:
        def client(*, once: bool) -> Any:
            # All accounts' clients come from one session: its model of EC2 is large, and is loaded once.
            given = role.current()
            return self.world.once(
                ("ec2", role.role_arn, region, given.access_key, once),
                lambda: self._made_client("ec2", region, given, once=once),
            )

        def make() -> Spoke:
            from holdfast.aws.ec2 import Ec2Spoke

            return Ec2Spoke(client, role, region)

        return self.world.once(("spoke", role.role_arn, region), make)

    def _made_client(self, service: str, region: str, given: Credentials, *, once: bool) -> Any:
        from holdfast.aws.clients import CONFIG, ONCE

        return self.world.session().client(
            service,
            region_name=region,
            config=ONCE if once else CONFIG,
            aws_access_key_id=given.access_key,
            aws_secret_access_key=given.secret_key,
            aws_session_token=given.token,
        )

    def _ebs(self, role: AssumedRole, region: str) -> HttpClient:
        from holdfast.aws.ebs import tell

        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        url = self.world.endpoints.get("ebs") or f"https://ebs.{region}.{suffix}"
        return self._http("ebs", region, url, role, tell, role=role.role_arn)

    def _http(
        self, service: str, region: str, url: str, credentials: CredentialSource, tell: Any, *, role: str = ""
    ) -> HttpClient:
        from holdfast.aws.http import HttpClient
        from holdfast.aws.signing import Signer

        return HttpClient(url, Signer(service, region, self._seconds), credentials, tell, role=role)

    def _seconds(self) -> float:
        return self.clock.now().timestamp()

    def _own_credentials(self) -> CredentialSource:
        from holdfast.aws.sts import SessionCredentials

        return self.world.once("credentials", lambda: SessionCredentials(self.world.session))

    def _record_for(self) -> timedelta | None:
        """How long records of sessions are kept; at least as long as the operator asked for."""
        keep = self.bundle.get("session_records", {"months": 3})
        if keep == "all":
            return None
        days = {"days": 1, "months": 31, "years": 366}
        return sum((timedelta(days=days[unit] * (count or 0)) for unit, count in keep.items()), timedelta())

    def _own_region(self) -> str:
        return self.world.environment.get("AWS_REGION") or self.settings.hub_region

    def _client(self, service: str, region: str) -> Any:
        from holdfast.aws.clients import CONFIG

        return self.world.once(
            ("client", service, region),
            lambda: self.world.session().client(service, region_name=region, config=CONFIG),
        )

    def _policy_role(self, policy: str, account: str) -> AssumedRole:
        """The backup role by which a policy enters an account. Raises ConfigurationError."""
        sla = any(one["name"] == policy for one in self.bundle.get("sla_policies", ()))
        source = _named(self.bundle, "sla_policies" if sla else "policies", policy)["source"]
        if source.get("organization"):
            organization = _named(self.bundle, "organizations", source["organization"])
            partition = organization["management_role"].split(":")[1]
            name = organization.get("backup_role_name", "HoldfastBackup")
            arn = f"arn:{partition}:iam::{account}:role/{name}"
            return self._assumed(arn, organization.get("external_id", ""))
        role = _named(self.bundle, "roles", source["role"])
        if role["arn"].split(":")[4] != account:
            raise ConfigurationError(
                f"The policy {policy!r} does not enter account {account}.",
                resource=role["arn"],
                remedy="Its role lives in another account: correct `source.role`.",
            )
        return self._assumed(role["arn"], role.get("external_id", ""))

    def _account_role(self, account: str, purpose: str, name: str = "") -> AssumedRole:
        from holdfast.planning.roles import Purpose, role_for

        found = role_for(self.configuration, account, Purpose(purpose), name)
        return self._assumed(found.arn, found.external_id)

    def _assumed(self, arn: str, external_id: str) -> AssumedRole:
        def make() -> AssumedRole:
            from holdfast.aws.sts import AssumedRole

            return AssumedRole(self.world.session, arn, external_id, clock=self._seconds)

        return self.world.once(("role", arn, external_id), make)

    def _key_wrapper(self, encryption: Mapping[str, str]) -> KeyWrapper | None:
        kind = encryption.get("kind", "none")
        if kind == "kms":
            from holdfast.aws.kms import KmsKeyWrapper

            return KmsKeyWrapper(self.world.session, encryption.get("key_arn", ""))
        if kind == "password":
            from holdfast.aws.secrets import read_password
            from holdfast.repository.password import PasswordWrapper

            return PasswordWrapper(read_password(self.world.session, encryption["secret_arn"]), self.ids)
        return None


REOPENED_AFTER = timedelta(minutes=5)
"""How long an open repository is used again."""
WORKERS = 16
"""Workers that probably read one account at once: MaxConcurrency of MoveSegments."""


def require_empty(store: ObjectStore, name: str) -> None:
    """A folder that holds restore points, but no header, has lost it: a new one would bury them.

    Raises DamagedError.
    """
    for prefix in ("points/", "maps/", "packs/"):
        if next(iter(store.list(prefix)), None) is not None:
            raise DamagedError(
                f"The repository {name!r} has data, but its repository.json is missing.",
                resource="repository.json",
                remedy="Restore that object (an earlier version of it, where the bucket keeps versions).",
            )


def _named(bundle: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    """The entry of that name. Raises ConfigurationError."""
    for entry in bundle.get(section, ()):
        if entry["name"] == name:
            return entry  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"There is no {name!r} under `{section}` of the configuration.",
        resource=name,
        remedy="Correct the name, or deploy the configuration that has it.",
    )
