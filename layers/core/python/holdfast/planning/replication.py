"""Where the snapshots of an instance are copied to, and whether each of them can be.

A snapshot under the default key of EBS can never be shared with another account: it is copied under a
transfer key of the source account first, or refused before anything is made. Source: policies.md 2
(replication); vector SEL-3.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.model.configuration import Configuration, Policy, ReplicaTarget
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.session import State
from holdfast.planning.selection import Target, find_role


@dataclass(frozen=True, slots=True)
class Copy:
    """How the snapshots of one instance get to their target.

    ``transfer_key_arn`` is set when they are copied in their own account first; ``key_arn`` is the key of
    the copy (empty: not encrypted) and ``encrypted_only`` whether plain volumes stay plain.
    """

    target: Target
    region: str
    key_arn: str = ""
    encrypted_only: bool = True
    transfer_key_arn: str = ""
    share: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """No replica is made, why, and how the session ends by it."""

    reason: str
    remedy: str
    state: State


def mapping(policy: Policy, region: str) -> ReplicaTarget | None:
    """The target of a source Region."""
    return next((target for target in policy.replication if target.source_region == region), None)


def is_default_key(volume: AttachedVolume, default_keys: frozenset[str]) -> bool:
    """Whether a volume is encrypted with the key that AWS manages for EBS."""
    return volume.encrypted and (
        volume.kms_key_arn in default_keys or volume.kms_key_arn.endswith("alias/aws/ebs")
    )


def plan_copy(
    configuration: Configuration,
    policy: Policy,
    instance: Instance,
    own: Target,
    default_keys: frozenset[str] = frozenset(),
) -> Copy | Refusal:
    """How ``instance`` is replicated, or why not. ``own`` is the role of the instance's account.

    ``default_keys`` are ARNs of AWS-managed keys of the account and Region.
    """
    target = mapping(policy, instance.region)
    if target is None:
        return Refusal(
            f"{instance.region} has no replication target",
            "Add it to `replication` of the policy.",
            State.WARNING,
        )
    role = find_role(configuration, target.role) if target.role else None
    there = Target(role.account, role.arn, role.external_id, role.name) if role else own
    crosses = there.account != instance.account
    encrypted = [volume for volume in instance.volumes if volume.encrypted]
    if encrypted and not target.key_arn:
        return Refusal(
            f"{encrypted[0].volume_id} is encrypted and the replication target names no key",
            "Set key_arn to a KMS key of the target Region.",
            State.WARNING,
        )
    under_default = [volume for volume in encrypted if is_default_key(volume, default_keys)]
    if crosses and under_default and not target.transfer_key_arn:
        return Refusal(
            f"{under_default[0].volume_id} is encrypted with the default key, which cannot be shared",
            "Set transfer_key_arn to a customer-managed key of the source account and Region.",
            State.FAILED,
        )
    return Copy(
        there,
        target.region,
        target.key_arn,
        target.encrypt == "encrypted_only",
        target.transfer_key_arn if crosses and under_default else "",
        share=crosses,
    )


def is_readable(
    volume: AttachedVolume, owner: str, reader: str, default_keys: frozenset[str] = frozenset()
) -> bool:
    """Whether blocks of a snapshot can be read under a role of the account ``reader``.

    Movers read under the role of the owner, so that this holds for every key.
    """
    return owner == reader or not is_default_key(volume, default_keys)
