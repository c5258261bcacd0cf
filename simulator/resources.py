"""CloudFormation resource types that moto does not have.

Each type is created, changed and deleted by the service's own API, so that what a template says is what a
caller finds. moto looks for direct subclasses of its model class, hence the mixin.
"""

from __future__ import annotations

import json
import random
import string
from typing import Any, ClassVar

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel

Properties = dict[str, Any]


def operator(service: str, account: str, region: str) -> Any:
    """A client of the account's operator, whom nothing is forbidden."""
    from simulator.simulator import current

    return current().control.client(service, account, region)


class Resource:
    """The bridge from moto's model interface to ``create``, ``update`` and ``remove`` of one type."""

    TYPE: ClassVar[str]
    NAME: ClassVar[str] = ""

    def __init__(self, name: str, properties: Properties, account: str, region: str) -> None:
        self.name = name
        self.id = name
        self.account = account
        self.region = region
        self.properties = properties
        self.attributes: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A client in the resource's account and Region."""
        return operator(service, self.account, self.region)

    def create(self) -> None:
        """Create it; sets ``id`` and ``attributes``."""
        raise TypeError(f"{self.TYPE} cannot be created")

    def update(self, before: Properties) -> None:
        """Bring it to ``properties``; by default the same call as creation."""
        self.create()

    def remove(self) -> None:
        """Delete it. What lives inside another resource goes with that one."""

    @property
    def physical_resource_id(self) -> str:
        return self.id

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.TYPE

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.NAME

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, name: str) -> Any:
        from moto.cloudformation.exceptions import UnformattedGetAttTemplateException

        if name not in self.attributes:
            raise UnformattedGetAttTemplateException
        return self.attributes[name]

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
    ) -> Resource:
        made = cls(resource_name, cloudformation_json.get("Properties", {}), account_id, region_name)
        made.create()
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Resource,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Resource:
        before = original_resource.properties
        original_resource.properties = cloudformation_json.get("Properties", {})
        if (
            cls.NAME
            and original_resource.properties.get(cls.NAME, original_resource.name) != original_resource.name
        ):
            replacement = cls.create_from_cloudformation_json(
                new_resource_name, cloudformation_json, account_id, region_name
            )
            original_resource.properties = before
            original_resource.remove()
            return replacement
        original_resource.update(before)
        return original_resource

    def delete(self, account_id: str, region_name: str) -> None:
        self.remove()


