"""Completes moto's own CloudFormation types: properties it drops, updates and deletions it lacks.

A property that a template sets and the simulated resource does not have would let a test pass that AWS fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.awslambda.models import LambdaFunction, LambdaVersion, LayerVersion, Permission
from moto.awslambda.utils import get_backend
from moto.dynamodb.models.table import Table
from moto.iam.models import InlinePolicy, InstanceProfile, ManagedPolicy, Role, iam_backends
from moto.kms.models import Key
from moto.logs.models import LogGroup
from moto.s3.models import FakeBucket, s3_backends
from moto.sns.models import Topic, sns_backends
from moto.ssm.models import Document
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.utils import cfn_to_api_tags

from simulator.iam import default_document, ensure_aws_policy
from simulator.patches import Patches
from simulator.resources import operator, settle_table

Properties = dict[str, Any]
Settle = Callable[[Any, Properties, str, str], None]


def install(patches: Patches) -> None:
    """Patch moto's models while a simulator is open."""
    for model, settle in _SETTLED:
        _settle_after_create(patches, model, settle)
        _settle_after_update(patches, model, settle)
    patches.set(StateMachine, "create_from_cloudformation_json", classmethod(_create_machine))
    patches.set(StateMachine, "update_from_cloudformation_json", classmethod(_update_machine))
    patches.set(
        StateMachine,
        "has_cfn_attr",
        classmethod(lambda cls, attr: attr in {"Arn", "Name", "StateMachineRevisionId"}),
    )
    patches.set(StateMachine, "get_cfn_attribute", _machine_attribute)
    patches.set(StateMachine, "delete", _delete_machine)
    patches.set(Permission, "create_from_cloudformation_json", classmethod(_create_permission))
    patches.set(Permission, "update_from_cloudformation_json", classmethod(_update_permission))
    patches.set(Permission, "delete", _delete_permission)
    patches.set(LayerVersion, "delete", _delete_layer)
    patches.set(LayerVersion, "physical_resource_id", property(lambda layer: layer.arn))
    patches.set(
        LambdaVersion, "delete", lambda self, account, region: None
    )  # versions go with their function
    patches.set(Role, "delete", _delete_role)
    patches.set(ManagedPolicy, "delete", _delete_managed_policy)
    patches.set(Document, "create_from_cloudformation_json", classmethod(_create_document))


def _settle_after_create(patches: Patches, model: Any, settle: Settle) -> None:
    create: Any = None

    def create_and_settle(
        cls: Any,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **more: Any,
    ) -> Any:
        properties = cloudformation_json.get("Properties", {})
        kept = {key: value for key, value in properties.items() if key not in _MISREAD.get(model, ())}
        given = {**cloudformation_json, "Properties": kept}
        made = create(cls, resource_name, given, account_id, region_name, **more)
        settle(made, cloudformation_json.get("Properties", {}), account_id, region_name)
        return made

    create = patches.set(model, "create_from_cloudformation_json", classmethod(create_and_settle))


