"""Which permissions a request needs: actions, resources and condition keys, as IAM sees them.

A request whose resources are not derived here raises; a wildcard guess would accept any policy. Source:
Service Authorization Reference, per service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from moto.iam.models import iam_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.ses.models import ses_backends

from simulator.actions_ec2 import derive_ebs, derive_ec2
from simulator.actions_storage import derive_dynamodb, derive_kms, derive_s3
from simulator.calls import Call
from simulator.needs import Need, Place
from simulator.requests import parse

Derive = Callable[[Place, str, Mapping[str, Any]], Iterator[Need]]


def needs(call: Call, tokens: Callable[[str], str]) -> list[Need]:
    """The permissions that a call needs, all of them. ``tokens`` gives the state machine behind a task token.

    Raises ValueError when the simulator does not know.
    """
    place = Place(call.account, call.region, tokens)
    if call.service not in _DERIVED:
        raise ValueError(f"the simulator does not know the resources of {call.name}")
    parsed = parse(call)
    if f"{call.service}:{parsed.operation}" in _FREE:
        return []
    return list(_DERIVED[call.service](place, parsed.operation, parsed.parameters))


# Allowed to everybody who has credentials.
_FREE = {"sts:GetCallerIdentity", "sts:GetSessionToken"}


def _sts(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    context = {"sts:externalid": [given["ExternalId"]]} if given.get("ExternalId") else {}
    session = {"sts:rolesessionname": [given["RoleSessionName"]]} if given.get("RoleSessionName") else {}
    yield Need(f"sts:{operation}", given.get("RoleArn", "*"), {**context, **session})


def _states(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    if operation.startswith("SendTask"):
        yield Need(f"states:{operation}", place.machine_of_token(given["taskToken"]))
        return
    for name in ("executionArn", "stateMachineArn", "mapRunArn", "resourceArn"):
        if name in given:
            yield Need(f"states:{operation}", given[name])
            return
    yield Need(f"states:{operation}", "*")


def _lambda(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    name = given.get("FunctionName")
    if name is None:
        yield Need(f"lambda:{operation}", "*")
        return
    arn = name if name.startswith("arn:") else place.arn("lambda", f"function:{name}")
    action = "InvokeFunction" if operation in {"Invoke", "InvokeAsync"} else operation
    yield Need(f"lambda:{action}", arn)


def _sns(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    yield Need(
        f"sns:{operation}",
        given.get("TopicArn") or given.get("TargetArn") or given.get("SubscriptionArn") or "*",
    )


def _sqs(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    name = given.get("QueueName") or str(given.get("QueueUrl", "")).rsplit("/", 1)[-1]
    yield Need(f"sqs:{operation}", place.arn("sqs", name) if name else "*")


def _ses(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    if operation != "SendEmail":
        yield Need(f"ses:{operation}", "*")
        return
    sender = given["FromEmailAddress"].rpartition("<")[2].rstrip(">")
    known = ses_backends[place.account][place.region].email_identities
    identity = sender if sender in known else sender.rpartition("@")[2]
    recipients = [address for listed in given.get("Destination", {}).values() for address in listed]
    context = {"ses:fromaddress": [sender], "ses:recipients": recipients}
    action = "ses:SendRawEmail" if "Raw" in given.get("Content", {}) else "ses:SendEmail"
    yield Need(action, place.arn("ses", f"identity/{identity}"), context)


def _secretsmanager(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    identifier = given.get("SecretId", given.get("Name", ""))
    if not identifier.startswith("arn:"):
        known = secretsmanager_backends[place.account][place.region].secrets
        found = known.get(identifier)
        identifier = (
            found.arn if found is not None else place.arn("secretsmanager", f"secret:{identifier}-??????")
        )
    yield Need(f"secretsmanager:{operation}", identifier)


def _ssm(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    if operation == "SendCommand":
        document = given["DocumentName"]
        owner = "" if document.startswith(("AWS-", "AWSEC2-")) else place.account
        arn = (
            document
            if document.startswith("arn:")
            else f"arn:aws:ssm:{place.region}:{owner}:document/{document}"
        )
        yield Need("ssm:SendCommand", arn)
        for instance in given.get("InstanceIds", ()):
            yield place.tagged("ssm:SendCommand", instance)
        return
    if operation in {"GetParameter", "PutParameter", "DeleteParameter"}:
        yield Need(f"ssm:{operation}", place.arn("ssm", f"parameter/{given['Name'].lstrip('/')}"))
        return
    yield Need(f"ssm:{operation}", "*")


def _iam(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    backend = iam_backends[place.account]["aws"]
    if "RoleName" in given:
        found = [role.arn for role in backend.roles.values() if role.name == given["RoleName"]]
        yield Need(
            f"iam:{operation}",
            found[0] if found else f"arn:aws:iam::{place.account}:role/{given['RoleName']}",
        )
    elif "InstanceProfileName" in given:
        name = given["InstanceProfileName"]
        known = [one.arn for one in backend.instance_profiles.values() if one.name == name]
        yield Need(
            f"iam:{operation}", known[0] if known else f"arn:aws:iam::{place.account}:instance-profile/{name}"
        )
    else:
        yield Need(f"iam:{operation}", given.get("PolicySourceArn", "*"))


def _cloudwatch(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    context = {"cloudwatch:namespace": [given["Namespace"]]} if "Namespace" in given else {}
    names = given.get("AlarmNames") or ([given["AlarmName"]] if "AlarmName" in given else [])
    if not names:
        yield Need(f"cloudwatch:{operation}", "*", context)
    for name in names:
        yield Need(f"cloudwatch:{operation}", place.arn("cloudwatch", f"alarm:{name}"), context)


def _logs(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    group, stream = given.get("logGroupName", "*"), given.get("logStreamName")
    resource = f"log-group:{group}" + (f":log-stream:{stream}" if stream else ":*")
    yield Need(f"logs:{operation}", place.arn("logs", resource))


def _scheduler(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    name, group = given.get("Name", "*"), given.get("GroupName", given.get("groupName", "default"))
    yield Need(f"scheduler:{operation}", place.arn("scheduler", f"schedule/{group}/{name}"))


def _cloudformation(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    name = given.get("StackName", "")
    arn = name if name.startswith("arn:") else place.arn("cloudformation", f"stack/{name or '*'}/*")
    yield Need(f"cloudformation:{operation}", arn)
    if given.get("RoleARN"):
        yield Need(
            "iam:PassRole", given["RoleARN"], {"iam:passedtoservice": ["cloudformation.amazonaws.com"]}
        )


def _anywhere(service: str) -> Derive:
    def derive(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
        yield Need(f"{service}:{operation}", "*")

    return derive


_DERIVED: dict[str, Derive] = {
    "cloudformation": _cloudformation,
    "cloudwatch": _cloudwatch,
    "dynamodb": derive_dynamodb,
    "ebs": derive_ebs,
    "ec2": derive_ec2,
    "iam": _iam,
    "kms": derive_kms,
    "lambda": _lambda,
    "logs": _logs,
    "organizations": _anywhere("organizations"),
    "s3": derive_s3,
    "scheduler": _scheduler,
    "secretsmanager": _secretsmanager,
    "ses": _ses,
    "sns": _sns,
    "sqs": _sqs,
    "ssm": _ssm,
    "states": _states,
    "sts": _sts,
    "ecr": _anywhere("ecr"),
    "events": _anywhere("events"),
    "tag": _anywhere("tag"),
}
