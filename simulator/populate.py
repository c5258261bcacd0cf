"""Builds the world that a world file describes: Organization, keys, secrets, images, instances and disks.

Ids that the file does not give are derived from names, so that the same file always makes the same world.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random
from moto.organizations.models import organizations_backends

from simulator import kms
from simulator.ec2 import register_image
from simulator.world import Account, Instance, Key, Organization, Unit, Volume, World

_ROOT_GIB = 8
_ROOT_DEVICES = {"linux": "/dev/xvda", "windows": "/dev/sda1"}


def build(simulator: Any) -> None:
    """Make everything of ``simulator.world`` that no template deploys."""
    world: World = simulator.world
    mock_random.seed(world.seed)
    if world.organization:
        _build_organization(world, world.organization)
    for key in world.keys:
        _build_key(simulator, key)
    for secret in world.secrets:
        client = simulator.session(secret.account, secret.region).client("secretsmanager")
        client.create_secret(Name=secret.name, SecretString=secret.value)
    for sender in world.senders:
        for region in world.regions:
            client = simulator.session(world.backup_account, region).client("sesv2")
            client.create_email_identity(EmailIdentity=sender)
    for instance in world.instances:
        for number in range(1, instance.count + 1):
            name = instance.name if instance.count == 1 else f"{instance.name}-{number}"
            _build_instance(simulator, instance, name)
    simulator.requests.clear()


def add_account(simulator: Any, account: Account) -> None:
    """An account that appears in the Organization after the world was made."""
    organization = simulator.world.organization
    backend: Any = organizations_backends[organization.management_account]["aws"]
    place = root_id = backend.org.root_id
    for name in filter(None, account.unit.split("/")):
        place = next(unit.id for unit in backend.ou if (unit.parent_id, unit.name) == (place, name))
    _build_account(backend, account, root_id, place)


def add_instance(simulator: Any, described: Instance) -> None:
    """An instance that appears after the world was made."""
    _build_instance(simulator, described, described.name)


def derived_id(prefix: str, *names: str) -> str:
    """A stable id of EC2's shape for something known by ``names``."""
    return f"{prefix}-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:17]}"


def _build_organization(world: World, organization: Organization) -> None:
    backend: Any = organizations_backends[organization.management_account]["aws"]
    with _fixed("moto.organizations.utils.make_random_org_id", organization.id):
        backend.create_organization(region="us-east-1", FeatureSet="ALL")
    root_id = backend.org.root_id
    organizations_backends.master_accounts[organization.management_account] = (
        organization.management_account,
        backend.partition,
    )
    places = {"": root_id}
    for path, unit in organization.paths().items():
        places[path] = _build_unit(backend, unit, path, places[path.rpartition("/")[0]])
    for account in world.accounts:
        if account.id == organization.management_account:
            _rename_management(backend, account)
        elif account.member:
            _build_account(backend, account, root_id, places[account.unit])


def _rename_management(backend: Any, account: Account) -> None:
    held = backend.get_account_by_id(account.id)
    held.name, held.tags = account.name, dict(account.tags)


def _build_unit(backend: Any, unit: Unit, path: str, parent_id: str) -> str:
    root = backend.org.root_id.removeprefix("r-")
    unit_id = unit.id or f"ou-{root}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    with _fixed("moto.organizations.utils.make_random_ou_id", unit_id):
        backend.create_organizational_unit(Name=unit.name, ParentId=parent_id, Tags=[])
    return unit_id


def _build_account(backend: Any, account: Account, root_id: str, place: str) -> None:
    with _fixed("moto.organizations.utils.make_random_account_id", account.id):
        backend.create_account(
            AccountName=account.name,
            Email=f"aws+{account.id}@example.com",
            Tags=[{"Key": key, "Value": value} for key, value in account.tags.items()],
        )
    if place != root_id:
        backend.move_account(AccountId=account.id, SourceParentId=root_id, DestinationParentId=place)
    if account.status == "SUSPENDED":
        backend.close_account(AccountId=account.id)


@contextmanager
def _fixed(function: str, value: str) -> Iterator[None]:
    """Let one of moto's sources of random ids return ``value``."""
    with patch(function, lambda *_, **__: value):
        yield


def _build_key(simulator: Any, key: Key) -> None:
    client = simulator.session(key.account, key.region).client("kms")
    key_id = client.create_key(Description=key.alias)["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName=f"alias/{key.alias}", TargetKeyId=key_id)
    held = kms.find_key(key_id, key.account, key.region)
    if held is not None:
        kms.share(held, key.shared_with)
    if key.state == "Disabled":
        client.disable_key(KeyId=key_id)
    elif key.state == "PendingDeletion":
        client.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=30)


