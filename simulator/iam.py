"""STS and IAM: a role is assumed only when it exists and trusts the caller, for no longer than allowed.

moto hands out credentials for any role to anybody. A wrong external id or trust policy is the commonest
fault of a real roll-out over accounts, so it must fail here in the same way.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from moto.core.responses import ActionResult
from moto.iam.models import AWSManagedPolicy, Policy, Role, iam_backends
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse

from simulator import policy
from simulator.calls import Answer, error_answer
from simulator.identities import OPERATOR, Identity
from simulator.patches import Patches

if TYPE_CHECKING:
    from simulator.simulator import Simulator

_CHAINED_SECONDS = 3_600  # quota of a session obtained with the credentials of another role

# What the AWS-managed policies that our templates attach allow. Source: AWS managed policy reference.
_AWS_MANAGED: dict[str, str] = {
    "service-role/AWSLambdaBasicExecutionRole": "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents",
    "AWSXRayDaemonWriteAccess": (
        "xray:PutTraceSegments xray:PutTelemetryRecords xray:GetSamplingRules xray:GetSamplingTargets"
        " xray:GetSamplingStatisticSummaries"
    ),
    "AmazonSSMManagedInstanceCore": (
        "ssm:DescribeAssociation ssm:GetDocument ssm:DescribeDocument ssm:UpdateInstanceInformation"
        " ssmmessages:* ec2messages:*"
    ),
    "AWSCloudFormationReadOnlyAccess": "cloudformation:Describe* cloudformation:Get* cloudformation:List*",
    "AdministratorAccess": "*",
    "ReadOnlyAccess": "*:Get* *:List* *:Describe*",
}


def ensure_aws_policy(account: str, arn: str) -> None:
    """Make an AWS-managed policy known to moto in an account. Raises ValueError for unknown ones."""
    known = iam_backends[account]["aws"].managed_policies
    prefix = "arn:aws:iam::aws:policy/"
    if not arn.startswith(prefix) or arn in known:
        return
    document = aws_policy(arn)
    if document is None:
        raise ValueError(f"the simulator does not know what {arn} allows; add it to simulator.iam")
    path, _, name = arn.removeprefix(prefix).rpartition("/")
    known[arn] = AWSManagedPolicy(
        name,
        account_id=account,
        region="us-east-1",
        default_version_id="v1",
        path=f"/{path}/" if path else "/",
        document=json.dumps(document),
    )


def aws_policy(arn: str) -> policy.Document | None:
    """The document of an AWS-managed policy that is known here."""
    actions = _AWS_MANAGED.get(arn.removeprefix("arn:aws:iam::aws:policy/"))
    if actions is None:
        return None
    return {"Statement": [{"Effect": "Allow", "Action": actions.split(), "Resource": "*"}]}


def find_role(arn: str) -> Role | None:
    """The role with an ARN, in whichever account; None when it does not exist."""
    account = arn.split(":")[4]
    for role in iam_backends[account]["aws"].roles.values():
        if role.arn == arn:
            return role
    return None


@functools.lru_cache(maxsize=1024)
def read(text: str) -> policy.Document:
    """A policy document from its text; shared, never changed."""
    document: policy.Document = json.loads(text)
    return document


def role_documents(role: Role) -> list[tuple[str, policy.Document]]:
    """Every policy document attached to a role, by name."""
    documents: list[tuple[str, policy.Document]] = []
    for name, text in role.policies.items():
        documents.append((f"{role.name}/{name}", read(text) if isinstance(text, str) else text))
    for arn, managed in role.managed_policies.items():
        documents.append((arn.rsplit("/", 1)[-1], aws_policy(arn) or read(default_document(managed))))
    return documents


def default_document(managed: Policy) -> str:
    """The text of a managed policy's default version."""
    return next(str(version.document) for version in managed.versions if version.is_default)


def refusal(
    role: Role | None,
    role_arn: str,
    principal: str,
    external_id: str,
    context: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Why ``principal`` (a role's or user's ARN, or a service) may not assume a role; empty when it may.

    The service says nothing but "not authorized"; the reason is for the person who runs the simulator.
    """
    if role is None:
        return f"the role {role_arn} does not exist"
    trust = json.loads(role.assume_role_policy_document)
    known = {"aws:principalarn": [principal], **(context or {})}
    if principal.startswith("arn:"):
        known["aws:principalaccount"] = [principal.split(":")[4]]
    if external_id:
        known["sts:externalid"] = [external_id]
    request = policy.Request("sts:AssumeRole", role.arn, known, principal)
    if policy.evaluate([("trust", _without_resources(trust))], request).effect == "Allow":
        return ""
    return f"the trust policy of {role_arn} does not admit {principal}" + (
        f" with the external id {external_id!r}" if external_id else " without an external id"
    )


def _without_resources(trust: policy.Document) -> policy.Document:
    return {
        "Statement": [{k: v for k, v in one.items() if k != "Resource"} for one in policy.statements(trust)]
    }


def install(simulator: Simulator, patches: Patches) -> None:
    """Check trust on every sts:AssumeRole."""

    def assume_role(response: TokenResponse) -> ActionResult | Answer:
        role_arn = response._get_param("RoleArn")
        seconds = response._get_int_param("DurationSeconds", 3_600)
        external_id = response._get_param("ExternalId") or ""
        caller = simulator.identities.find(response.access_key)
        principal = _principal(caller, response.current_account)
        role = find_role(role_arn)
        organization = simulator.control.organizations
        reason = refusal(
            role, role_arn, principal, external_id, organization.context(principal.split(":")[4])
        )
        reason = reason or organization.unusable(role_arn.split(":")[4])
        if reason or role is None:
            simulator.control.refused.append(reason)
            said = f"User: {principal} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            return _refused("AccessDenied", said, 403)
        if problem := _impossible_duration(role, caller, seconds):
            return _refused("ValidationError", problem, 400)
        assumed = sts_backends[response.current_account][response.partition].assume_role(
            region_name=response.region,
            role_session_name=response._get_param("RoleSessionName"),
            role_arn=role_arn,
            policy=response._get_param("Policy"),
            duration=seconds,
            external_id=external_id,
        )
        simulator.identities.descends(assumed.access_key_id, response.access_key)
        return ActionResult(
            {
                "Credentials": assumed,
                "AssumedRoleUser": {"AssumedRoleId": assumed.user_id, "Arn": assumed.arn},
                "PackedPolicySize": 6,
            }
        )

    patches.set(TokenResponse, "assume_role", assume_role)


def _principal(caller: Identity | None, account: str) -> str:
    if caller is None or not caller.role_arn:
        return f"arn:aws:iam::{account}:user/person"
    return caller.role_arn


def _refused(code: str, message: str, status: int) -> Answer:
    """An error as moto's responses return it: the status among the headers."""
    _, headers, body = error_answer("sts", code, message, status)
    return status, {**headers, "status": str(status)}, body


def _impossible_duration(role: Role, caller: Identity | None, seconds: int) -> str:
    """Why a session cannot last so long; empty when it can."""
    if not 900 <= seconds <= 43_200:
        return "DurationSeconds must be between 900 and 43200"
    if seconds > int(role.max_session_duration):
        return "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    chained = caller is not None and caller.role_arn and not caller.role_arn.endswith(f":role/{OPERATOR}")
    if chained and seconds > _CHAINED_SECONDS:
        return "The requested DurationSeconds exceeds the 1 hour session limit for role chaining"
    return ""