def _settle_after_update(patches: Patches, model: Any, settle: Settle) -> None:
    """An update in place is what the settling function does; moto's own runs first where it is sound."""
    own = vars(model).get("update_from_cloudformation_json") if model in _SOUND_UPDATES else None
    update = getattr(own, "__func__", None)

    def update_and_settle(
        cls: Any,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Any:
        changed = original_resource
        if update is not None:
            changed = update(
                cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
            )
        settle(changed, cloudformation_json.get("Properties", {}), account_id, region_name)
        return changed

    patches.set(model, "update_from_cloudformation_json", classmethod(update_and_settle))


def _settle_bucket(bucket: FakeBucket, properties: Properties, account: str, region: str) -> None:
    client = operator("s3", account, region)
    name = bucket.name
    if str(properties.get("ObjectLockEnabled")).lower() == "true":
        bucket.object_lock_enabled = True
        bucket.versioning_status = "Enabled"
    if "VersioningConfiguration" in properties:
        client.put_bucket_versioning(
            Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"]
        )
    if "ObjectLockConfiguration" in properties:
        client.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration=properties["ObjectLockConfiguration"]
        )
    if "PublicAccessBlockConfiguration" in properties:
        client.put_public_access_block(
            Bucket=name, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
        )
    if "LifecycleConfiguration" in properties:
        rules = [_lifecycle_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
        client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    if "OwnershipControls" in properties:
        client.put_bucket_ownership_controls(Bucket=name, OwnershipControls=properties["OwnershipControls"])


def _lifecycle_rule(rule: Properties) -> Properties:
    """A rule of a template as the S3 API writes it."""
    made: Properties = {
        "ID": rule.get("Id", ""),
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
    }
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if rule.get("ExpiredObjectDeleteMarker"):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    noncurrent = rule.get("NoncurrentVersionExpiration")
    if noncurrent or "NoncurrentVersionExpirationInDays" in rule:
        days = noncurrent["NoncurrentDays"] if noncurrent else rule["NoncurrentVersionExpirationInDays"]
        made["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(days)}
    if "AbortIncompleteMultipartUpload" in rule:
        days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(days)}
    if "Transitions" in rule:
        made["Transitions"] = [
            {"Days": int(move["TransitionInDays"]), "StorageClass": move["StorageClass"]}
            for move in rule["Transitions"]
        ]
    return made


def _settle_function(function: LambdaFunction, properties: Properties, account: str, region: str) -> None:
    if "Environment" not in properties:
        function.environment_vars = {}
    function.layers = function._get_layers_data(properties.get("Layers", []))
    function.architectures = properties.get("Architectures", ["x86_64"])
    function.ephemeral_storage = int(properties.get("EphemeralStorage", {}).get("Size", 512))
    function.tracing_config = properties.get("TracingConfig") or {"Mode": "PassThrough"}
    function.reserved_concurrency = properties.get("ReservedConcurrentExecutions")
    function.memory_size = int(properties.get("MemorySize", 128))
    function.timeout = int(properties.get("Timeout", 3))
    function.tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", ())}


def _settle_table(table: Table, properties: Properties, account: str, region: str) -> None:
    settle_table(operator("dynamodb", account, region), table.name, properties)


def _settle_key(key: Key, properties: Properties, account: str, region: str) -> None:
    if not isinstance(properties["KeyPolicy"], str):
        key.policy = json.dumps(properties["KeyPolicy"])
    key.description = properties.get("Description", "")
    key.enabled = properties.get("Enabled", True)
    client = operator("kms", account, region)
    if properties.get("Tags"):
        client.tag_resource(
            KeyId=key.id,
            Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties["Tags"]],
        )
    rotates = bool(properties.get("EnableKeyRotation"))
    key.key_rotation_status = False
    if rotates:
        client.enable_key_rotation(
            KeyId=key.id, RotationPeriodInDays=int(properties.get("RotationPeriodInDays", 365))
        )


def _settle_log_group(group: LogGroup, properties: Properties, account: str, region: str) -> None:
    days = properties.get("RetentionInDays")
    group.retention_in_days = int(days) if days is not None else None


def _settle_topic(topic: Topic, properties: Properties, account: str, region: str) -> None:
    client = operator("sns", account, region)
    for name in ("DisplayName", "KmsMasterKeyId", "TracingConfig"):
        if name in properties:
            client.set_topic_attributes(
                TopicArn=topic.arn, AttributeName=name, AttributeValue=properties[name]
            )
    sns = sns_backends[account][region]
    existing = {(one.protocol, one.endpoint) for one in sns.subscriptions.values() if one.topic is topic}
    for wanted in properties.get("Subscription", ()):
        if (wanted["Protocol"], wanted["Endpoint"]) not in existing:
            sns.subscribe(topic.arn, wanted["Endpoint"], wanted["Protocol"])


