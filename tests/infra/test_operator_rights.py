"""What the managed policies for people allow in the life of policies and data, as IAM evaluates them."""

from __future__ import annotations

import pytest

from infra.names import Site
from infra.operator_permissions import POLICIES
from simulator.policy import Request, evaluate
from tests.infra.conftest import a_configuration

HUB = Site.hub(a_configuration())


def allows(role: str, action: str, resource: str, **context: list[str]) -> bool:
    made = [statement.document() for statement in POLICIES[role](a_configuration())]
    request = Request(action, resource, {key.replace("__", ":"): value for key, value in context.items()})
    return evaluate([(role, {"Statement": made})], request).effect == "Allow"


@pytest.mark.parametrize(
    "role,key,allowed",
    [
        ("operator", ["POLICY#"], True),
        ("administrator", ["POLICY#"], True),
        ("operator", ["SESSION#20261122T070000Z-daily-1f0e4c2a"], False),
        ("operator", ["INSTANCE#i-0123456789abcdef0"], False),
        ("operator", ["POLICY#", "SESSION#s1"], False),
        ("operator", [], False),
        ("read-only", ["POLICY#"], False),
        ("restore-operator", ["POLICY#"], False),
    ],
)
def test_who_operates_may_switch_policies_and_write_nothing_else(role: str, key: list[str], allowed: bool):
    context = {"dynamodb__leadingkeys": key} if key else {}
    assert allows(role, "dynamodb:PutItem", HUB.table_arn, **context) is allowed


@pytest.mark.parametrize(
    "function,roles",
    [
        ("start_session", {"operator", "administrator"}),
        ("stop_session", {"operator", "administrator"}),
        ("remove_points", {"administrator"}),
        ("expire_backups", {"administrator"}),
        ("move_segment", set()),
    ],
)
def test_sessions_are_stopped_by_operators_and_data_is_removed_by_administrators(
    function: str, roles: set[str]
):
    arn = HUB.function_arn(function)
    assert {role for role in POLICIES if allows(role, "lambda:InvokeFunction", arn)} == roles


@pytest.mark.parametrize("role", ["operator", "restore-operator", "read-only"])
def test_nobody_else_deletes_from_the_catalog(role: str):
    for key in ("POLICY#", "SESSION#s1", "INSTANCE#i-0123456789abcdef0"):
        assert not allows(role, "dynamodb:DeleteItem", HUB.table_arn, dynamodb__leadingkeys=[key])
