"""What a policy asks for: whose instances, which of them, which of their volumes.

Exclusions win over every inclusion; ``planning.selection`` decides with reasons.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from holdfast.model.inventory import Value
from holdfast.model.settable import AccountId, InstanceId, Settable, UnitId, VolumeId


class Source(Settable):
    """Whose instances: one account through a role, or an Organization."""

    role: str = Field("", description="Name of a role under `roles` (account scope)")
    organization: str = Field(
        "", description="Name of an organization under `organizations` (organization scope)"
    )
    units: tuple[UnitId, ...] = Field((), description="OU ids to include, nested ones too; empty: everything")
    exclude_units: tuple[UnitId, ...] = Field(
        (), description="OU ids to leave out with everything nested in them"
    )
    exclude_accounts: tuple[AccountId, ...] = Field((), description="Account ids to leave out")


class Tag(Settable):
    """A tag key with the value to match; an empty value matches any value."""

    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=256)] = ""


class Selection(Settable):
    """Which instances. `all`, or the union of `instances` and `tags`; exclusions win."""

    all: bool = Field(False, description="Every instance in the Regions, also those that appear later")
    instances: tuple[InstanceId, ...] = ()
    tags: tuple[Tag, ...] = Field((), description="Instances with these tags, also those tagged later")
    tags_match: Literal["any", "all"] = Field(
        "any", description="Whether one of `tags` is enough, or all must match"
    )
    exclude_instances: tuple[InstanceId, ...] = ()
    exclude_tags: tuple[Tag, ...] = Field((), description="Instances with any of these tags are left out")


class VolumeExclusion(Settable):
    """Volumes that are left out of snapshots and backups."""

    system_volumes: bool = Field(False, description="Leave out root volumes")
    volumes: tuple[VolumeId, ...] = ()
    tags: tuple[Tag, ...] = Field((), description="Volumes with any of these tags are left out")


class Account(Value):
    """An account of an Organization. ``units`` are the ids of root and OUs above it, outermost first."""

    account: str
    name: str = ""
    organization: str = ""
    units: tuple[str, ...] = ()
    active: bool = True
