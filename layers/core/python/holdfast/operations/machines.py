"""The state machines of the installation, by name.

Names follow from the installation's, as infra gives them (``infra.names.Site``).
"""

from __future__ import annotations

from holdfast.model.regions import partition
from holdfast.operations.services import Services


def machine_arn(machine: str, services: Services, region: str = "") -> str:
    """The ARN of a state machine of the backup account; in the hub Region unless told otherwise."""
    where = region or services.settings.hub_region
    name = f"{services.settings.installation}-{machine.replace('_', '-')}"
    account = services.configuration.backup_account
    return f"arn:{partition(where)}:states:{where}:{account}:stateMachine:{name}"
