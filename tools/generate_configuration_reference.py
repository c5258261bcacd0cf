"""Writes docs/configuration.md and config/schema.json from the models of the configuration.

The models are the only source: run this after changing a field or its description; a test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "layers/core/python"))

from holdfast.model.configuration import Configuration  # noqa: E402
from holdfast.model.json_schema import configuration_schema  # noqa: E402
from holdfast.model.settable import Weekday  # noqa: E402

HEAD = """# Configuration reference

Generated from the models by `tools/generate_configuration_reference.py`; do not edit.

The configuration is every `*.yaml` file in one directory (`config/`), read as one. Lists of the same name in
several files are joined; anything else may stand in one file only. `holdfast config validate` names file,
line and column of everything that is wrong. Put this line at the top of a file, and an editor with the YAML
language server completes and checks it:

```yaml
# yaml-language-server: $schema=schema.json
```

A duration is written as `35 days`, `6 months` or `7 years` (also `35d`, `6m`, `7y`), or as a mapping with
exactly one of `days`, `months`, `years`. Days, months and years are those of the calendar in the policy's
time zone.
"""


def anchor(model: type[BaseModel]) -> str:
    return f"[{model.__name__}](#{model.__name__.lower()})"


def spelled(annotation: Any) -> str:
    """A type as the operator writes it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return spelled(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(spelled(part) for part in arguments if part is not NoneType))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {spelled(arguments[0])}"
    if origin is dict:
        return f"mapping of {spelled(arguments[0])} to {spelled(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "duration" if annotation.__name__ == "Keep" else anchor(annotation)
    if annotation is Weekday:
        return "weekday (`mon` to `sun`)"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}[annotation]


def default(field: FieldInfo) -> str:
    """The default as the operator would write it."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, BaseModel):
        kept = (
            str(value)
            if type(value).__name__ == "Keep"
            else json.dumps(value.model_dump(mode="json", exclude_none=True))
        )
        return f"`{kept}`" if len(kept) < 40 else ""
    return f"`{value}`"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def rows(model: type[BaseModel]) -> list[str]:
    lines = [f"## {model.__name__}", "", (model.__doc__ or "").strip().replace("\n    ", "\n"), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        about = (field.description or "").replace("|", "\\|")
        lines.append(
            f"| `{name}` | {spelled(field.annotation)} | {default(field)} | {about} |".replace("  |", " |")
        )
    return [*lines, ""]


def reference() -> str:
    """The Markdown text: the whole first, then every part in the order in which it is met."""
    seen: list[type[BaseModel]] = [Configuration]
    for model in seen:
        for field in model.model_fields.values():
            seen += [found for found in models_in(field.annotation) if found not in seen]
    parts = [line for model in seen if model.__name__ != "Keep" for line in rows(model)]
    return "\n".join([HEAD, *parts]).rstrip() + "\n"


def generated() -> dict[Path, str]:
    """What this program writes, by path."""
    return {
        ROOT / "docs/configuration.md": reference(),
        ROOT / "config/schema.json": json.dumps(configuration_schema(), indent=2) + "\n",
    }


def main() -> None:
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