def _settle_role(role: Role, properties: Properties, account: str, region: str) -> None:
    backend = iam_backends[account]["aws"]
    trust = properties["AssumeRolePolicyDocument"]
    role.assume_role_policy_document = trust if isinstance(trust, str) else json.dumps(trust)
    role.description = properties.get("Description", "")
    role.max_session_duration = int(properties.get("MaxSessionDuration", 3600))
    wanted = set(properties.get("ManagedPolicyArns", ()))
    for arn in wanted:
        ensure_aws_policy(account, arn)
    attached = getattr(role, "template_policies", set())
    for arn in sorted(wanted - set(role.managed_policies)):
        backend.attach_role_policy(arn, role.name)
    for arn in sorted(attached - wanted):
        backend.detach_role_policy(arn, role.name)
    role.template_policies = wanted
    inline = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies", ())}
    for name in set(getattr(role, "template_inline", ())) - set(inline):
        role.delete_policy(name)
    for name, document in inline.items():
        role.put_policy(name, document)
    role.template_inline = set(inline)


def _settle_managed_policy(policy: ManagedPolicy, properties: Properties, account: str, region: str) -> None:
    backend = iam_backends[account]["aws"]
    document = json.dumps(properties["PolicyDocument"])
    if default_document(policy) != document:
        if len(policy.versions) >= 5:
            oldest = next(version for version in policy.versions if not version.is_default)
            backend.delete_policy_version(policy.arn, oldest.version_id)
        backend.create_policy_version(policy.arn, document, "true")
    for role in properties.get("Roles", ()):
        if policy.arn not in backend.get_role(role).managed_policies:
            backend.attach_role_policy(policy.arn, role)


def _nothing(resource: Any, properties: Properties, account: str, region: str) -> None:
    """What moto's own methods do is enough."""


_SETTLED: tuple[tuple[Any, Settle], ...] = (
    (FakeBucket, _settle_bucket),
    (LambdaFunction, _settle_function),
    (Table, _settle_table),
    (Key, _settle_key),
    (LogGroup, _settle_log_group),
    (Topic, _settle_topic),
    (Role, _settle_role),
    (ManagedPolicy, _settle_managed_policy),
    (InstanceProfile, _nothing),
)
# moto's update of these does what CloudFormation does; others have none, or replace what must stay.
_MISREAD: dict[Any, tuple[str, ...]] = {Key: ("Tags",)}  # moto takes a template's tags for the API's

_SOUND_UPDATES = (FakeBucket, LambdaFunction, InlinePolicy)


def _create_machine(
    cls: Any, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
) -> StateMachine:
    properties = cloudformation_json["Properties"]
    backend = _machines(account_id, region_name)
    return backend.create_state_machine(
        name=properties.get("StateMachineName", resource_name),
        definition=_definition(properties, account_id),
        roleArn=properties["RoleArn"],
        tags=cfn_to_api_tags(properties.get("Tags", [])),
        loggingConfiguration=_lower(properties.get("LoggingConfiguration")),
        tracingConfiguration=_lower(properties.get("TracingConfiguration")),
        sm_type=properties.get("StateMachineType", "STANDARD"),
    )


def _update_machine(
    cls: Any,
    original_resource: StateMachine,
    new_resource_name: str,
    cloudformation_json: Properties,
    account_id: str,
    region_name: str,
) -> StateMachine:
    properties = cloudformation_json["Properties"]
    name = properties.get("StateMachineName", original_resource.name)
    if name != original_resource.name:
        made = _create_machine(cls, name, cloudformation_json, account_id, region_name)
        _machines(account_id, region_name).delete_state_machine(original_resource.arn)
        return made
    return _machines(account_id, region_name).update_state_machine(
        original_resource.arn,
        _definition(properties, account_id),
        role_arn=properties["RoleArn"],
        logging_configuration=_lower(properties.get("LoggingConfiguration")),
        tracing_configuration=_lower(properties.get("TracingConfiguration")),
    )


