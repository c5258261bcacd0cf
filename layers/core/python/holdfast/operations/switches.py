"""The configuration as operators switched it: what decides over ownership reads it here.

A policy that is switched off owns no instance: the next one takes over. `Services.configuration` stays what
was deployed, because functions keep it from call to call, and a switch counts from the next session on.
"""

from __future__ import annotations

from holdfast.model.configuration import Configuration
from holdfast.operations.services import Services
from holdfast.planning.ownership import without


def switched(services: Services) -> Configuration:
    """The deployed configuration in which policies that an operator switched off are disabled."""
    off = {name for name, said in services.catalog.switches().items() if said.off}
    return without(services.configuration, off) if off else services.configuration
