"""A world as a person describes it in ``world.yaml``: accounts, Regions, instances, disks, keys, mishaps.

The file is checked whole before anything is built; an error names the place in the file and what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from holdfast.errors import ConfigurationError
from simulator.faults import Fault
from simulator.guest import Guest

AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]
RegionName = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
Tags = dict[str, str]


class Section(BaseModel):
    """Frozen, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Unit(Section):
    """An organizational unit; ``units`` are its children."""

    name: str = Field(min_length=1)
    id: str = Field(default="", pattern=r"^(ou-[0-9a-z]{4,32}-[0-9a-z]{8,32})?$")
    units: tuple[Unit, ...] = ()


class Organization(Section):
    """An AWS Organization with its tree of units."""

    management_account: AccountId
    id: str = Field(default="o-holdfast00", pattern=r"^o-[a-z0-9]{10,32}$")
    units: tuple[Unit, ...] = ()

    def paths(self) -> dict[str, Unit]:
        """Every unit by its path of names (``Workloads/Production``), parents first."""

        def walk(units: tuple[Unit, ...], above: str) -> Iterator[tuple[str, Unit]]:
            for unit in units:
                yield above + unit.name, unit
                yield from walk(unit.units, f"{above}{unit.name}/")

        return dict(walk(self.units, ""))


class Account(Section):
    """An account; ``unit`` is the path of its unit, empty for the root of the Organization."""

    id: AccountId
    name: str = Field(min_length=1)
    unit: str = ""
    status: Literal["ACTIVE", "SUSPENDED"] = "ACTIVE"
    member: bool = True
    disabled_regions: tuple[RegionName, ...] = ()
    tags: Tags = Field(default_factory=dict)


class Volume(Section):
    """A volume of an instance; ``image`` is a raw disk image, relative to the world file."""

    device: str = Field(pattern=r"^(/dev/)?[a-z]+[a-z0-9]*$")
    size_gib: int = Field(ge=1, le=65_536)
    id: str = Field(default="", pattern=r"^(vol-[0-9a-f]{8,17})?$")
    image: Path | None = None
    type: Literal["gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"] = "gp3"
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool = False
    kms_key: str = ""
    delete_on_termination: bool = False
    multi_attach: bool = False
    tags: Tags = Field(default_factory=dict)


