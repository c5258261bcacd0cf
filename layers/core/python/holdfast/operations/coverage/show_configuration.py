"""The configuration as it is deployed, for people who compare it with the one they are about to deploy.

It holds names and ARNs only: passwords and keys are never part of a configuration.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast import __version__
from holdfast.operations.services import Services


class ShowConfiguration(BaseModel):
    """Asks for nothing in particular."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def show_configuration(request: ShowConfiguration, services: Services) -> dict[str, Any]:
    """The bundle that travels with the functions, and the version that reads it."""
    return {
        "version": __version__,
        "configuration": services.configuration.model_dump(mode="json", exclude_defaults=True),
    }
