"""Checks every call of every role against the policies that the templates gave it, and keeps what was asked.

A call that the deployed role would not be allowed fails here as in AWS, and is listed; so is a right that
nobody used. Roles without a policy of ours in moto (the operator, people) are not judged, only what binds
their account is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moto.awslambda.models import LambdaFunction
from moto.iam.models import Role
from moto.s3.models import s3_backends
from moto.sns.models import sns_backends
from moto.stepfunctions.models import StateMachine

from simulator import actions, iam, kms, policy
from simulator.calls import Answer, Call, error_answer
from simulator.identities import OPERATOR, Identity
from simulator.needs import Need

if TYPE_CHECKING:
    from simulator.simulator import Simulator

# How each service says no.
_REFUSALS = {
    "ec2": ("UnauthorizedOperation", 403),
    "s3": ("AccessDenied", 403),
    "sts": ("AccessDenied", 403),
    "iam": ("AccessDenied", 403),
    "sns": ("AuthorizationError", 403),
    "sqs": ("AccessDenied", 403),
    "cloudwatch": ("AccessDenied", 403),
    "cloudformation": ("AccessDenied", 403),
    "ebs": ("AccessDeniedException", 403),
    "lambda": ("AccessDeniedException", 403),
    "ses": ("AccessDeniedException", 403),
    "scheduler": ("AccessDeniedException", 403),
}
_DISABLED = {
    "ec2": ("AuthFailure", 401),
    "s3": ("InvalidAccessKeyId", 403),
    "sts": ("InvalidClientTokenId", 403),
}
_GLOBAL = {"iam", "organizations"}
# What a role must allow for traces and for the delivery of a state machine's log. Source: "X-Ray and Step
# Functions" and "Logging using CloudWatch Logs" of the Step Functions developer guide.
_TRACING = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
_SAMPLING = ("xray:GetSamplingRules", "xray:GetSamplingTargets")
_LOG_DELIVERY = (
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
)
# Calls made thousands of times on one resource: a verdict holds until something changes that could decide it.
_HOT = {"ebs:GetSnapshotBlock", "ebs:PutSnapshotBlock"}
_DECIDING = {"ec2", "iam", "organizations", "cloudformation"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A call that was not allowed."""

    principal: str
    action: str
    resource: str
    context: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Unused:
    """A right that no call needed."""

    role: str
    statement: str
    action: str


