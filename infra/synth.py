"""Synthesis: for the CDK command line, and without it for the simulator, the tests and the security checks.

Feature flags come from cdk.json either way, so that both make the same templates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import aws_cdk as cdk

from holdfast.model.configuration import Configuration
from infra.application import build

__all__ = ["application", "build", "command_line_app", "synthesize"]

ROOT: Final = Path(__file__).parent.parent
NO_BUNDLING: Final[dict[str, Any]] = {"aws:cdk:bundling-stacks": []}


def command_line_app() -> cdk.App:
    """The app as the command line wants it: its environment tells the output and overrides the context."""
    app = cdk.App(context=feature_flags(), analytics_reporting=False)
    if app.node.try_get_context("bundling") in (False, "false"):
        for key, value in NO_BUNDLING.items():
            app.node.set_context(key, value)
    return app


def feature_flags() -> dict[str, Any]:
    """The context of cdk.json."""
    described: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))
    return dict(described.get("context", {}))


def application(outdir: Path, *, bundling: bool) -> cdk.App:
    """An app that writes its assembly to ``outdir``; without bundling, the dependencies layer stays empty."""
    context = {**feature_flags(), **({} if bundling else NO_BUNDLING)}
    return cdk.App(outdir=str(outdir), context=context, analytics_reporting=False)


def synthesize(configuration: Configuration, outdir: Path, *, bundling: bool) -> Path:
    """Write the cloud assembly of an installation to ``outdir`` and return that directory."""
    app = application(outdir, bundling=bundling)
    build(app, configuration)
    return Path(app.synth().directory)
