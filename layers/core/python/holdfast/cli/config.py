"""``holdfast config``: check the configuration, and describe its format to editors.

``validate`` prints one remark a line as ``file:line:column: error: ...``: editors and pipelines parse it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


def _directory(context: typer.Context, given: Path | None) -> Path:
    """The argument, or what --config said, or ``config``."""
    return given or Path(getattr(context.obj, "configuration_directory", None) or "config")


@app.command()
def validate(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(help="Directory with *.yaml; default: --config.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
) -> None:
    """Check the configuration: what is wrong, where, and what was probably meant."""
    from holdfast.configuration import read

    configuration, remarks = read(_directory(context, directory))
    for remark in remarks:
        typer.echo(remark)
    if configuration is None or (strict and remarks):
        raise typer.Exit(1)
    policies = len(configuration.policies) + len(configuration.sla_policies)
    regions = ", ".join(configuration.regions()) or "no Region"
    typer.echo(f"valid: {policies} {'policy' if policies == 1 else 'policies'} in {regions}", err=True)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write to a file.")] = None,
) -> None:
    """Write the JSON Schema of a configuration file."""
    from holdfast.model.json_schema import configuration_schema

    text = json.dumps(configuration_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
