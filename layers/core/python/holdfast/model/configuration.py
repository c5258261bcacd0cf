"""The operator's configuration: roles, organizations, repositories, policies, notifications.

The same models validate YAML at synth, travel as JSON with the functions, and give the JSON Schema and the
configuration reference: a description here is documentation for the operator. What one field alone can say is
checked here; what concerns several is checked by ``checks``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from holdfast.model.schedules import (
    ArchiveMonths,
    BackupDays,
    BackupMonths,
    BackupSlots,
    CountedDays,
    CountedMonths,
    DailySchedule,
    DayOfMonth,
    Keep,
    MonthlySchedule,
    ReplicaSlots,
    SnapshotSlots,
    WeeklySchedule,
    YearlyKept,
    YearlySchedule,
)
from holdfast.model.scope import Account, Selection, Source, Tag, VolumeExclusion
from holdfast.model.settable import (
    AccountId,
    Description,
    ExternalId,
    KeyArn,
    Name,
    RegionName,
    RoleArn,
    RoleName,
    SecretArn,
    Settable,
    TimeZone,
    TopicArn,
    Weekday,
)
from holdfast.model.sla import HealthCheck, SlaReport, SlaTemplate, StorageTemplate

__all__ = [
    "Account",
    "AccountId",
    "AnyPolicy",
    "ArchiveMonths",
    "BackupDays",
    "BackupMonths",
    "BackupSlots",
    "Configuration",
    "CountedDays",
    "CountedMonths",
    "DailySchedule",
    "DayOfMonth",
    "Encryption",
    "Guest",
    "HealthCheck",
    "Keep",
    "Mailing",
    "MonthlySchedule",
    "ObsoleteSnapshots",
    "Organization",
    "Policy",
    "RegionName",
    "ReplicaSlots",
    "ReplicaTarget",
    "Repository",
    "Role",
    "RoleArn",
    "SchedulePolicy",
    "Scripts",
    "Selection",
    "Settable",
    "SlaPolicy",
    "SlaReport",
    "SlaTemplate",
    "SnapshotSlots",
    "Source",
    "StorageTemplate",
    "Tag",
    "Tagging",
    "VolumeExclusion",
    "Weekday",
    "WeeklySchedule",
    "YearlyKept",
    "YearlySchedule",
]


class Role(Settable):
    """An IAM role that Holdfast assumes in one account."""

    name: Name
    arn: RoleArn
    description: Description = ""
    external_id: ExternalId = ""

    @property
    def account(self) -> str:
        """The 12-digit id of the account that the role lives in."""
        return self.arn.split(":")[4]


class Organization(Settable):
    """An AWS Organization whose accounts Holdfast protects through one role name."""

    name: Name
    description: Description = ""
    management_role: Annotated[
        RoleArn, Field(description="Role in the management or a delegated administrator account")
    ]
    external_id: ExternalId = ""
    backup_role_name: Annotated[
        RoleName, Field(description="A role with this name exists in every protected account")
    ] = "HoldfastBackup"
    restore_role_name: RoleName = "HoldfastRestore"


class Encryption(Settable):
    """How a repository is encrypted."""

    kind: Literal["none", "kms", "password"] = "none"
    key_arn: Annotated[
        KeyArn, Field(description="Symmetric KMS key in the repository's Region (kind kms)")
    ] = ""
    secret_arn: Annotated[
        SecretArn, Field(description="Secrets Manager secret with the password (kind password)")
    ] = ""


class Repository(Settable):
    """A folder of a bucket in Holdfast's format. Bucket, prefix and storage class are fixed for life."""

    name: Annotated[str, Field(min_length=1, max_length=125)]
    description: Annotated[str, Field(max_length=1024)] = ""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    region: RegionName
    prefix: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,124}$", description="Folder in the bucket")
    ] = "holdfast"
    encryption: Encryption = Encryption()
    storage_class: Literal["STANDARD", "GLACIER", "DEEP_ARCHIVE"] = "STANDARD"
    immutable: bool = Field(
        False, description="Object Lock in compliance mode: nobody can delete before the time"
    )


class Tagging(Settable):
    """Tags of snapshots and replicas: a copy of the volumes' tags, and up to five of your own."""

    copy_from_volumes: bool = False
    custom: dict[str, str] = Field(default_factory=dict, max_length=5)


class Mailing(Settable):
    """Who is told, through SNS and SES, about which results."""

    topic_arn: TopicArn = ""
    sender: str = Field("", max_length=320, description="Address that SES may send from")
    recipients: tuple[Annotated[str, Field(pattern=r"^[^@\s;,<>]+@[^@\s;,<>]+$", max_length=320)], ...] = (
        Field((), max_length=50)
    )
    subject: Annotated[
        str,
        Field(max_length=200, description="May use %JobName% %JobResult% %ObjectCount% %Issues%"),
    ] = "[%JobResult%] %JobName% (%ObjectCount% instances) %Issues%"
    on_success: bool = True
    on_warning: bool = True
    on_failure: bool = True
    last_retry_only: bool = Field(True, description="Wait for the last retry before telling")


