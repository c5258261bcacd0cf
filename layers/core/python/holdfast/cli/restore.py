"""``holdfast restore``: a volume, an instance, or a raw disk image.

Volumes and instances are restored by the restore state machine in the target Region; an image is read here,
from the bucket or from a local copy of it, with nothing but the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.points import find_point
from holdfast.cli.repository import PasswordFile, RepositoryName, open_repository
from holdfast.errors import ConfigurationError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from holdfast.repository.layout import PointName
    from holdfast.repository.manifest import PointManifest, VolumeManifest
    from holdfast.repository.repository import Repository

app = typer.Typer(no_args_is_help=True)

InstanceId = Annotated[str, typer.Option("--instance", help="Instance the restore point is of.")]
PointId = Annotated[str, typer.Option("--point", help="Restore point id; default: the latest one.")]
Tags = Annotated[
    list[str], typer.Option("--tag", metavar="KEY=VALUE", help="Tag of what is created; repeatable.")
]
Encrypted = Annotated[bool, typer.Option("--encrypted", help="Encrypt with the account's default key.")]
KeyArn = Annotated[str, typer.Option("--kms-key", help="Encrypt restored volumes with this KMS key.")]
Account = Annotated[
    str, typer.Option("--account", help="Target account; default: the account of the source.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the execution.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")]


def parse_tags(words: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping. Raises ConfigurationError."""
    tags = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not key or not separator:
            raise ConfigurationError(
                f"--tag {word!r} is not KEY=VALUE.", remedy="Write for example --tag owner=web."
            )
        tags[key] = value
    return tags


def _created(kms_key: str, tags: list[str], *, encrypted: bool) -> dict[str, Any]:
    """How what is created is tagged and encrypted; without a wish it is encrypted as the source was."""
    wish = {"encrypted": True} if encrypted or kms_key else {}
    return {"kms_key_arn": kms_key, "tags": parse_tags(tags), **wish}


def _request(
    cli: CommandContext, kind: str, instance_id: str, point_id: str, account: str, target: dict[str, Any]
) -> dict[str, Any]:
    point = find_point(cli, instance_id, point_id, account=account, region=cli.target_region(""))
    return {
        "kind": kind,
        "instance_id": point["instance_id"],
        "point_id": point["point_id"],
        "repository": point["repository"],
        "source_account": point["account"],
        "target": {
            "account": account or point["account"],
            "region": cli.target_region(point["region"]),
            **target,
        },
    }


def _run(cli: CommandContext, request: dict[str, Any], *, dry_run: bool, yes: bool) -> None:
    if dry_run:
        cli.emit({"would_restore": request})
        return
    what, target = f"{request['instance_id']} as of {request['point_id']}", request["target"]
    cli.confirm(f"Restore {what} into account {target['account']}, {target['region']}?", yes=yes)
    request["restore_id"] = f"restore-{cli.new_id()}"
    cli.progress.say(f"Restoring {what} ({request['restore_id']})")
    execution = cli.start("restore", request, name=request["restore_id"], region=target["region"])
    try:
        restored = cli.wait(execution, say=lambda: "restoring", region=target["region"])
    except KeyboardInterrupt:
        cli.progress.say(f"{request['restore_id']} goes on in AWS: {execution}")
        raise
    cli.emit(restored)