class Instance(Section):
    """An instance, or ``count`` equal ones named ``<name>-1``...; the first volume is the root."""

    name: str = Field(min_length=1)
    account: AccountId
    region: RegionName
    id: str = Field(default="", pattern=r"^(i-[0-9a-f]{8,17})?$")
    count: int = Field(default=1, ge=1, le=100_000)
    zone: str = Field(default="a", pattern=r"^[a-f]$")
    type: str = "m5.large"
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    platform: Literal["linux", "windows"] = "linux"
    state: Literal["running", "stopped", "terminated"] = "running"
    profile: str = ""
    key_name: str = ""
    user_data: str = ""
    security_groups: tuple[str, ...] = ()
    private_ip: str = ""
    elastic_ip: bool = False
    guest: str = ""
    tags: Tags = Field(default_factory=dict)
    volumes: tuple[Volume, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_device_one_volume(self) -> Instance:
        devices = [volume.device for volume in self.volumes]
        if twice := {device for device in devices if devices.count(device) > 1}:
            raise ValueError(f"instance {self.name} has two volumes at {', '.join(sorted(twice))}")
        if self.count > 1 and (self.id or any(volume.id for volume in self.volumes)):
            raise ValueError(f"instance {self.name}: ids cannot be given together with a count")
        return self


class Key(Section):
    """A customer managed KMS key, known by its alias."""

    alias: str = Field(pattern=r"^[A-Za-z0-9/_-]+$")
    account: AccountId
    region: RegionName
    state: Literal["Enabled", "Disabled", "PendingDeletion"] = "Enabled"
    shared_with: tuple[AccountId, ...] = ()


class Secret(Section):
    """A secret in Secrets Manager."""

    name: str = Field(min_length=1)
    account: AccountId
    region: RegionName
    value: str


class BlockStorage(Section):
    """How EBS behaves: durations in virtual seconds, quotas in requests per second (0: none)."""

    snapshot_seconds: float = Field(default=60, ge=0)
    token_seconds: float = Field(default=7 * 86_400, gt=0)
    page_seconds: float = Field(default=3_600, gt=0)
    empty_page_every: int = Field(default=0, ge=0)
    requests_per_second: dict[str, int] = Field(default_factory=dict)


class Denial(Section):
    """A service control policy in short: ``actions`` denied in ``target`` (account, unit path, or ``/``)."""

    target: str
    actions: tuple[str, ...] = Field(min_length=1)


class World(Section):
    """The whole of ``world.yaml``."""

    backup_account: AccountId
    regions: tuple[RegionName, ...] = Field(min_length=1)
    seed: int = 1
    starts_at: AwareDatetime = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
    organization: Organization | None = None
    accounts: tuple[Account, ...] = ()
    instances: tuple[Instance, ...] = ()
    keys: tuple[Key, ...] = ()
    secrets: tuple[Secret, ...] = ()
    senders: tuple[str, ...] = ()
    guests: dict[str, Guest] = Field(default_factory=dict)
    denials: tuple[Denial, ...] = ()
    ebs: BlockStorage = BlockStorage()
    faults: tuple[Fault, ...] = ()

    @field_validator("regions")
    @classmethod
    def _regions_once(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(regions)) != len(regions):
            raise ValueError("a Region is listed twice")
        return regions

    @model_validator(mode="after")
    def _references_resolve(self) -> World:
        for problem in self._dangling():
            raise ValueError(problem)
        return self

    def account_ids(self) -> tuple[str, ...]:
        """Every account of the world, the backup and management accounts included, in a stable order."""
        ids = {account.id for account in self.accounts} | {self.backup_account}
        if self.organization:
            ids.add(self.organization.management_account)
        return tuple(sorted(ids))

    def _dangling(self) -> Iterator[str]:
        known = set(self.account_ids())
        units = self.organization.paths() if self.organization else {}
        account_ids = [account.id for account in self.accounts]
        for twice in sorted({one for one in account_ids if account_ids.count(one) > 1}):
            yield f"account {twice} is listed twice"
        for account in self.accounts:
            if account.unit and account.unit not in units:
                yield f"account {account.id}: there is no unit {account.unit!r}{_meant(account.unit, units)}"
        aliases = {(key.account, key.region, key.alias) for key in self.keys}
        owned = [(instance.name, instance.account, instance.region) for instance in self.instances]
        owned += [(secret.name, secret.account, secret.region) for secret in self.secrets]
        owned += [(key.alias, key.account, key.region) for key in self.keys]
        for name, owner, region in owned:
            if owner not in known:
                yield f"{name}: there is no account {owner}; add it to accounts"
            if region not in self.regions:
                yield f"{name}: Region {region} is not in regions{_meant(region, self.regions)}"
        for instance in self.instances:
            if instance.guest and instance.guest not in self.guests:
                hint = _meant(instance.guest, self.guests)
                yield f"instance {instance.name}: there is no guest {instance.guest!r}{hint}"
            for volume in instance.volumes:
                alias = (instance.account, instance.region, volume.kms_key)
                if volume.kms_key and not volume.kms_key.startswith("arn:") and alias not in aliases:
                    yield f"instance {instance.name} {volume.device}: no key has the alias {volume.kms_key!r}"


def _meant(name: str, known: Any) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def load(path: Path) -> World:
    """Read and check a world file; images become absolute paths. Raises ConfigurationError."""
    try:
        content = YAML(typ="safe").load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigurationError(str(error), resource=str(path), remedy="Correct the file.") from error
    return parse(content, source=path)


def parse(content: Any, *, source: Path) -> World:
    """Check the content of a world file that lies at ``source``. Raises ConfigurationError."""
    try:
        world = World.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'world'}: {re.sub('^Value error, ', '', problem['msg'])}"
            for problem in error.errors()
        )
        raise ConfigurationError(problems, resource=str(source), remedy="Correct the world file.") from error
    located = tuple(_locate_images(instance, source.parent) for instance in world.instances)
    for instance in located:
        for volume in instance.volumes:
            if volume.image is not None and not volume.image.is_file():
                message = f"instance {instance.name} {volume.device}: there is no image {volume.image}"
                raise ConfigurationError(
                    message, resource=str(source), remedy="Correct the path of the image."
                )
    return world.model_copy(update={"instances": located})


def _locate_images(instance: Instance, folder: Path) -> Instance:
    volumes = tuple(
        volume.model_copy(update={"image": (folder / volume.image).resolve()}) if volume.image else volume
        for volume in instance.volumes
    )
    return instance.model_copy(update={"volumes": volumes})