class ReplicaTarget(Settable):
    """Where snapshots of one source Region are copied to."""

    source_region: RegionName
    region: RegionName
    role: str = Field(
        "", description="Name of a role in the target account; empty: the instance's own account"
    )
    key_arn: Annotated[KeyArn, Field(description="KMS key of the target Region")] = ""
    transfer_key_arn: Annotated[
        KeyArn,
        Field(
            description="Key of the source account and Region: snapshots under the default key are copied "
            "under it before another account may have them"
        ),
    ] = ""
    encrypt: Literal["all", "encrypted_only"] = Field(
        "encrypted_only", description="Whether the key encrypts all volumes, or those encrypted at the source"
    )


class Scripts(Settable):
    """Scripts that run in the guest before and after the snapshot, through Systems Manager."""

    before: str = Field("", max_length=1024, description="Path in the guest")
    before_arguments: str = Field(
        "", max_length=1024, description="May use %policy% %instance% %account% %region%"
    )
    after: str = Field("", max_length=1024, description="Runs even when the snapshot failed")
    after_arguments: str = Field("", max_length=1024)
    only_for_backups: bool = Field(
        False, description="Run only for snapshots that become image-level backups"
    )
    ignore_missing: bool = False
    ignore_exit_codes: bool = False


class Guest(Settable):
    """Guest processing of running instances through Systems Manager."""

    application_aware: bool = Field(False, description="Use VSS in Windows guests")
    linux: Scripts | None = None
    windows: Scripts | None = None


class Policy(Settable):
    """What schedule-based and SLA-based policies have in common."""

    name: Name
    description: Description = ""
    enabled: bool = Field(True, description="A disabled policy does not run by itself; its retention goes on")
    priority: Annotated[
        int,
        Field(ge=1, le=100000, description="The lowest number owns an instance that several policies select"),
    ] = 1000
    source: Source
    regions: tuple[RegionName, ...] = Field(min_length=1)
    selection: Selection
    exclude_volumes: VolumeExclusion = VolumeExclusion()
    guest: Guest = Guest()
    replication: tuple[ReplicaTarget, ...] = Field((), description="One target for each source Region")
    tags: Tagging = Tagging()
    retries: int = Field(
        3, ge=0, le=10, description="Retries of failed instances, 60 s apart, of scheduled runs only"
    )
    notifications: Mailing | None = Field(None, description="Empty: the global notifications")
    keep_last: Annotated[
        int, Field(ge=0, le=99, description="Newest valid restore points that age alone never removes")
    ] = 1


class SchedulePolicy(Policy):
    """A schedule-based policy: scope, slots, targets, retention."""

    time_zone: TimeZone = Field("UTC", description="IANA time zone of the schedules")
    daily: DailySchedule | None = None
    weekly: WeeklySchedule | None = None
    monthly: MonthlySchedule | None = None
    yearly: YearlySchedule | None = None
    repository: str = Field("", description="Name of a repository for backups; empty means snapshots only")
    archive_repository: str = Field("", description="Name of a repository for archives")
    health_check: HealthCheck | None = Field(None, description="After the day's first successful session")


class SlaPolicy(Policy):
    """An SLA-based policy: a scope bound to an SLA template and a storage template."""

    sla_template: str = Field(description="Name of an SLA template")
    storage_template: str = Field("", description="Name of a storage template; needed for backups")
    report: SlaReport = SlaReport()


AnyPolicy = SchedulePolicy | SlaPolicy


class ObsoleteSnapshots(Settable):
    """Retention of snapshots and replicas whose instance no policy processes any more."""

    mode: Literal["never", "after"] = "never"
    days: int | None = Field(None, ge=15, le=36135)
    months: int | None = Field(None, ge=1, le=1188)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        given = sum(unit is not None for unit in (self.days, self.months))
        if given != (self.mode == "after"):
            raise ValueError("give days or months with mode after, and neither with mode never")
        return self


class Configuration(Settable):
    """The whole bundle."""

    installation: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9-]{0,19}$",
            description="Prefix of what is deployed; one owner of repositories",
        ),
    ] = "holdfast"
    backup_account: AccountId
    hub_region: RegionName
    roles: tuple[Role, ...] = ()
    organizations: tuple[Organization, ...] = ()
    repositories: tuple[Repository, ...] = ()
    policies: tuple[SchedulePolicy, ...] = ()
    sla_policies: tuple[SlaPolicy, ...] = ()
    sla_templates: tuple[SlaTemplate, ...] = ()
    storage_templates: tuple[StorageTemplate, ...] = ()
    notifications: Mailing = Mailing()
    daily_report: bool = Field(False, description="Send a report of the previous 24 hours every day")
    obsolete_snapshots: ObsoleteSnapshots = ObsoleteSnapshots()
    session_records: Annotated[
        Keep | Literal["all"], Field(description="How long records of sessions are kept")
    ] = Keep(months=3)
    service_time_zone: TimeZone = Field("UTC", description="Zone in which daily retention runs, at 04:00")
    region_time_zones: dict[RegionName, TimeZone] = Field(
        default_factory=dict, description="Time zones of Regions, where they differ from the built-in table"
    )

    def regions(self) -> tuple[str, ...]:
        """Regions that need a cell: protected ones, sorted."""
        return tuple(
            sorted({region for policy in (*self.policies, *self.sla_policies) for region in policy.regions})
        )

    def policy(self, name: str) -> AnyPolicy | None:
        """The policy with this exact name."""
        found: list[AnyPolicy] = [*self.policies, *self.sla_policies]
        return next((policy for policy in found if policy.name == name), None)