class Recorder:
    """What was asked of whom; ``simulator.recorder``.

    - ``enforce``: whether what is not allowed fails; it is listed in any case.
    - ``asked``: how often each (role ARN, action, resource) was judged.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._lock = threading.Lock()
        self._violations: dict[Violation, int] = {}
        self._used: set[tuple[str, str, str]] = set()
        self._allowed: set[tuple[str, str, str]] = set()
        self.enforce = True
        self.asked: Counter[tuple[str, str, str]] = Counter()

    # What people ask

    def violations(self) -> list[Violation]:
        """Calls that the policies do not allow, each once, in the order met."""
        return list(self._violations)

    def unused(self, role: str = "") -> list[Unused]:
        """Rights of roles that made a call (and whose name contains ``role``) that no call needed."""
        found = []
        for arn in sorted({principal for principal, _, _ in self.asked}):
            known = iam.find_role(arn)
            if known is None or role not in known.name:
                continue
            for name, document in iam.role_documents(known):
                for index, statement in enumerate(policy.statements(document)):
                    if statement["Effect"] == "Allow":
                        found += self._unused_actions(known, f"{name}[{index}]", statement)
        return found

    def _unused_actions(self, role: Role, label: str, statement: policy.Statement) -> list[Unused]:
        used = [action for arn, by, action in self._used if arn == role.arn and by == label]
        listed = statement["Action"]
        return [
            Unused(role.name, str(statement.get("Sid", label)), action)
            for action in ([listed] if isinstance(listed, str) else listed)
            if not any(policy.like(action, one, fold=True) for one in used)
        ]

    def forget(self) -> None:
        """Start recording anew."""
        with self._lock:
            self._violations.clear()
            self._used.clear()
            self.asked.clear()

    # What the simulator asks

    def guard(self, call: Call) -> Answer | None:
        """The refusal of a call that is not allowed, None for one that is."""
        key = (call.access_key, call.name, call.url.split("/blocks/")[0]) if call.name in _HOT else None
        if key in self._allowed:
            return None
        refusal = self._judge(call)
        if key is not None and refusal is None and self.enforce:
            self._allowed.add(key)
        elif call.service in _DECIDING and not call.operation.startswith(("Describe", "Get", "List")):
            self.forget_verdicts()
        return refusal

    def forget_verdicts(self) -> None:
        """Judge every call anew: tags, policies or the Organization may have changed."""
        self._allowed.clear()

    def _judge(self, call: Call) -> Answer | None:
        identity = self._simulator.identities.find(call.access_key)
        if identity is None:
            return None
        organizations = self._simulator.organizations
        if call.service not in _GLOBAL and organizations.is_disabled(identity.account, call.region):
            code, status = _DISABLED.get(call.service, ("UnrecognizedClientException", 403))
            message = f"Region {call.region} is not enabled in account {identity.account}"
            return error_answer(call.service, code, message, status)
        if identity.account in organizations.suspended():
            return self._refuse(call.service, f"account {identity.account} is suspended")
        judged = _judged(identity)
        bound = organizations.policies(identity.account)
        if not judged and not bound:
            return None
        try:
            needs = actions.needs(call, self._simulator.executions.tasks.machine_of_token)
        except ValueError as error:
            if not judged:
                return None
            self._note(Violation(identity.role_arn, call.name, "?", (), str(error)))
            return self._refuse(call.service, str(error)) if self.enforce else None
        for need in needs:
            reason = self._reason(identity, need, bound, judged=judged)
            if reason and self.enforce:
                return self._refuse(call.service, reason)
        return None

    def authorize(
        self, access_key: str, action: str, resource: str, context: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        """Why a key may not do something that a service does on its behalf; empty when it may."""
        identity = self._simulator.identities.find(access_key)
        if identity is None:
            return ""
        bound = self._simulator.organizations.policies(identity.account)
        need = Need(action, resource, context or {})
        reason = self._reason(identity, need, bound, judged=_judged(identity))
        return reason if self.enforce else ""

    def runs(self, function: LambdaFunction) -> None:
        """Note what the platform needs of a function's role: to write its log and its traces."""
        place = f"{function.region}:{function.account_id}"
        stream = f"arn:aws:logs:{place}:log-group:/aws/lambda/{function.function_name}:log-stream:x"
        wanted = [Need("logs:CreateLogStream", stream), Need("logs:PutLogEvents", stream)]
        if function.tracing_config.get("Mode") == "Active":
            wanted += [Need(action, "*") for action in _TRACING]
        self._note_platform(function.role, wanted)

    def executes(self, machine: StateMachine) -> None:
        """Note what the platform needs of a state machine's role: to deliver its log and its traces."""
        wanted = []
        if machine.loggingConfiguration.get("level", "OFF") != "OFF":
            wanted += [Need(action, "*") for action in _LOG_DELIVERY]
        if machine.tracingConfiguration.get("enabled"):
            wanted += [Need(action, "*") for action in (*_TRACING, *_SAMPLING)]
        self._note_platform(machine.roleArn, wanted)

    def _note_platform(self, role_arn: str, wanted: Iterable[Need]) -> None:
        identity = Identity("", "", role_arn.split(":")[4], role_arn)
        for need in wanted:
            self._reason(identity, need, [], judged=True)

    def _reason(
        self, identity: Identity, need: Need, bound: Iterable[tuple[str, policy.Document]], *, judged: bool
    ) -> str:
        """Why a need is not met, noted as a violation; empty when it is."""
        owner, attached = resource_policy(need.resource)
        held = {f"{prefix}:resourceaccount": [owner or identity.account] for prefix in ("aws", "s3")}
        context = {**need.context, **held, **self._caller_context(identity)}
        request = policy.Request(need.action, need.resource, context, identity.role_arn)
        try:
            if policy.evaluate(bound, request).effect == "Deny":
                reason = f"{_said(request)} with an explicit deny in a service control policy"
            else:
                reason = self._verdict(identity, request, owner, attached, judged=judged)
        except ValueError as error:
            reason = f"a policy is not understood: {error}"
        if reason and judged:
            shown = tuple(sorted(f"{key}={','.join(values)}" for key, values in need.context.items()))
            self._note(Violation(identity.role_arn, need.action, need.resource, shown, reason))
        return reason

    def _verdict(
        self,
        identity: Identity,
        request: policy.Request,
        owner: str,
        attached: list[tuple[str, policy.Document]],
        *,
        judged: bool,
    ) -> str:
        said = _said(request)
        by_resource = policy.evaluate(attached, request)
        if by_resource.effect == "Deny":
            return f"{said} with an explicit deny in a resource-based policy ({by_resource.statement})"
        if not judged:
            return ""
        with self._lock:
            self.asked[identity.role_arn, request.action, request.resource] += 1
        role = iam.find_role(identity.role_arn)
        if role is None:
            return f"{said} because the role does not exist"
        decision = policy.evaluate(iam.role_documents(role), request)
        if decision.effect == "Deny":
            return f"{said} with an explicit deny in {decision.statement}"
        by_identity = decision.effect == "Allow"
        if by_identity:
            self._used.add((identity.role_arn, decision.statement, request.action))
        admitted = by_resource.effect == "Allow"
        named = admitted and _names_role(attached, identity.role_arn)
        service = request.action.split(":")[0]
        if service == "kms" and not admitted and attached:
            return f"{said} because the key policy does not admit it"
        if owner in ("", identity.account) or service == "sts":
            return "" if by_identity or named else _nobody_allows(said, "identity", request)
        if not admitted:
            return _nobody_allows(said, "resource", request)
        return "" if by_identity else _nobody_allows(said, "identity", request)

    def _caller_context(self, identity: Identity) -> dict[str, list[str]]:
        return {
            "aws:principalarn": [identity.role_arn],
            "aws:principalaccount": [identity.account],
            "aws:principalisawsservice": ["false"],
            "aws:sourceowner": [identity.account],
            "aws:securetransport": ["true"],
            "s3:tlsversion": ["1.3"],
            "aws:currenttime": [self._simulator.clock.now().isoformat()],
            **self._simulator.organizations.context(identity.account),
        }

    def _note(self, violation: Violation) -> None:
        with self._lock:
            self._violations[violation] = self._violations.get(violation, 0) + 1

    def _refuse(self, service: str, reason: str) -> Answer:
        code, status = _REFUSALS.get(service, ("AccessDeniedException", 400))
        return error_answer(service, code, reason, status)


