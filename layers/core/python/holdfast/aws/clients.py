"""How boto3 clients of the control plane behave: bounded waits, a few retries with backoff, our name."""

from __future__ import annotations

from typing import Any, Final

from botocore.config import Config

from holdfast import __version__

ONCE: Final[Any] = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 1},
    user_agent_extra=f"holdfast/{__version__}",
)
"""For calls without an idempotency token: a lost answer must not make them happen twice."""
CONFIG: Final[Any] = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 5},
    user_agent_extra=f"holdfast/{__version__}",
)
