"""Every physical name and ARN of an installation, derived from the configuration.

Hub, cells, spoke roles and repositories find each other by these names alone: a changed name breaks trust
policies in accounts that are deployed separately.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aws_cdk.region_info import RegionInfo

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration, Repository

ROLE_NAME_LIMIT: Final = 64
WORK_PREFIXES: Final = ("sessions/", "restores/")


class Place(StrEnum):
    """Where a function or state machine runs in the backup account."""

    HUB = "hub"
    CELL = "cell"


def slug(name: str, limit: int = 40) -> str:
    """A name from the configuration as part of an identifier: letters, digits and dashes, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:limit].strip("-")


def digest(name: str) -> str:
    """Eight characters that keep two names apart whose slugs are equal."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def distinct_slugs(names: Sequence[str]) -> dict[str, str]:
    """A slug for each name; names whose slugs are empty or equal get their digest too."""
    slugs = {name: slug(name) for name in names}
    counts = Counter(slugs.values())
    return {
        name: short if short and counts[short] == 1 else f"{short}-{digest(name)}".strip("-")
        for name, short in slugs.items()
    }


def pascal(verb: str) -> str:
    """``start_session`` as ``StartSession``."""
    return "".join(part.capitalize() for part in verb.split("_"))


def dashed(verb: str) -> str:
    return verb.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Site:
    """The hub, or the cell of one Region: what its resources are called there."""

    configuration: Configuration
    place: Place
    region: str

    @classmethod
    def hub(cls, configuration: Configuration) -> Site:
        return cls(configuration, Place.HUB, configuration.hub_region)

    @property
    def installation(self) -> str:
        return self.configuration.installation

    @property
    def account(self) -> str:
        return self.configuration.backup_account

    @property
    def partition(self) -> str:
        return RegionInfo.get(self.region).partition or "aws"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        """An ARN in the backup account; in this Region unless told otherwise."""
        where = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{where}:{self.account}:{resource}"

    def named(self, verb: str) -> str:
        """``holdfast-start-session``: unique in its account and Region."""
        return f"{self.installation}-{dashed(verb)}"

    def role_name(self, verb: str) -> str:
        """``holdfast-eu-central-1-move-segment``: IAM is global, so the Region is part of the name."""
        name = f"{self.installation}-{self.region}-{dashed(verb)}"
        if len(name) > ROLE_NAME_LIMIT:
            raise ConfigurationError(
                f"The role name {name} has {len(name)} characters; IAM allows {ROLE_NAME_LIMIT}.",
                resource="installation",
                remedy="Choose a shorter installation name.",
            )
        return name

    def role_pattern(self, verb: str) -> str:
        """The ARN of this function's role in any Region, for conditions on ``aws:PrincipalArn``."""
        return f"arn:{self.partition}:iam::{self.account}:role/{self.installation}-*-{dashed(verb)}"

    def function_arn(self, verb: str, *, region: str | None = None) -> str:
        return self.arn("lambda", f"function:{self.named(verb)}", region=region)

    def machine_arn(self, machine: str, *, region: str | None = None) -> str:
        return self.arn("states", f"stateMachine:{self.named(machine)}", region=region)

    def executions(self, machine: str, *, region: str | None = None) -> str:
        """Executions of a state machine (a pattern)."""
        return self.arn("states", f"execution:{self.named(machine)}:*", region=region)

    def child_executions(self, machine: str) -> str:
        """Executions that maps of a state machine start (a pattern)."""
        return self.arn("states", f"execution:{self.named(machine)}/*")

    @property
    def table_name(self) -> str:
        return f"{self.installation}-catalog"

    @property
    def table_arn(self) -> str:
        return self.arn("dynamodb", f"table/{self.table_name}", region=self.configuration.hub_region)

    @property
    def topic_name(self) -> str:
        return f"{self.installation}-results"

    @property
    def topic_arn(self) -> str:
        return self.arn("sns", self.topic_name, region=self.configuration.hub_region)

    @property
    def work_bucket(self) -> str:
        """The bucket through which executions here pass their lists."""
        return f"{self.installation}-{self.place}-{self.account}-{self.region}"

    @property
    def undelivered_name(self) -> str:
        """The queue of events that could not be delivered."""
        return f"{self.installation}-{self.place}-undelivered"

    @property
    def undelivered_arn(self) -> str:
        return self.arn("sqs", self.undelivered_name)

    @property
    def schedule_group(self) -> str:
        return self.installation

    def bucket_arn(self, bucket: str) -> str:
        return f"arn:{self.partition}:s3:::{bucket}"


def repository_key_alias(configuration: Configuration, repository: Repository) -> str:
    """The alias of the KMS key that a repository stack makes when the configuration names none."""
    return f"alias/{configuration.installation}-repository-{slug(repository.name)}-{digest(repository.name)}"


def makes_key(repository: Repository) -> bool:
    """Whether the repository stack has to make a KMS key."""
    return repository.encryption.kind == "kms" and not repository.encryption.key_arn


def with_keys(configuration: Configuration) -> Configuration:
    """The configuration as the functions see it: a key that Holdfast makes is named by its alias."""
    partition = Site.hub(configuration).partition

    def completed(repository: Repository) -> Repository:
        if not makes_key(repository):
            return repository
        alias = repository_key_alias(configuration, repository)
        arn = f"arn:{partition}:kms:{repository.region}:{configuration.backup_account}:{alias}"
        return repository.model_copy(
            update={"encryption": repository.encryption.model_copy(update={"key_arn": arn})}
        )

    return configuration.model_copy(
        update={"repositories": tuple(completed(repository) for repository in configuration.repositories)}
    )
