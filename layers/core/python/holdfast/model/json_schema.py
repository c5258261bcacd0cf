"""The JSON Schema by which editors complete and check the operator's YAML.

A configuration may be spread over files, so a single file needs no key of its own: nothing is required at
the top.
"""

from __future__ import annotations

from typing import Any

from holdfast.model.configuration import Configuration


def configuration_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one configuration file."""
    schema = Configuration.model_json_schema(mode="validation")
    schema.pop("required", None)
    keep = schema["$defs"]["Keep"]
    schema["$defs"]["Keep"] = {
        "description": keep["description"],
        "anyOf": [
            {
                "type": "string",
                "pattern": r"^\d{1,5} ?(d|days?|m|months?|y|years?)$",
                "examples": ["35 days"],
            },
            {key: value for key, value in keep.items() if key != "description"},
        ],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast configuration",
        **{key: value for key, value in schema.items() if key != "title"},
    }
