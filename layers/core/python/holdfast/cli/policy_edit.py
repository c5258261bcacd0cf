"""Commands that edit policies where they are configured: order, export, import, adding an instance, deletion.

They change the operator's files and nothing else: what was changed counts when it is deployed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from holdfast.cli import yaml_text
from holdfast.cli.context import CommandContext
from holdfast.cli.policy_files import (
    KINDS,
    PolicyFiles,
    add_instance,
    add_policy,
    remove_policy,
    set_priorities,
)
from holdfast.errors import ConfigurationError, NotFoundError
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.restore_point import Kind
from holdfast.model.scope import Account
from holdfast.model.session import State
from holdfast.planning.adding import Placed, eligible, why_not
from holdfast.planning.priorities import moved, ordered

BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No restore point is older than Holdfast."""
RECENT: Final = timedelta(days=14)
"""Longer than any session lasts, with its retries."""
_DEPLOY: Final = "Nothing has changed yet for what runs: look at `cdk diff`, then run `cdk deploy`."


class Form(StrEnum):
    """Forms of an exported policy."""

    YAML = "yaml"
    JSON = "json"


def _files(cli: CommandContext) -> PolicyFiles:
    return PolicyFiles.open(cli.configuration_directory)


def priority(
    context: typer.Context,
    name: str,
    number: Annotated[int | None, typer.Argument(min=1, max=100_000, help="The new priority.")] = None,
    first: Annotated[bool, typer.Option("--first", help="Before all of its kind.")] = False,
    last: Annotated[bool, typer.Option("--last", help="After all of its kind.")] = False,
    before: Annotated[str, typer.Option("--before", help="Right before this policy.")] = "",
    after: Annotated[str, typer.Option("--after", help="Right after this policy.")] = "",
) -> None:
    """Change which policy owns an instance that several select; SLA-based ones always come first."""
    cli: CommandContext = context.obj
    if sum((number is not None, first, last, bool(before), bool(after))) != 1:
        raise typer.BadParameter("Give one of: a number, --first, --last, --before, --after.")
    files = _files(cli)
    section = files.section_of(name)
    policies = files.policies(section)
    if number is not None:
        numbers = {name: number}
    else:
        others = [policy.name for policy in ordered(policies) if policy.name != name]
        neighbour = before or after
        place = len(others) if last else 0
        if neighbour:
            place = _position(neighbour, others, files) + bool(after)
        numbers = moved(policies, name, place)
    if numbers:
        set_priorities(files, section, numbers)
        cli.progress.say(_DEPLOY)
    order = ordered(_files(cli).policies(section))
    cli.emit([{"name": policy.name, "priority": policy.priority} for policy in order])


def _position(neighbour: str, others: list[str], files: PolicyFiles) -> int:
    """The place of another policy of the same kind. Raises NotFoundError, ConfigurationError."""
    if neighbour in others:
        return others.index(neighbour)
    files.section_of(neighbour)
    raise ConfigurationError(
        "Policies are ordered among their kind: SLA-based ones always come first.",
        resource=neighbour,
        remedy=f"Name one of: {', '.join(others) or 'none, there is no other'}.",
    )


def exported(section: str, policy: AnyPolicy) -> dict[str, Any]:
    """A policy as a file of its own has it: what was written, also where it is what is usual here."""
    return {section: [policy.model_dump(mode="json", exclude_unset=True)]}


def export(
    context: typer.Context,
    name: str,
    form: Annotated[Form, typer.Option("--as", help="Form of the file.")] = Form.YAML,
) -> None:
    """Print a policy as a file that `holdfast policy import` takes, here or in another installation."""
    cli: CommandContext = context.obj
    files = _files(cli)
    section = files.section_of(name)
    policy = next(policy for policy in files.policies(section) if policy.name == name)
    body = exported(section, policy)
    if form is Form.JSON:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(yaml_text.lines(body)))


def import_policy(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `holdfast policy export` printed.")],
    name: Annotated[str, typer.Option("--name", help="The name of the new policy.")],
) -> None:
    """Add a policy from a file, under a new name."""
    cli: CommandContext = context.obj
    section, body = _imported(file)
    files = _files(cli)
    body = {**body, "name": name}
    policy = _validated(section, body, file)
    written = add_policy(files, section, body, policy)
    cli.progress.say(_DEPLOY)
    cli.emit({"name": name, "kind": "sla" if section == "sla_policies" else "schedule", "file": str(written)})


def _imported(file: Path) -> tuple[str, dict[str, Any]]:
    """The one policy in a file, and its section. Raises ConfigurationError."""
    from holdfast.yaml_tree import MAX_BYTES, YamlRefused, read_tree

    try:
        with file.open("rb") as stream:
            value = read_tree(stream.read(MAX_BYTES + 1), str(file)).value
    except YamlRefused as refused:
        raise ConfigurationError(str(refused), remedy="Export the policy again.") from refused
    found = [
        (section, body)
        for section in KINDS
        for body in ((value.get(section) if isinstance(value, dict) else None) or [])
    ]
    if len(found) != 1 or len(value) != 1 or not isinstance(found[0][1], dict):
        raise ConfigurationError(
            "The file does not hold one policy under `policies` or `sla_policies`, and nothing else.",
            resource=str(file),
            remedy="Make it with `holdfast policy export`.",
        )
    return found[0]


