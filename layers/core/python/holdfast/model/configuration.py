"""The operator's configuration: roles, organizations, repositories, policies, notifications.

The same models validate YAML at synth, travel as JSON with the functions, and give the JSON Schema and the
configuration reference: a description here is documentation for the operator.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

AccountId = Annotated[str, Field(pattern=r"^\d{12}$", description="AWS account id, 12 digits, quoted")]
RegionName = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="AWS Region, e.g. eu-central-1")]
RoleArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$", max_length=600)]
Name = Annotated[str, Field(min_length=1, max_length=127)]


class Settable(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(Settable):
    """An IAM role that Holdfast assumes in one account."""

    name: Name
    arn: RoleArn
    external_id: str = Field("", max_length=1224, description="External id that the role's trust policy asks for")

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]


class Organization(Settable):
    """An AWS Organization whose accounts Holdfast protects through one role name."""

    name: Name
    management_role: RoleArn = Field(description="Role in the management or a delegated administrator account")
    external_id: str = ""
    backup_role_name: str = Field("HoldfastBackup", description="Role with this name exists in every protected account")
    restore_role_name: str = "HoldfastRestore"


class Encryption(Settable):
    """How a repository is encrypted."""

    kind: Literal["none", "kms", "password"] = "none"
    key_arn: str = Field("", description="KMS key (kind kms)")
    secret_arn: str = Field("", description="Secrets Manager secret with the password (kind password)")


class Repository(Settable):
    """A folder of a bucket in Holdfast's format."""

    name: Annotated[str, Field(min_length=1, max_length=125)]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    region: RegionName
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,125}$")] = "holdfast"
    encryption: Encryption = Encryption()
    storage_class: Literal["STANDARD", "GLACIER", "DEEP_ARCHIVE"] = "STANDARD"


class Weekday(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class Keep(Settable):
    """How long a time-retained restore point is kept: exactly one unit."""

    days: int | None = Field(None, ge=1, le=36135)
    months: int | None = Field(None, ge=1, le=1188)
    years: int | None = Field(None, ge=1, le=99)


class SnapshotSlots(Settable):
    """Hours at which a cloud-native snapshot is made, and how many restore points are kept."""

    hours: tuple[Annotated[int, Field(ge=0, le=23)], ...] = ()
    per_hour: Literal[1, 2, 3, 4] = 1
    keep: int = Field(7, ge=0, le=999, description="Restore points kept")


class BackupSlots(Settable):
    """Hours at which an image-level backup is made, and how long it is kept."""

    hours: tuple[Annotated[int, Field(ge=0, le=23)], ...] = ()
    keep: Keep = Keep(days=30)


class DailySchedule(Settable):
    """Runs at chosen hours of chosen days. A backup hour implies a snapshot at that hour."""

    days: Literal["every_day", "weekdays"] | tuple[Weekday, ...] = "every_day"
    snapshots: SnapshotSlots = SnapshotSlots()
    backups: BackupSlots | None = None


class Source(Settable):
    """Whose instances: one account through a role, or an Organization."""

    role: str = Field("", description="Name of a role under `roles` (account scope)")
    organization: str = Field("", description="Name of an organization under `organizations` (organization scope)")
    units: tuple[str, ...] = Field((), description="OU ids to include; empty means the entire organization")
    exclude_units: tuple[str, ...] = ()
    exclude_accounts: tuple[AccountId, ...] = ()


class Tag(Settable):
    """A tag key with the value to match; an empty value matches any value."""

    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=256)] = ""


class Selection(Settable):
    """Which instances. `all`, or the union of `instances` and `tags`; exclusions win."""

    all: bool = False
    instances: tuple[Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$")], ...] = ()
    tags: tuple[Tag, ...] = ()
    exclude_instances: tuple[Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$")], ...] = ()
    exclude_tags: tuple[Tag, ...] = ()


class VolumeExclusion(Settable):
    """Volumes that are left out of snapshots and backups."""

    system_volumes: bool = False
    volumes: tuple[Annotated[str, Field(pattern=r"^vol-[0-9a-f]{8,17}$")], ...] = ()
    tags: tuple[Tag, ...] = ()


class Tagging(Settable):
    """Tags of snapshots: a copy of the volumes' tags, and up to five of your own."""

    copy_from_volumes: bool = False
    custom: dict[str, str] = Field(default_factory=dict, max_length=5)


class Mailing(Settable):
    """Who is told, through SNS and SES, about which results."""

    topic_arn: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    subject: str = "[%JobResult%] %JobName% (%ObjectCount% instances) %Issues%"
    on_success: bool = True
    on_warning: bool = True
    on_failure: bool = True
    last_retry_only: bool = Field(True, description="Wait for the last retry before telling")


class SchedulePolicy(Settable):
    """A schedule-based policy: scope, slots, targets, retention."""

    name: Name
    description: Annotated[str, Field(max_length=255)] = ""
    enabled: bool = True
    time_zone: str = Field("UTC", description="IANA time zone of the schedules")
    source: Source
    regions: tuple[RegionName, ...] = Field(min_length=1)
    selection: Selection
    exclude_volumes: VolumeExclusion = VolumeExclusion()
    daily: DailySchedule | None = None
    repository: str = Field("", description="Name of a repository; empty means snapshots only")
    tags: Tagging = Tagging()
    retries: int = Field(3, ge=0, le=10)
    notifications: Mailing | None = None


class Configuration(Settable):
    """The whole bundle."""

    installation: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")] = "holdfast"
    backup_account: AccountId
    hub_region: RegionName
    roles: tuple[Role, ...] = ()
    organizations: tuple[Organization, ...] = ()
    repositories: tuple[Repository, ...] = ()
    policies: tuple[SchedulePolicy, ...] = ()
    notifications: Mailing = Mailing()

    def regions(self) -> tuple[str, ...]:
        """Regions that need a cell: protected ones, sorted."""
        return tuple(sorted({region for policy in self.policies for region in policy.regions}))