def _delete_machine(machine: StateMachine, account_id: str, region_name: str) -> None:
    _machines(account_id, region_name).delete_state_machine(machine.arn)


def _machines(account: str, region: str) -> Any:
    from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    return stepfunctions_parser_backends[account][region]


def _definition(properties: Properties, account: str) -> str:
    """The text of the machine, from the template or its S3 location, with substitutions applied."""
    if "DefinitionString" in properties:
        text = properties["DefinitionString"]
    elif "Definition" in properties:
        text = json.dumps(properties["Definition"])
    else:
        place = properties["DefinitionS3Location"]
        text = s3_backends[account]["aws"].get_object(place["Bucket"], place["Key"]).value.decode()
    for key, value in properties.get("DefinitionSubstitutions", {}).items():
        text = text.replace(f"${{{key}}}", str(value))
    return text


def _lower(given: Any) -> Any:
    """Keys as the API writes them."""
    if isinstance(given, dict):
        return {key[:1].lower() + key[1:]: _lower(value) for key, value in given.items()}
    return [_lower(value) for value in given] if isinstance(given, list) else given


def _machine_attribute(machine: StateMachine, name: str) -> Any:
    values = {"Arn": machine.arn, "Name": machine.name, "StateMachineRevisionId": "INITIAL"}
    if name in values:
        return values[name]
    from moto.cloudformation.exceptions import UnformattedGetAttTemplateException

    raise UnformattedGetAttTemplateException


def _create_permission(
    cls: Any, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
) -> Permission:
    properties = cloudformation_json["Properties"]
    statement = {**properties, "StatementId": resource_name}
    function = get_backend(account_id, region_name).get_function(properties["FunctionName"])
    function.policy.add_statement(raw=json.dumps(statement))
    made = Permission(region=region_name)
    made.function_name, made.statement_id = function.function_name, resource_name
    return made


def _update_permission(
    cls: Any,
    original_resource: Permission,
    new_resource_name: str,
    cloudformation_json: Properties,
    account_id: str,
    region_name: str,
) -> Permission:
    _delete_permission(original_resource, account_id, region_name)
    return _create_permission(cls, new_resource_name, cloudformation_json, account_id, region_name)


def _delete_permission(permission: Permission, account_id: str, region_name: str) -> None:
    backend = get_backend(account_id, region_name)
    functions = {function.function_name: function for function in backend.list_functions()}
    if permission.function_name in functions:
        policy = functions[permission.function_name].policy
        policy.statements = [one for one in policy.statements if one["Sid"] != permission.statement_id]


def _delete_layer(layer: LayerVersion, account_id: str, region_name: str) -> None:
    get_backend(account_id, region_name).delete_layer_version(layer.name, str(layer.version))


def _delete_role(role: Role, account_id: str, region_name: str) -> None:
    backend = iam_backends[account_id]["aws"]
    for arn in list(role.managed_policies):
        backend.detach_role_policy(arn, role.name)
    for name in list(role.policies):
        role.delete_policy(name)
    backend.delete_role(role.name)


def _delete_managed_policy(policy: ManagedPolicy, account_id: str, region_name: str) -> None:
    backend = iam_backends[account_id]["aws"]
    for role in list(backend.roles.values()):
        if policy.arn in role.managed_policies:
            backend.detach_role_policy(policy.arn, role.name)
    backend.managed_policies.pop(policy.arn, None)


def _create_document(
    cls: Any, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
) -> Document:
    properties = cloudformation_json["Properties"]
    content = properties["Content"]
    client = operator("ssm", account_id, region_name)
    name = properties.get("Name", resource_name)
    client.create_document(
        Name=name,
        Content=content if isinstance(content, str) else json.dumps(content),
        DocumentType=properties.get("DocumentType", "Command"),
        DocumentFormat=properties.get("DocumentFormat", "JSON"),
    )
    from moto.ssm.models import ssm_backends

    return ssm_backends[account_id][region_name]._documents[name].get_default_version()
