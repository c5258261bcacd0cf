"""What every test stands on: no way to a real account, a quiet CDK, the same examples on every machine.

The environment is set here, before any test module is imported: moto and jsii read it when they start.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "CDK_VALIDATION": os.environ.get("CDK_VALIDATION", "false"),  # 2-5 s a synthesis; one test turns it on
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # 1,300 snapshots in every Region otherwise
}

settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "campaign", parent=settings.get_profile("ci"), derandomize=False, max_examples=5_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options are declared here: the conftest of a folder below is read too late for them."""
    parser.addoption(
        "--vectors",
        action="append",
        default=[],
        metavar="FILE",
        help="further vectors in the form of tests/vectors/policy_vectors.yaml (write --vectors=FILE)",
    )
