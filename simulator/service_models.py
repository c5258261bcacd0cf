"""One loader of botocore's service models for the whole process.

Reading the models is most of what a session and a client cost, and they never change. It has to be in place
before moto is imported: moto asks botocore for all Regions three times while it is.
"""

from __future__ import annotations

import botocore.session
from botocore.loaders import create_loader

loader = create_loader()


def share() -> None:
    """Let every botocore session of this process use :data:`loader`."""
    setattr(botocore.session, "create_loader", lambda *_: loader)  # noqa: B010 botocore is not typed for this
