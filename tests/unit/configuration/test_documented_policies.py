"""The examples that the documents give are valid configurations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.configuration import read

ROOT = Path(__file__).parents[3]
AROUND = """\
backup_account: "111122223333"
hub_region: eu-central-1
roles:
  - {name: production, arn: "arn:aws:iam::222222222222:role/HoldfastBackup"}
  - {name: vault, arn: "arn:aws:iam::333333333333:role/HoldfastVault"}
repositories:
  - {name: main, bucket: main-bucket, region: eu-central-1}
  - {name: main-us, bucket: main-bucket-us, region: us-east-1}
"""


@pytest.mark.parametrize(
    "document, fence, name",
    [("docs/policies.md", "yaml sla", "gold"), ("docs/policies.md", "yaml replicas", "vaulted")],
)
def test_an_example_of_the_documents_is_valid_without_a_warning(
    document: str, fence: str, name: str, tmp_path: Path
):
    (example,) = re.findall(
        rf"^```{fence}\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "around.yaml").write_text(AROUND)
    (tmp_path / "example.yaml").write_text(example)
    configuration, remarks = read(tmp_path)
    assert remarks == ()
    assert configuration is not None
    assert [policy.name for policy in (*configuration.sla_policies, *configuration.policies)] == [name]
