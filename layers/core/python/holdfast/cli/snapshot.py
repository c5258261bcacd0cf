"""``holdfast snapshot``: take a cloud-native snapshot of one instance now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from holdfast.cli.context import CommandContext
from holdfast.cli.restore import Tags, parse_tags


def snapshot(
    context: typer.Context,
    instance: Annotated[str, typer.Argument(help="Instance id.")],
    account: Annotated[str, typer.Option(help="Its account; default: of its role or earlier points.")] = "",
    role: Annotated[str, typer.Option(help="Role or organization of the configuration.")] = "",
    keep_days: Annotated[int, typer.Option("--keep-days", min=0, help="0: until it is removed.")] = 0,
    tag: Tags = [],  # noqa: B006
    copy_region: Annotated[str, typer.Option("--copy-region", help="Copy it to this Region.")] = "",
    copy_account: Annotated[str, typer.Option("--copy-account", help="Copy it to this account.")] = "",
    copy_kms_key: Annotated[str, typer.Option("--copy-kms-key", help="KMS key of the copy.")] = "",
    copy_role: Annotated[
        str, typer.Option("--copy-role", help="Role or organization for the copy's account.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it, and its copy, is complete.")] = False,
) -> None:
    """Take a snapshot of an instance now, outside every policy."""
    cli: CommandContext = context.obj
    event: dict[str, Any] = {
        "instance_id": instance,
        "account": account,
        "region": cli.region,
        "role": role,
        "keep_days": keep_days or None,
        "tags": parse_tags(tag),
        "request_id": cli.new_id(),
    }
    if copy_region or copy_account:
        event["copy_to"] = {
            "region": copy_region,
            "account": copy_account,
            "role": copy_role,
            "kms_key_arn": copy_kms_key,
        }
    elif copy_kms_key or copy_role:
        raise typer.BadParameter("--copy-kms-key and --copy-role need --copy-region or --copy-account.")
    hub = cli.configuration.hub_region
    answer = cli.invoke("take-manual-snapshot", event, region=hub)
    if wait:
        execution = cli.execution_arn("manual-snapshot", answer["point_id"], region=hub)
        copies = cli.wait(execution, say=lambda: "waiting for the snapshot", region=hub)["copies"]
        answer |= {"state": "complete", **({"copies": copies} if answer["copying"] else {})}
    cli.emit(answer)
