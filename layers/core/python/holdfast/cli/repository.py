"""``holdfast repository``: look at a repository, verify it, rebuild the catalog from it, change its key.

A repository is named by the configuration, by ``s3://bucket/prefix``, or by ``file:///directory`` (a copy of
the bucket's folder); the last needs no AWS at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.errors import ConfigurationError, DamagedError

if TYPE_CHECKING:
    from holdfast.ports import KeyWrapper, ObjectStore
    from holdfast.repository.header import Header
    from holdfast.repository.layout import PointName
    from holdfast.repository.repository import Repository

app = typer.Typer(no_args_is_help=True)

RepositoryName = Annotated[
    str,
    typer.Option("--repository", help="Name in the configuration, s3://bucket/prefix, or file:///directory."),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the repository's password (first line).")
]


def read_password_file(path: Path) -> str:
    """The first line of a file. Raises ConfigurationError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("The password file cannot be read.", resource=str(path)) from error
    if not lines or not lines[0]:
        raise ConfigurationError("The password file has no first line.", resource=str(path))
    return lines[0]


def open_repository(cli: CommandContext, name: str, password_file: Path | None = None) -> Repository:
    """Open a repository by name or address. Raises what `Repository.open` raises."""
    from holdfast.repository.header import decode_header
    from holdfast.repository.repository import Repository, read_header

    if "://" not in name and password_file is None:
        return cli.services.repository(name)
    store = _store(cli, name)
    header, _ = decode_header(read_header(store))
    return Repository.open(store, _key_wrapper(cli, header, password_file))