def _judged(identity: Identity) -> bool:
    """Whether a caller has policies to be judged by: roles do, except the simulator's own operator."""
    return bool(identity.role_arn) and not identity.role_arn.endswith(f":role/{OPERATOR}")


def _said(request: policy.Request) -> str:
    user = request.principal or "a person"
    return f"User: {user} is not authorized to perform: {request.action} on resource: {request.resource}"


def _nobody_allows(said: str, kind: str, request: policy.Request) -> str:
    return f"{said} because no {kind}-based policy allows the {request.action} action"


def resource_policy(arn: str) -> tuple[str, list[tuple[str, policy.Document]]]:
    """The account that owns a resource ("" when its ARN does not tell) and the policy attached to it."""
    service = arn.split(":")[2] if arn.startswith("arn:") else ""
    if service == "s3":
        bucket = arn.split(":", 5)[5].split("/", 1)[0]
        for account, partitions in list(s3_backends.items()):
            found = partitions["aws"].buckets.get(bucket)
            if found is not None:
                text = found.policy.decode() if isinstance(found.policy, bytes) else found.policy
                return account, [(f"bucket {bucket}", iam.read(text))] if text else []
    if service == "sns":
        region, account = arn.split(":")[3:5]
        topic = sns_backends[account][region].topics.get(arn)
        if topic is not None and topic.policy:
            return account, [(f"topic {topic.name}", iam.read(topic.policy))]
    if service == "kms":
        key = kms.find_key(arn, "", "")
        if key is not None and key.policy:
            return str(key.account_id), [(f"key {key.id}", iam.read(key.policy))]
    parts = arn.split(":")
    return (parts[4] if len(parts) > 4 else ""), []


def _names_role(attached: Iterable[tuple[str, policy.Document]], role_arn: str) -> bool:
    return any(
        policy.names_principal(statement.get("Principal"), role_arn)
        for _, document in attached
        for statement in policy.statements(document)
        if statement["Effect"] == "Allow"
    )
