"""Change sets, through which the CDK command line deploys.

A change set that fails leaves the stack rolled back with the reason in its events, as in AWS: the command
line reads it there. moto reports such a stack as complete.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import moto.cloudformation.models as models
import moto.cloudformation.responses as responses
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.core.exceptions import ServiceException
from moto.s3.models import s3_backends

from simulator.patches import Patches


def install(patches: Patches, take_back: Callable[[ResourceMap], None]) -> None:
    """Patch moto's change sets while a simulator is open. ``take_back`` undoes a creation that failed."""
    patches.set(ChangeSet, "_parse_template", _parse_template)
    patches.set(ChangeSet, "apply", _apply)
    patches.set(CloudFormationBackend, "execute_change_set", _executor(take_back))
    patches.set(CloudFormationBackend, "delete_change_set", _delete_change_set)
    patches.set(CloudFormationBackend, "describe_change_set", _describe)
    update = patches.set(
        Stack, "update", lambda stack, *given, **named: _update(update, stack, *given, **named)
    )
    for module in (models, responses):
        patches.set(module, "get_stack_from_s3_url", template_at)


def template_at(template_url: str, account_id: str, partition: str = "aws") -> str:
    """The text of a template in a simulated bucket, by a URL in path style or with the bucket as host."""
    split = urlsplit(template_url)
    path, host = unquote(split.path).lstrip("/"), split.hostname or ""
    if _is_endpoint(host):
        bucket, _, key = path.partition("/")
    else:
        bucket, key = host.split(".s3")[0], path
    owners = [account_id, *(account for account in s3_backends if account != account_id)]
    for account in owners:
        if bucket in s3_backends[account][partition].buckets:
            found = s3_backends[account][partition].get_object(bucket, key)
            if found is not None:
                return str(found.value.decode())
    raise ValidationError(message=f"S3 error: there is no template at {template_url}")


def _is_endpoint(host: str) -> bool:
    """Whether a host is S3's own, so that the path begins with the bucket."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.startswith(("s3.", "s3-"))
    return True


def _parse_template(change_set: ChangeSet) -> None:
    change_set.template_dict = Stack.parse_template(change_set.template)


def _apply(change_set: ChangeSet) -> None:
    stack = change_set.stack
    stack.resource_map.update(change_set.template_dict, change_set.parameters)
    stack.template = change_set.template
    stack.template_dict = change_set.template_dict
    stack.description = change_set.template_dict.get("Description")
    stack.parameters = change_set.parameters
    stack.output_map = stack._create_output_map()


class ChangeSetNotFound(ServiceException):
    """The change set does not exist, or no longer."""

    code = "ChangeSetNotFound"
    status_code = 404


def _describe(backend: CloudFormationBackend, change_set_name: str) -> ChangeSet:
    """The newest change set with a name: the command line gives every stack's the same one."""
    for key, change_set in reversed(list(backend.change_sets.items())):
        if change_set_name in (key, change_set.change_set_name):
            return change_set
    raise ChangeSetNotFound(f"ChangeSet [{change_set_name}] does not exist")


def _executor(take_back: Callable[[ResourceMap], None]) -> Callable[..., None]:
    def execute(backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = backend.describe_change_set(change_set_name)
        stack, kind = change_set.stack, change_set.change_set_type
        stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
        try:
            change_set.apply()
        except Exception as error:  # noqa: BLE001 whatever went wrong is the stack's reason, as in the service
            message = getattr(error, "message", "") or str(error)
            stack._add_stack_event(
                f"{kind}_FAILED", resource_status_reason=f"{type(error).__name__}: {message}"
            )
            stack.status = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
            if kind == "CREATE":
                take_back(stack.resource_map)
        else:
            stack.status = f"{kind}_COMPLETE"
            _renew_exports(stack)
        stack._add_stack_event(stack.status)
        change_set.execution_status = "EXECUTE_COMPLETE"

    return execute


def _update(update: Any, stack: Stack, *given: Any, **named: Any) -> None:
    update(stack, *given, **named)
    _renew_exports(stack)


def _renew_exports(stack: Stack) -> None:
    """Let other stacks import what this one exports now."""
    exports = models.cloudformation_backends[stack.account_id][stack.region_name].exports
    for name in [name for name, export in exports.items() if export.exporting_stack_id == stack.stack_id]:
        del exports[name]
    exports.update({export.name: export for export in stack.exports})


def _delete_change_set(backend: CloudFormationBackend, change_set_name: str) -> None:
    """Deleting a change set that is gone is no error."""
    for key, change_set in list(backend.change_sets.items()):
        if change_set_name in (key, change_set.change_set_name):
            del backend.change_sets[key]
