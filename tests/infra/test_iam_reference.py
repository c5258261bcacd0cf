"""The page of permissions says what is deployed."""

from __future__ import annotations

from infra.function_table import ROWS
from infra.operator_permissions import POLICIES
from tools.generate_iam_reference import TARGET, reference


def test_the_page_of_permissions_is_up_to_date():
    assert TARGET.read_text(encoding="utf-8") == reference(), "run tools/generate_iam_reference.py"


def test_the_page_shows_every_function_and_every_policy_for_people():
    page = reference()
    assert [row.verb for row in ROWS if f"### {row.verb}\n" not in page] == []
    assert [name for name in POLICIES if f"### holdfast-{name}\n" not in page] == []
