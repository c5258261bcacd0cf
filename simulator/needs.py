"""One permission that a request needs, and the place where its resources are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from moto.ec2.models import ec2_backends

# Kinds of EC2 resources by the prefix of their ids. Snapshots and images have no account in their ARN.
_KINDS = {
    "i": "instance",
    "vol": "volume",
    "snap": "snapshot",
    "ami": "image",
    "eni": "network-interface",
    "subnet": "subnet",
    "sg": "security-group",
    "vpc": "vpc",
    "eipalloc": "elastic-ip",
    "key": "key-pair",
    "lt": "launch-template",
}
_WITHOUT_ACCOUNT = {"snapshot", "image"}


@dataclass(frozen=True, slots=True)
class Need:
    """An action on a resource under condition keys (lower case, each with its values)."""

    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Account and Region of a request; ``machine_of_token`` names the state machine behind a task token."""

    account: str
    region: str
    machine_of_token: Callable[[str], str]

    def arn(self, service: str, resource: str) -> str:
        """An ARN in this account and Region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def ec2_arn(self, kind: str, name: str, region: str = "") -> str:
        """The ARN of an EC2 resource as IAM writes it."""
        account = "" if kind in _WITHOUT_ACCOUNT else self.account
        return f"arn:aws:ec2:{region or self.region}:{account}:{kind}/{name}"

    def tagged(
        self,
        action: str,
        resource_id: str,
        context: Mapping[str, Sequence[str]] | None = None,
        region: str = "",
    ) -> Need:
        """An action on an EC2 resource that exists, with its tags and owner.

        Raises ValueError for an id of an unknown kind.
        """
        kind = _KINDS.get(resource_id.split("-")[0])
        if kind is None:
            raise ValueError(f"{action}: {resource_id} is no id of a known kind")
        tags = self.tags(resource_id, region)
        known = {
            f"{prefix}:resourcetag/{key.lower()}": [value]
            for key, value in tags.items()
            for prefix in ("aws", "ec2")
        }
        if kind == "snapshot":
            known["ec2:owner"] = [self.owner(resource_id, region)]
        return Need(action, self.ec2_arn(kind, resource_id, region), {**known, **(context or {})})

    def tags(self, resource_id: str, region: str = "") -> dict[str, str]:
        """Tags of an EC2 resource as this account sees them: those of a shared one are the owner's secret."""
        return dict(ec2_backends[self.account][region or self.region].tags.get(resource_id, {}))

    def key_of_snapshot(self, snapshot_id: str, region: str = "") -> str:
        """The ARN of the key that a snapshot is encrypted with; empty without one."""
        backend = ec2_backends[self.owner(snapshot_id, region)][region or self.region]
        snapshot = backend.snapshots.get(snapshot_id)
        return str(getattr(snapshot, "kms_key_id", None) or "")

    def owner(self, snapshot_id: str, region: str = "") -> str:
        """The account that owns a snapshot; this one when nobody has it."""
        place = region or self.region
        for account in list(ec2_backends):
            if snapshot_id in ec2_backends[account][place].snapshots:
                return str(account)
        return self.account


def request_tags(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """Condition keys for tags that a request carries."""
    if not tags:
        return {}
    return {f"aws:requesttag/{key.lower()}": [value] for key, value in tags.items()} | {
        "aws:tagkeys": list(tags)
    }
