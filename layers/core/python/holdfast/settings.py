"""Every environment variable of the deployed functions, once.

infra renders a function's environment from ``Settings`` and the functions parse it back: there are no
string twins to keep in step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from holdfast.errors import ConfigurationError

PREFIX = "HOLDFAST_"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function is told by its deployment. Empty means: this function has no use for it.

    ``configuration`` is the path of the validated configuration bundle (JSON) inside the configuration layer.
    ``work_bucket`` holds the lists that executions pass on (same Region as the state machine).
    """

    installation: str = ""
    hub_region: str = ""
    configuration: str = ""
    table_name: str = ""
    work_bucket: str = ""
    topic_arn: str = ""
    session_machine_arn: str = ""
    cell_machine_name: str = ""
    restore_machine_name: str = ""
    metrics_namespace: str = "Holdfast"
    connections: int = 24
    pack_bytes: int = 32 << 20

    def render(self) -> dict[str, str]:
        """The environment variables of a function: only what differs from the default."""
        default = Settings()
        return {
            PREFIX + f.name.upper(): str(getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) != getattr(default, f.name)
        }

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> Settings:
        """Read an environment. Raises ConfigurationError naming the variable."""
        values: dict[str, str | int] = {}
        for f in fields(cls):
            raw = environment.get(PREFIX + f.name.upper())
            if raw is None:
                continue
            if f.type in (int, "int"):
                try:
                    values[f.name] = int(raw)
                except ValueError as error:
                    raise ConfigurationError(
                        f"{PREFIX}{f.name.upper()} is {json.dumps(raw)}, not a whole number.",
                        remedy="Deploy the stack again.",
                    ) from error
            else:
                values[f.name] = raw
        return cls(**values)  # type: ignore[arg-type]
