"""Policy documents say what IAM says they say."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.policy import Request, evaluate

SNAPSHOT = "arn:aws:ec2:eu-central-1::snapshot/snap-1"


def said(
    *statements: dict[str, Any], action: str = "ec2:DeleteSnapshot", resource: str = SNAPSHOT, **context: Any
) -> str:
    """The effect of statements on a request."""
    request = Request(action, resource, context, "arn:aws:iam::111111111111:role/worker")
    return evaluate([("policy", {"Statement": list(statements)})], request).effect


def allow(**more: Any) -> dict[str, Any]:
    """A statement that allows deleting snapshots."""
    return {"Effect": "Allow", "Action": "ec2:DeleteSnapshot", "Resource": "*", **more}


def deny(**more: Any) -> dict[str, Any]:
    """Its opposite."""
    return allow(**more) | {"Effect": "Deny"}


def test_nothing_said_is_not_allowed():
    assert said() == "None"


def test_a_deny_wins_whatever_the_order():
    assert said(allow(), deny()) == said(deny(), allow()) == "Deny"


@pytest.mark.parametrize(
    "pattern, effect",
    [
        ("ec2:*", "Allow"),
        ("EC2:deletesnapshot", "Allow"),
        ("ec2:Delete?napshot", "Allow"),
        ("ec2:Delete", "None"),
        ("ebs:*", "None"),
    ],
)
def test_actions_match_by_wildcard_and_without_case(pattern, effect):
    assert said(allow(Action=pattern)) == effect


@pytest.mark.parametrize(
    "pattern, effect",
    [
        ("arn:aws:ec2:*::snapshot/*", "Allow"),
        ("arn:aws:ec2:eu-central-1::snapshot/snap-1", "Allow"),
        ("arn:aws:ec2:*::SNAPSHOT/*", "None"),
        ("arn:aws:ec2:*::volume/*", "None"),
    ],
)
def test_resources_match_by_wildcard_and_with_case(pattern, effect):
    assert said(allow(Resource=pattern)) == effect


def test_not_action_and_not_resource_mean_all_others():
    assert said({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}) == "Allow"
    assert said({"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}) == "None"
    assert said({"Effect": "Allow", "Action": "*", "NotResource": SNAPSHOT}) == "None"


OUR_TAGS = {"ForAllValues:StringLike": {"aws:TagKeys": ["holdfast:*"]}}
OURS = {"aws:resourcetag/holdfast:installation": ["main"]}


@pytest.mark.parametrize(
    "condition, keys, effect",
    [
        ({"StringEquals": {"aws:ResourceTag/holdfast:installation": "main"}}, OURS, "Allow"),
        ({"StringEquals": {"aws:ResourceTag/holdfast:installation": "other"}}, OURS, "None"),
        ({"StringEquals": {"aws:ResourceTag/holdfast:installation": "main"}}, {}, "None"),
        ({"StringEqualsIfExists": {"aws:ResourceTag/holdfast:installation": "main"}}, {}, "Allow"),
        ({"StringNotEquals": {"ec2:Owner": "111111111111"}}, {"ec2:owner": ["222222222222"]}, "Allow"),
        ({"StringNotEquals": {"ec2:Owner": "111111111111"}}, {"ec2:owner": ["111111111111"]}, "None"),
        ({"StringLike": {"s3:prefix": ["sessions/*"]}}, {"s3:prefix": ["sessions/a/"]}, "Allow"),
        ({"StringLike": {"s3:prefix": ["sessions/*"]}}, {"s3:prefix": [""]}, "None"),
        ({"Null": {"kms:EncryptionContext:holdfast:repository": "false"}},
         {"kms:encryptioncontext:holdfast:repository": ["r"]}, "Allow"),
        ({"Null": {"kms:EncryptionContext:holdfast:repository": "false"}}, {}, "None"),
        ({"Null": {"ec2:Add/group": "true"}}, {}, "Allow"),
        ({"Null": {"ec2:Add/group": "true"}}, {"ec2:add/group": ["all"]}, "None"),
        (OUR_TAGS, {"aws:tagkeys": ["holdfast:a", "holdfast:b"]}, "Allow"),
        (OUR_TAGS, {"aws:tagkeys": ["holdfast:a", "Name"]}, "None"),
        (OUR_TAGS, {}, "Allow"),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": ["alias/a"]}},
         {"kms:resourcealiases": ["alias/b", "alias/a"]}, "Allow"),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": ["alias/a"]}}, {}, "None"),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:securetransport": ["true"]}, "None"),
        ({"Bool": {"kms:GrantIsForAWSResource": True}}, {"kms:grantisforawsresource": ["true"]}, "Allow"),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111111111111:role/holdfast-*"}},
         {"aws:principalarn": ["arn:aws:iam::111111111111:role/holdfast-hub"]}, "Allow"),
        ({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111111111111:role/*-expire"}},
         {"aws:principalarn": ["arn:aws:iam::111111111111:role/x-expire"]}, "None"),
        ({"NumericLessThan": {"s3:TlsVersion": "1.2"}}, {"s3:tlsversion": ["1.3"]}, "None"),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}},
         {"aws:currenttime": ["2026-06-01T00:00:00+00:00"]}, "Allow"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["10.1.2.3"]}, "Allow"),
    ],
)  # fmt: skip
def test_conditions_hold_as_iam_evaluates_them(condition, keys, effect):
    assert said(allow(Condition=condition), **keys) == effect


def test_every_condition_of_a_statement_must_hold():
    both = {"StringEquals": {"a": "1", "b": "2"}, "Null": {"c": "true"}}
    assert said(allow(Condition=both), a=["1"], b=["2"]) == "Allow"
    assert said(allow(Condition=both), a=["1"], b=["3"]) == "None"
    assert said(allow(Condition=both), a=["1"], b=["2"], c=["x"]) == "None"


def test_policy_variables_are_filled_in():
    statement = allow(Resource="arn:aws:ec2:*:${aws:PrincipalAccount}:volume/*")
    volume = "arn:aws:ec2:eu-central-1:111111111111:volume/vol-1"
    assert said(statement, resource=volume, **{"aws:principalaccount": ["111111111111"]}) == "Allow"
    assert said(statement, resource=volume, **{"aws:principalaccount": ["222222222222"]}) == "None"
    assert said(statement, resource=volume) == "None"


@pytest.mark.parametrize(
    "principal, effect",
    [
        ("*", "Allow"),
        ({"AWS": "*"}, "Allow"),
        ({"AWS": "111111111111"}, "Allow"),
        ({"AWS": ["arn:aws:iam::111111111111:root"]}, "Allow"),
        ({"AWS": "arn:aws:iam::111111111111:role/worker"}, "Allow"),
        ({"AWS": "arn:aws:iam::111111111111:role/other"}, "None"),
        ({"AWS": "arn:aws:iam::222222222222:root"}, "None"),
        ({"Service": "lambda.amazonaws.com"}, "None"),
    ],
)
def test_principals_match(principal, effect):
    assert said(allow(Principal=principal)) == effect


@pytest.mark.parametrize(
    "statement",
    [
        allow(Condition={"StringSounds": {"a": "b"}}),
        allow(Condition={"ForSome:StringEquals": {"a": "b"}}),
        allow(NotPrincipal={"AWS": "111111111111"}),
    ],
)
def test_what_is_not_understood_is_an_error(statement):
    with pytest.raises(ValueError, match="not understood"):
        said(statement, a=["b"])