@app.command()
def volume(
    context: typer.Context,
    instance: InstanceId,
    availability_zone: Annotated[str, typer.Option("--availability-zone", help="Zone of the new volumes.")],
    point: PointId = "",
    volume: Annotated[list[str], typer.Option("--volume", help="Volume id in the point; default: all.")] = [],  # noqa: B006
    account: Account = "",
    encrypted: Encrypted = False,
    kms_key: KeyArn = "",
    tag: Tags = [],  # noqa: B006
    reason: Reason = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Restore volumes of a restore point as new, unattached volumes."""
    cli: CommandContext = context.obj
    target = {**_created(kms_key, tag, encrypted=encrypted), "availability_zone": availability_zone}
    request = _request(cli, "volume", instance, point, account, target)
    _run(cli, {**request, "volume_ids": volume, "reason": reason}, dry_run=dry_run, yes=yes)


@app.command()
def instance(
    context: typer.Context,
    instance: InstanceId,
    point: PointId = "",
    account: Account = "",
    name: Annotated[str, typer.Option(help="Name of the new instance.")] = "",
    instance_type: Annotated[str, typer.Option("--instance-type")] = "",
    subnet: Annotated[str, typer.Option("--subnet", help="Subnet of its one new network interface.")] = "",
    security_group: Annotated[list[str], typer.Option("--security-group", help="Repeatable.")] = [],  # noqa: B006
    key_name: Annotated[str, typer.Option("--key-name", help="EC2 key pair.")] = "",
    instance_profile: Annotated[str, typer.Option("--instance-profile", help="ARN, or 'none'.")] = "",
    encrypted: Encrypted = False,
    kms_key: KeyArn = "",
    tag: Tags = [],  # noqa: B006
    reason: Reason = "",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Restore an instance to a new location, with one new network interface."""
    cli: CommandContext = context.obj
    target = _created(kms_key, tag, encrypted=encrypted)
    settings = {
        "name": name,
        "instance_type": instance_type,
        "subnet_id": subnet,
        "security_group_ids": security_group,
        "key_name": key_name,
        "instance_profile_arn": "" if instance_profile == "none" else instance_profile,
        "no_instance_profile": instance_profile == "none",
    }
    request = _request(cli, "instance", instance, point, account, target)
    _run(cli, {**request, "instance": settings, "reason": reason}, dry_run=dry_run, yes=yes)


def _point_name(repository: Repository, instance_id: str, point_id: str) -> PointName:
    """The named point, or the newest of the instance. Raises NotFoundError."""
    from holdfast.repository.layout import point_name

    if point_id:
        return point_name(instance_id, point_id)
    found = max(repository.list_points(instance_id), default=None, key=lambda name: name.point_id)
    if found is None:
        raise NotFoundError("The repository has no restore point of this instance.", resource=instance_id)
    return found


def _volume(manifest: PointManifest, wanted: str) -> VolumeManifest:
    """The volume of that id or device; the root volume without. Raises NotFoundError."""
    roots = {volume.volume_id for volume in manifest.configuration.instance.volumes if volume.root}
    for volume in manifest.volumes:
        if wanted in (volume.volume_id, volume.device) or (not wanted and volume.volume_id in roots):
            return volume
    known = ", ".join(f"{volume.volume_id} ({volume.device})" for volume in manifest.volumes)
    raise NotFoundError(
        f"The restore point has no {f'volume {wanted}' if wanted else 'root volume'}; it has {known}.",
        resource=manifest.point_id,
        remedy="Name one with --volume.",
    )


@contextmanager
def _new_file(path: Path) -> Iterator[BufferedRandom]:
    """A file that has its name only when the block ends well, also when the process is killed before.

    Raises ConflictError when there is one already, or a part that another run left or is writing.
    """
    partial = path.with_name(f"{path.name}.partial")
    if path.exists():
        raise _exists(path)
    try:
        file = partial.open("x+b")
    except FileExistsError as error:
        raise _exists(partial) from error
    try:
        with file:
            yield file
        if path.exists():  # Made by somebody else in the meantime.
            raise _exists(path)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _exists(path: Path) -> ConflictError:
    return ConflictError(
        "The file exists already.", resource=str(path), remedy="Remove it, or choose another name."
    )


@app.command()
def image(
    context: typer.Context,
    repository: RepositoryName,
    instance: InstanceId,
    destination: Annotated[Path, typer.Argument(help="Raw image to write; sparse where the volume is zero.")],
    point: PointId = "",
    volume: Annotated[
        str, typer.Option("--volume", help="Volume id or device; default: the root volume.")
    ] = "",
    password_file: PasswordFile = None,
) -> None:
    """Write one volume of a restore point into a raw disk image, without any function or table."""
    from holdfast.dataplane.image import restore_image

    cli: CommandContext = context.obj
    opened = open_repository(cli, repository, password_file)
    manifest = opened.read_point(_point_name(opened, instance, point))
    chosen = _volume(manifest, volume)
    done, lock = 0, Lock()

    def tell(blocks: int) -> None:
        nonlocal done
        with lock:
            done += blocks
            cli.progress.update(f"{chosen.device or chosen.volume_id}: {done} blocks written")

    with _new_file(destination) as file:
        written = restore_image(chosen.segments, chosen.size_bytes, opened, file.fileno(), progress=tell)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
    cli.emit(
        {
            "instance": instance,
            "restore_point": manifest.point_id,
            "volume": chosen.volume_id,
            "size_bytes": chosen.size_bytes,
            "blocks_written": written,
            "image": str(destination),
            "sha256": digest.hexdigest(),
        }
    )