def _store(cli: CommandContext, name: str) -> ObjectStore:
    from holdfast.stores.directory import DirectoryStore

    if name.startswith("file://"):
        return DirectoryStore.from_url(name)
    if name.startswith("s3://"):
        bucket, _, prefix = name.removeprefix("s3://").partition("/")
        return cli.services.object_store(bucket, cli.region, prefix.strip("/"), anybodys=True)
    found = next((one for one in cli.configuration.repositories if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in cli.configuration.repositories) or "none"
        raise ConfigurationError(
            f"There is no repository {name!r}.", remedy=f"The configuration has: {known}."
        )
    return cli.services.object_store(found.bucket, found.region, found.prefix)


def _key_wrapper(cli: CommandContext, header: Header, password_file: Path | None) -> KeyWrapper | None:
    if password_file is not None:  # Also where the header says "not encrypted": opening it is then refused.
        from holdfast.repository.password import PasswordWrapper

        return PasswordWrapper(read_password_file(password_file), cli.world.ids)
    if header.encryption is None:
        return None
    if header.encryption.key.get("kind") == "kms":
        from holdfast.aws.kms import KmsKeyWrapper

        return KmsKeyWrapper(cli.session, "")
    raise ConfigurationError(
        "The repository is encrypted with a password.", remedy="Give it with --password-file FILE."
    )


@app.command("list")
def list_points(
    context: typer.Context, repository: RepositoryName, password_file: PasswordFile = None
) -> None:
    """List the restore points that the repository itself holds."""
    from holdfast.cli.points import row

    cli: CommandContext = context.obj
    opened = open_repository(cli, repository, password_file)
    cli.emit([row(point) for point in opened.rebuild(repository)])


@app.command()
def check(
    context: typer.Context,
    repository: RepositoryName,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and verify every block too.")] = False,
    percent: Annotated[
        float,
        typer.Option("--percent", min=0.01, max=100, help="With --read-data: share of the packs to read."),
    ] = 100,
    password_file: PasswordFile = None,
) -> None:
    """Verify a repository; exit code 1 when anything is damaged, naming object and restore points."""
    cli: CommandContext = context.obj
    opened = open_repository(cli, repository, password_file)
    salt = cli.world.ids.random_bytes(16)
    report = opened.check(read_data=read_data, percent=percent, salt=salt)
    cli.emit(
        {
            "sound": report.sound,
            "points": report.points,
            "maps": report.maps,
            "packs": report.packs,
            "blocks_read": report.blocks,
            "damages": [
                {
                    "object": damage.key,
                    "what": damage.message,
                    "restore_points": [f"{point.instance_id}/{point.point_id}" for point in damage.points],
                }
                for damage in report.damages
            ],
        }
    )
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def rebuild(
    context: typer.Context,
    repository: RepositoryName,
    name: Annotated[
        str, typer.Option("--name", help="Its name in the configuration, when it is given by address.")
    ] = "",
    password_file: PasswordFile = None,
) -> None:
    """Write every restore point of a repository into the catalog again; exit code 3 when some are damaged."""
    from holdfast.repository.layout import point_name

    cli: CommandContext = context.obj
    known = _configured_name(cli, name or repository)
    damaged: list[dict[str, Any]] = []

    def remember(name: PointName, error: DamagedError) -> None:
        damaged.append({"restore_point": f"{name.instance_id}/{name.point_id}", "problem": str(error)})

    opened = open_repository(cli, repository, password_file)
    catalog, count = cli.services.catalog, 0
    for point in opened.rebuild(known, remember):
        manifest = opened.read_point(point_name(point.instance_id, point.point_id))
        catalog.add_point(point, manifest.configuration)
        count += 1
        cli.progress.update(f"{count} restore points")
    cli.emit({"restore_points": count, "damaged": damaged})
    if damaged:
        raise typer.Exit(3)


def _configured_name(cli: CommandContext, name: str) -> str:
    """The name that functions will look for. Raises ConfigurationError."""
    known = [repository.name for repository in cli.configuration.repositories]
    if name not in known:
        raise ConfigurationError(
            f"The configuration has no repository {name!r}, so nothing could be restored from it.",
            remedy=f"Give its name with --name: {', '.join(known) or 'none is configured'}.",
        )
    return name


NewPassword = Annotated[
    Path | None, typer.Option("--new-password-file", help="File with the new password (first line).")
]
NewKey = Annotated[str, typer.Option("--new-kms-key", help="ARN of the new KMS key.")]


def _new_wrapper(cli: CommandContext, password_file: Path | None, kms_key: str) -> tuple[KeyWrapper, str]:
    """What wraps the repository key from now on, and what to call it."""
    if bool(password_file) == bool(kms_key):
        raise typer.BadParameter("Give either --new-password-file or --new-kms-key.")
    if password_file:
        from holdfast.repository.password import PasswordWrapper

        return PasswordWrapper(read_password_file(password_file), cli.world.ids), "password"
    from holdfast.aws.kms import KmsKeyWrapper

    return KmsKeyWrapper(cli.session, kms_key), kms_key


@app.command()
def rekey(
    context: typer.Context,
    repository: RepositoryName,
    password_file: PasswordFile = None,
    new_password_file: NewPassword = None,
    new_kms_key: NewKey = "",
) -> None:
    """Change the password or KMS key: the repository key is wrapped anew, no data is rewritten."""
    from holdfast.repository.encryption import rewrap

    cli: CommandContext = context.obj
    wrapper, key = _new_wrapper(cli, new_password_file, new_kms_key)
    rewrap(open_repository(cli, repository, password_file), wrapper)
    cli.emit({"repository": repository, "key": key})


@app.command()
def encrypt(
    context: typer.Context,
    repository: RepositoryName,
    new_password_file: NewPassword = None,
    new_kms_key: NewKey = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Encrypt all that is written to a plain repository from now on; this cannot be undone."""
    from holdfast.repository.encryption import enable_encryption

    cli: CommandContext = context.obj
    wrapper, key = _new_wrapper(cli, new_password_file, new_kms_key)
    cli.confirm(f"Encrypt {repository} for good? The next run of each chain is a full.", yes=yes)
    enable_encryption(_store(cli, repository), wrapper, ids=cli.world.ids)
    cli.emit({"repository": repository, "key": key})