def _validated(section: str, body: dict[str, Any], file: Path) -> AnyPolicy:
    from pydantic import ValidationError

    from holdfast.model.refusals import findings

    kind = KINDS[section]
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, finding.path))}: {finding.message}"
            for finding in findings(error, kind, body)
        )
        raise ConfigurationError(f"The policy is not valid: {told}", resource=str(file)) from error


def add(
    context: typer.Context,
    name: str,
    instance: Annotated[str, typer.Argument(help="Instance id.")],
    account: Annotated[str, typer.Option(help="Its account; default: of its restore points.")] = "",
    instance_region: Annotated[
        str, typer.Option("--instance-region", help="Its Region; default: of its restore points.")
    ] = "",
) -> None:
    """Add an instance to a policy that reaches its account and Region; others are refused with the reason."""
    cli: CommandContext = context.obj
    files = _files(cli)
    files.section_of(name)
    configuration = files.configuration
    placed = _placed(instance, account, instance_region, configuration, cli)
    policy = configuration.policy(name)
    if policy is None:
        raise NotFoundError(f"There is no policy {name!r}.")
    if reason := why_not(configuration, policy, placed):
        offered = ", ".join(eligible(configuration, placed)) or "none"
        raise ConfigurationError(
            f"The instance is not added to {name}: {reason}.",
            resource=instance,
            remedy=f"It can be added to: {offered}.",
        )
    written = add_instance(files, name, instance)
    cli.progress.say(_DEPLOY)
    cli.emit({"name": name, "instance_id": instance, "file": str(written)})


def _placed(
    instance_id: str, account: str, region: str, configuration: Configuration, cli: CommandContext
) -> Placed:
    """Where the instance is: said, or known from its restore points. Raises ConfigurationError."""
    if not (account and region):
        known = [
            point for point in cli.services.catalog.points(instance_id) if point.kind is not Kind.REPLICA
        ]
        if not known:
            raise ConfigurationError(
                "Where the instance is cannot be known: it has no restore point.",
                resource=instance_id,
                remedy="Give --account and --instance-region.",
            )
        account, region = account or known[-1].account, region or known[-1].region
    return Placed(instance_id, account, region, _known_account(account, configuration, cli))


def _known_account(account: str, configuration: Configuration, cli: CommandContext) -> Account | None:
    """The account with its place in its Organization, as the last sessions found it."""
    from holdfast.operations.steps import SCOPE

    if not configuration.organizations:
        return None
    catalog, now = cli.services.catalog, cli.services.clock.now()
    recent = list(catalog.sessions(now - RECENT, now + timedelta(minutes=1)))
    seen: set[str] = set()
    for session in reversed(recent):
        if session.policy in seen:
            continue
        scope = catalog.read_part(session.session_id, SCOPE)
        if scope is None:
            continue
        seen.add(session.policy)
        for told in scope["accounts"]:
            if told["account"] == account and told["organization"]:
                return Account.model_validate(told)
    return None


def delete(
    context: typer.Context,
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a policy out of the configuration; its restore points stay, and what becomes of them is told."""
    cli: CommandContext = context.obj
    files = _files(cli)
    files.section_of(name)
    left = _left(name, files.configuration, cli)
    cli.progress.say(left["snapshots"]["then"] + " " + left["backups"]["then"])
    for session in left["running"]:
        cli.progress.say(f"{session} runs: stop it, or deploy when it has ended, or it fails.")
    cli.confirm(f"Delete the policy {name}, which made {left['points']} restore points?", yes=yes)
    written = remove_policy(files, name)
    cli.progress.say(_DEPLOY)
    cli.emit({"name": name, "file": str(written), **left})


def _left(name: str, configuration: Configuration, cli: CommandContext) -> dict[str, Any]:
    """The restore points that a policy made, and what becomes of them without it."""
    now = cli.services.clock.now()
    found = cli.services.catalog.points_between(BEGINNING, now + timedelta(minutes=1))
    points = [point for point in found if point.policy == name]
    native = [point for point in points if point.kind in (Kind.SNAPSHOT, Kind.REPLICA)]
    backups = [point for point in points if point.kind not in (Kind.SNAPSHOT, Kind.REPLICA)]
    rule = configuration.obsolete_snapshots
    kept = f"{rule.days} days" if rule.days else f"{rule.months} months"
    then = {
        "never": "Snapshots and replicas of instances that no policy processes any more stay until they are "
        "removed by hand (`obsolete_snapshots` is `never`).",
        "after": f"Snapshots and replicas of instances that no policy processes any more go after {kept}.",
    }
    recent = cli.services.catalog.sessions(now - RECENT, now + timedelta(minutes=1))
    return {
        "points": len(points),
        "running": [one.session_id for one in recent if one.policy == name and one.state is State.RUNNING],
        "snapshots": {
            "points": len(native),
            "size_bytes": sum(point.size_bytes for point in native),
            "then": then[rule.mode],
        },
        "backups": {
            "points": len(backups),
            "stored_bytes": sum(point.stored_bytes for point in backups),
            "then": "Backups of such instances stay listed until they are removed by hand.",
        },
    }
