"""What a restore makes of a restore point: which volumes, how encrypted, with which tags and settings.

Refusals come from here, before anything is made: whoever learns after hours of moving blocks that the
instance could never have been launched has been told too late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from holdfast.errors import ConfigurationError, NotFoundError, PermanentError
from holdfast.model import tags as names
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import InstanceSettings, RestoreRequest, Target

RESTORE: Final = names.PREFIX + "restore"
TAG_LIMIT: Final = 50
_UNLICENSED: Final = ("", "RunInstances")


class Encryption(NamedTuple):
    """How a volume is encrypted; an empty key is the account's default key for EBS."""

    encrypted: bool
    kms_key_arn: str = ""


def chosen_volumes(volumes: Sequence[AttachedVolume], request: RestoreRequest) -> tuple[AttachedVolume, ...]:
    """The volumes that a restore is about. Raises NotFoundError naming those the point does not have."""
    known = {volume.volume_id for volume in volumes}
    missing = [wanted for wanted in request.volume_ids if wanted not in known]
    if missing or not volumes:
        raise NotFoundError(
            f"The restore point has no volume {', '.join(missing) or 'at all'}; "
            f"it has {', '.join(sorted(known)) or 'none'}.",
            resource=request.point_id,
            remedy="Choose one of its volumes.",
        )
    return tuple(v for v in volumes if not request.volume_ids or v.volume_id in request.volume_ids)


def encryption(volume: AttachedVolume, target: Target) -> Encryption:
    """How a volume is encrypted that is written anew from a backup.

    Without a wish it is as the source was; the source's own key is used again only where it can be: in its
    own account and Region (infrastructure.md section 4).
    """
    wish = wished(target)
    if wish or target.encrypted is False:
        return wish or Encryption(False)
    key = volume.kms_key_arn.split(":")
    at_home = len(key) > 4 and key[3:5] == [target.region, target.account]
    return Encryption(volume.encrypted, volume.kms_key_arn if volume.encrypted and at_home else "")


def wished(target: Target) -> Encryption | None:
    """The encryption that the operator asks for, or None: what is made of a snapshot is then as that is."""
    if target.encrypted or target.kms_key_arn:
        return Encryption(True, target.kms_key_arn)
    return None


def require_encryptable(volumes: Sequence[AttachedVolume], target: Target) -> None:
    """Raises PermanentError for volumes that EC2 cannot make of their snapshots as the operator wishes."""
    encrypted = [volume.volume_id for volume in volumes if volume.encrypted]
    if target.encrypted is False and encrypted:
        raise PermanentError(
            f"EC2 makes no unencrypted volume from an encrypted snapshot ({', '.join(encrypted)}).",
            resource=encrypted[0],
            remedy="Restore it encrypted, or restore from an image-level backup.",
        )


def temporary_tags(installation: str, restore_id: str) -> dict[str, str]:
    """Tags of what a restore makes for itself and removes at its end."""
    return {names.INSTALLATION: installation, RESTORE: restore_id, names.KIND: "temporary"}


def created_tags(
    installation: str, request: RestoreRequest, source: Mapping[str, str], *, name: str = ""
) -> dict[str, str]:
    """Tags of what a restore leaves: where it came from, its name, the operator's, and the source's own.

    AWS allows 50: when there are more, the last ones of the source (by name) stay behind.
    """
    tags = {
        **request.target.tags,
        **({"Name": name} if name else {}),
        names.INSTALLATION: installation,
        RESTORE: request.restore_id,
        names.POINT: request.point_id,
    }
    for key in sorted(source):
        if len(tags) >= TAG_LIMIT:
            break
        if not key.startswith(("aws:", names.PREFIX)):
            tags.setdefault(key, source[key])
    return tags


def instance_name(configuration: InstanceConfiguration, request: RestoreRequest) -> str:
    """The name of a restored instance; it always has one."""
    source = configuration.instance
    asked = request.instance.name or request.target.tags.get("Name", "")
    return asked or source.name or f"restored-{source.instance_id}"


def require_launchable(
    configuration: InstanceConfiguration, chosen: Sequence[AttachedVolume], request: RestoreRequest
) -> None:
    """Raises PermanentError for an instance that cannot be launched from an image of its volumes.

    AWS lets nobody but the vendor register an image with product codes, and the images that we register have
    no licence of Windows or a commercial Linux in them ("Create an AMI", EC2 user guide).
    """
    licence = str(configuration.description.get("UsageOperation", ""))
    if configuration.product_codes or licence not in _UNLICENSED:
        carried = (
            f"product codes ({', '.join(configuration.product_codes)})"
            if configuration.product_codes
            else f"a licence that AWS bills ({configuration.description.get('PlatformDetails', licence)})"
        )
        raise PermanentError(
            f"The instance has {carried}, which a new image cannot carry.",
            resource=request.instance_id,
            remedy="Launch an instance from the vendor's AMI, restore the volumes, and attach them to it.",
        )
    if not any(volume.root for volume in chosen):
        raise PermanentError(
            "The restore does not include the root volume, so no instance can boot from it.",
            resource=request.point_id,
            remedy="Include the root volume, or restore the volumes instead.",
        )


def launch_settings(configuration: InstanceConfiguration, request: RestoreRequest) -> InstanceSettings:
    """The settings to launch with: the operator's, else the source's where they exist in the target.

    In another account or Region there is neither the source's network nor its key pair nor its profile; in
    another subnet its security groups may belong to another VPC. Raises ConfigurationError.
    """
    wanted, source, target = request.instance, configuration.instance, request.target
    elsewhere = (target.account, target.region) != (source.account, source.region)
    if elsewhere and not wanted.subnet_id:
        raise ConfigurationError(
            f"The subnet of the instance is not in account {target.account}, {target.region}.",
            resource=request.instance_id,
            remedy="Name a subnet of the target.",
        )
    moved = bool(wanted.subnet_id) and wanted.subnet_id != configuration.subnet_id
    groups = () if elsewhere or moved else configuration.security_group_ids
    profile = "" if elsewhere else configuration.instance_profile_arn
    return wanted.model_copy(
        update={
            "instance_type": wanted.instance_type or configuration.instance_type,
            "subnet_id": wanted.subnet_id or configuration.subnet_id,
            "security_group_ids": wanted.security_group_ids or groups,
            "key_name": wanted.key_name or ("" if elsewhere else configuration.key_name),
            "instance_profile_arn": ""
            if wanted.no_instance_profile
            else wanted.instance_profile_arn or profile,
        }
    )
