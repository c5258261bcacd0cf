"""The validated configuration as JSON, as it travels with the functions.

Handlers load it at every cold start: nothing here may import what reads YAML.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration


def dump_bundle(configuration: Configuration) -> str:
    """The configuration as JSON text: stable, so that the same configuration gives the same asset."""
    return configuration.model_dump_json(indent=1, exclude_defaults=True) + "\n"


def load_bundle(path: Path | str) -> Configuration:
    """Read what :func:`dump_bundle` wrote. Raises ConfigurationError naming the file and the field."""
    try:
        return Configuration.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"The configuration bundle cannot be read: {error.strerror}.",
            resource=str(path),
            remedy="Deploy the stack again.",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"The configuration bundle does not fit this version: {field or 'JSON'}: {first['msg']}.",
            resource=str(path),
            remedy="Deploy the stack again.",
        ) from error
