"""What every part of the operator's configuration is made of.

A pattern here is a promise to the operator's editor too: it goes into the JSON Schema, so a check that JSON
Schema cannot say belongs to ``checks``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settable(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Weekday(StrEnum):
    """Days in ISO order: the position in this enumeration is ``date.weekday()``."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


WEEKDAYS: Final = tuple(Weekday)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name[:60]!r} is not an IANA time zone") from None
    return name


AccountId = Annotated[str, Field(pattern=r"^\d{12}$", description="AWS account id: 12 digits in quotes")]
RegionName = Annotated[
    str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d$", description="AWS Region, for example eu-central-1")
]
RoleArn = Annotated[
    str,
    Field(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$",
        max_length=600,
        description="ARN of an IAM role: arn:aws:iam::<12 digits>:role/<name>",
    ),
]
RoleName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{1,64}$", description="Name of an IAM role, no path")
]
ExternalId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]*$", max_length=1224, description="External id of the trust policy"),
]
KeyArn = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key|alias)/[A-Za-z0-9/_-]+)?$",
        description="ARN of a KMS key",
    ),
]
SecretArn = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[A-Za-z0-9/_+=.@-]+)?$",
        description="ARN of a Secrets Manager secret",
    ),
]
TopicArn = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+)?$", description="ARN of an SNS topic"
    ),
]
Name = Annotated[
    str, Field(min_length=1, max_length=127, description="Unique, regardless of upper and lower case")
]
Description = Annotated[str, Field(max_length=255, description="For people")]
TimeOfDay = Annotated[
    str,
    Field(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description='Wall-clock time "HH:MM", 00:00 to 23:59, in quotes'
    ),
]
TimeZone = Annotated[
    str, AfterValidator(_known_zone), Field(description="IANA time zone, for example Europe/Berlin")
]
InstanceId = Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$", description="Instance id")]
VolumeId = Annotated[str, Field(pattern=r"^vol-[0-9a-f]{8,17}$", description="Volume id")]
UnitId = Annotated[
    str,
    Field(
        pattern=r"^(ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}|r-[0-9a-z]{4,32})$", description="Id of an OU or root"
    ),
]
Hour = Annotated[int, Field(ge=0, le=23, description="Full hour, 0 to 23, in the policy's time zone")]
Month = Annotated[int, Field(ge=1, le=12, description="Month, 1 to 12")]


def minutes(time: str) -> int:
    """Minutes since midnight of a ``TimeOfDay``."""
    return int(time[:2]) * 60 + int(time[3:])