def default_image(account: str, region: str, platform: str, architecture: str) -> str:
    """The id of the image that instances of this kind start from, made on first use: an empty root disk."""
    backend = ec2_backends[account][region]
    name = f"{platform}-{architecture}"
    for image in backend.amis.values():
        if image.name == name:
            return str(image.id)
    volume = backend.create_volume(_ROOT_GIB, f"{region}a")
    snapshot = backend.create_snapshot(volume.id, f"Root disk of {name}", None, "image")
    backend.delete_volume(volume.id)
    image = register_image(
        backend,
        name,
        [{"DeviceName": _ROOT_DEVICES[platform], "Ebs": {"SnapshotId": snapshot.id}}],
        architecture=architecture,
        virtualization_type="hvm",
        root_device_name=_ROOT_DEVICES[platform],
        platform="windows" if platform == "windows" else None,
    )
    return str(image.id)


def _build_instance(simulator: Any, described: Instance, name: str) -> None:
    account, region = described.account, described.region
    backend: Any = ec2_backends[account][region]
    zone = f"{region}{described.zone}"
    instance_id = described.id or derived_id("i", account, region, name)
    options: dict[str, Any] = {"private_ip": described.private_ip} if described.private_ip else {}
    with _fixed("moto.ec2.models.instances.random_instance_id", instance_id):
        reservation = backend.run_instances(
            default_image(account, region, described.platform, described.architecture),
            1,
            base64.b64encode(described.user_data.encode()).decode() if described.user_data else None,
            [_group(backend, group) for group in described.security_groups],
            instance_type=described.type,
            is_instance_type_default=True,  # moto compares with hundreds of types otherwise
            region_name=region,
            key_name=described.key_name or None,
            subnet_id=_subnet(backend, zone),
            nics=[],
            tags={"instance": {"Name": name} | described.tags},
            block_device_mappings=[],
            client_token=f"world-{name}",
            **options,
        )
    instance = reservation.instances[0]
    instance.root_device_name = described.volumes[0].device
    for volume in described.volumes:
        _build_volume(simulator, instance, volume, described, name)
    _equip(simulator, backend, instance, described)


def _equip(simulator: Any, backend: Any, instance: Any, described: Instance) -> None:
    if described.profile:
        _give_profile(simulator, backend, instance, described)
    if described.elastic_ip:
        client = simulator.session(described.account, described.region).client("ec2")
        address = client.allocate_address(Domain="vpc")
        client.associate_address(AllocationId=address["AllocationId"], InstanceId=instance.id)
    if described.state == "stopped":
        instance.stop()
    elif described.state == "terminated":
        instance.terminate()


def _build_volume(simulator: Any, instance: Any, described: Volume, owner: Instance, name: str) -> None:
    backend = instance.ec2_backend
    volume_id = described.id or derived_id("vol", owner.account, owner.region, name, described.device)
    key = described.kms_key
    if key and not key.startswith("arn:"):
        key = f"alias/{key}"
    with _fixed("moto.ec2.models.elastic_block_store.random_volume_id", volume_id):
        volume = backend.create_volume(
            described.size_gib,
            instance.placement.zone,
            encrypted=described.encrypted or bool(key),
            kms_key_id=key or None,
            volume_type=described.type,
            iops=described.iops or (100 if described.type in ("io1", "io2") else None),
            throughput=described.throughput or (125 if described.type == "gp3" else None),
            multi_attach_enabled=described.multi_attach or None,
        )
    volume.add_tags(described.tags)
    backend.attach_volume(volume.id, instance.id, described.device, described.delete_on_termination)
    if described.image is not None:
        simulator.ebs.seed(volume, described.image)


def _subnet(backend: Any, zone: str) -> str:
    return str(backend.get_default_subnets()[zone].id)


def _group(backend: Any, name: str) -> str:
    vpc = backend.get_default_vpc()
    if backend.get_security_group_by_name_or_id(name, vpc.id) is None:
        backend.create_security_group(name, f"Group {name}", vpc_id=vpc.id)
    return str(backend.get_security_group_by_name_or_id(name, vpc.id).id)


def _give_profile(simulator: Any, backend: Any, instance: Any, described: Instance) -> None:
    client = simulator.session(described.account, described.region).client("iam")
    # Another instance of the world may have the same profile.
    with suppress(client.exceptions.EntityAlreadyExistsException):
        client.create_instance_profile(InstanceProfileName=described.profile)
    backend.associate_iam_instance_profile(
        instance_id=instance.id, iam_instance_profile_name=described.profile
    )