class ScheduleGroup(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::Scheduler::ScheduleGroup"
    NAME = "Name"

    def create(self) -> None:
        made = self.client("scheduler").create_schedule_group(Name=self.id)
        self.attributes = {"Arn": made["ScheduleGroupArn"]}

    def update(self, before: Properties) -> None:
        """Only its tags could change."""

    def remove(self) -> None:
        self.client("scheduler").delete_schedule_group(Name=self.id)


class Schedule(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::Scheduler::Schedule"
    NAME = "Name"

    def _arguments(self) -> Properties:
        target = dict(self.properties["Target"])
        if isinstance(target.get("Input"), dict | list):
            target["Input"] = json.dumps(target["Input"])
        return {**self.properties, "Name": self.id, "Target": target}

    def create(self) -> None:
        self.attributes = {
            "Arn": self.client("scheduler").create_schedule(**self._arguments())["ScheduleArn"]
        }

    def update(self, before: Properties) -> None:
        if before.get("GroupName") != self.properties.get("GroupName"):
            self.create()
            self._delete(before)
        else:
            self.client("scheduler").update_schedule(**self._arguments())

    def remove(self) -> None:
        self._delete(self.properties)

    def _delete(self, properties: Properties) -> None:
        group = {"GroupName": properties["GroupName"]} if "GroupName" in properties else {}
        self.client("scheduler").delete_schedule(Name=self.id, **group)


class Alarm(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::CloudWatch::Alarm"
    NAME = "AlarmName"

    def create(self) -> None:
        client = self.client("cloudwatch")
        client.put_metric_alarm(**_without_tags(self.properties), AlarmName=self.id)
        self.attributes = {"Arn": client.describe_alarms(AlarmNames=[self.id])["MetricAlarms"][0]["AlarmArn"]}

    def remove(self) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[self.id])


class CompositeAlarm(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::CloudWatch::CompositeAlarm"
    NAME = "AlarmName"

    def create(self) -> None:
        properties = self.properties
        cloudwatch_backends[self.account][self.region].put_metric_alarm(  # moto has no other way to make one
            name=self.id,
            namespace="",
            metric_name="",
            comparison_operator="",
            evaluation_periods=0,
            period=0,
            threshold=0,
            statistic="",
            description=properties.get("AlarmDescription", ""),
            dimensions=[],
            alarm_actions=properties.get("AlarmActions", []),
            ok_actions=properties.get("OKActions", []),
            insufficient_data_actions=properties.get("InsufficientDataActions", []),
            rule=properties["AlarmRule"],
        )
        self.attributes = {"Arn": f"arn:aws:cloudwatch:{self.region}:{self.account}:alarm:{self.id}"}

    def remove(self) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[self.id])


class Subscription(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::SNS::Subscription"

    def create(self) -> None:
        properties = self.properties
        attributes = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name in (
                "FilterPolicy",
                "FilterPolicyScope",
                "RawMessageDelivery",
                "RedrivePolicy",
                "DeliveryPolicy",
            )
            if (value := properties.get(name)) is not None
        }
        topic_region = properties.get("Region", self.region)
        made = operator("sns", self.account, topic_region).subscribe(
            TopicArn=properties["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=properties["Endpoint"],
            Attributes=attributes,
            ReturnSubscriptionArn=True,
        )
        self.id = made["SubscriptionArn"]
        self.attributes = {"Arn": self.id}

    def update(self, before: Properties) -> None:
        self.remove()
        self.create()

    def remove(self) -> None:
        self.client("sns").unsubscribe(SubscriptionArn=self.id)


class TopicPolicy(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::SNS::TopicPolicy"

    def create(self) -> None:
        for topic in self.properties["Topics"]:
            self.client("sns").set_topic_attributes(
                TopicArn=topic,
                AttributeName="Policy",
                AttributeValue=json.dumps(self.properties["PolicyDocument"]),
            )


class QueuePolicy(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::SQS::QueuePolicy"

    def create(self) -> None:
        for queue in self.properties["Queues"]:
            self.client("sqs").set_queue_attributes(
                QueueUrl=queue, Attributes={"Policy": json.dumps(self.properties["PolicyDocument"])}
            )


class BucketPolicy(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::S3::BucketPolicy"

    def create(self) -> None:
        self.id = self.properties["Bucket"]
        self.client("s3").put_bucket_policy(
            Bucket=self.id, Policy=json.dumps(self.properties["PolicyDocument"])
        )

    def remove(self) -> None:
        self.client("s3").delete_bucket_policy(Bucket=self.id)


class Secret(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::SecretsManager::Secret"
    NAME = "Name"

    def create(self) -> None:
        value = self.properties.get("SecretString") or self._generated()
        made = self.client("secretsmanager").create_secret(
            Name=self.id, SecretString=value, Description=self.properties.get("Description", "")
        )
        self.id = made["ARN"]
        self.attributes = {"Id": self.id}

    def update(self, before: Properties) -> None:
        if self.properties.get("SecretString") != before.get("SecretString"):
            self.client("secretsmanager").put_secret_value(
                SecretId=self.id, SecretString=self.properties["SecretString"]
            )

    def remove(self) -> None:
        self.client("secretsmanager").delete_secret(SecretId=self.id, ForceDeleteWithoutRecovery=True)

    def _generated(self) -> str:
        rule = self.properties.get("GenerateSecretString", {})
        alphabet = [
            letter
            for letter in string.ascii_letters
            + string.digits
            + ("" if rule.get("ExcludePunctuation") else "!#$%&*+-.:=?@_")
            if letter not in rule.get("ExcludeCharacters", "")
        ]
        chance = random.Random(f"{self.account}/{self.region}/{self.id}")
        text = "".join(chance.choice(alphabet) for _ in range(rule.get("PasswordLength", 32)))
        if "GenerateStringKey" not in rule:
            return text
        return json.dumps(
            {**json.loads(rule.get("SecretStringTemplate", "{}")), rule["GenerateStringKey"]: text}
        )


class EventInvokeConfig(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::Lambda::EventInvokeConfig"

    def create(self) -> None:
        names = ("FunctionName", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        given = {name: self.properties[name] for name in names if name in self.properties}
        self.client("lambda").put_function_event_invoke_config(**given)
        self.id = self.properties["FunctionName"] + "|" + self.properties.get("Qualifier", "$LATEST")

    def remove(self) -> None:
        self.client("lambda").delete_function_event_invoke_config(
            FunctionName=self.properties["FunctionName"]
        )


class Alias(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::Lambda::Alias"

    def _arguments(self) -> Properties:
        return {
            "FunctionName": self.properties["FunctionName"],
            "Name": self.properties["Name"],
            "FunctionVersion": str(self.properties["FunctionVersion"]).rsplit(":", 1)[-1],
            "Description": self.properties.get("Description", ""),
        }

    def create(self) -> None:
        self.id = self.client("lambda").create_alias(**self._arguments())["AliasArn"]
        self.attributes = {"AliasArn": self.id}

    def update(self, before: Properties) -> None:
        self.client("lambda").update_alias(**self._arguments())

    def remove(self) -> None:
        self.client("lambda").delete_alias(
            FunctionName=self.properties["FunctionName"], Name=self.properties["Name"]
        )


class EmailIdentity(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::SES::EmailIdentity"

    def create(self) -> None:
        self.id = self.properties["EmailIdentity"]
        self.client("sesv2").create_email_identity(EmailIdentity=self.id)

    def update(self, before: Properties) -> None:
        if self.properties["EmailIdentity"] != self.id:
            self.remove()
            self.create()

    def remove(self) -> None:
        self.client("sesv2").delete_email_identity(EmailIdentity=self.id)


class MetricFilter(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::Logs::MetricFilter"
    NAME = "FilterName"

    def create(self) -> None:
        transformations = [
            {
                "metricName": given["MetricName"],
                "metricNamespace": given["MetricNamespace"],
                "metricValue": str(given["MetricValue"]),
                **({"defaultValue": float(given["DefaultValue"])} if "DefaultValue" in given else {}),
                **({"unit": given["Unit"]} if "Unit" in given else {}),
            }
            for given in self.properties["MetricTransformations"]
        ]
        self.client("logs").put_metric_filter(
            logGroupName=self.properties["LogGroupName"],
            filterName=self.id,
            filterPattern=self.properties["FilterPattern"],
            metricTransformations=transformations,
        )

    def remove(self) -> None:
        self.client("logs").delete_metric_filter(
            logGroupName=self.properties["LogGroupName"], filterName=self.id
        )


class GlobalTable(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::DynamoDB::GlobalTable"
    NAME = "TableName"

    def create(self) -> None:
        client = self.client("dynamodb")
        names = (
            "KeySchema",
            "AttributeDefinitions",
            "GlobalSecondaryIndexes",
            "BillingMode",
            "StreamSpecification",
        )
        given = {name: self.properties[name] for name in names if name in self.properties}
        table = client.create_table(TableName=self.id, **given)["TableDescription"]
        self.attributes = {
            "Arn": table["TableArn"],
            "StreamArn": table.get("LatestStreamArn", ""),
            "TableId": table.get("TableId", ""),
        }
        self.update({})

    def update(self, before: Properties) -> None:
        replica = next(
            (one for one in self.properties.get("Replicas", ()) if one["Region"] == self.region), {}
        )
        settle_table(self.client("dynamodb"), self.id, {**self.properties, **replica})

    def remove(self) -> None:
        self.client("dynamodb").delete_table(TableName=self.id)


class Metadata(Resource, CloudFormationModel):  # type: ignore[misc]
    TYPE = "AWS::CDK::Metadata"

    def create(self) -> None:
        """Nothing exists behind it in AWS either."""


def settle_table(client: Any, name: str, properties: Properties) -> None:
    """Bring time to live and point-in-time recovery of a table to what the template says."""
    wanted = properties.get("TimeToLiveSpecification")
    current = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if wanted and (current["TimeToLiveStatus"] == "ENABLED") != bool(wanted.get("Enabled", True)):
        client.update_time_to_live(
            TableName=name,
            TimeToLiveSpecification={
                "Enabled": bool(wanted.get("Enabled", True)),
                "AttributeName": wanted["AttributeName"],
            },
        )
    recovery = properties.get("PointInTimeRecoverySpecification")
    if recovery is not None:
        enabled = bool(recovery.get("PointInTimeRecoveryEnabled"))
        client.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled}
        )


def _without_tags(properties: Properties) -> Properties:
    return {key: value for key, value in properties.items() if key not in {"Tags", "AlarmName"}}
