"""Entry of the CDK command line: configuration -> stacks -> templates. No network call.

`-c config=DIR` takes another configuration, `-c bundling=false` leaves the dependencies layer empty.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "layers" / "core" / "python"))

from holdfast import configuration
from holdfast.errors import ConfigurationError
from infra.synth import build, command_line_app

app = command_line_app()
try:
    build(app, configuration.load(app.node.try_get_context("config") or "config"))
except ConfigurationError as error:
    sys.exit(str(error))
app.synth()
