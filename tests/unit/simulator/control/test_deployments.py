"""Templates become resources, updates change them in place, and nothing that a template says is skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from simulator.deploy import DeploymentError, archive


def client(stack: Any, service: str) -> Any:
    """A client in the stack's place."""
    return stack.sim.control.client(service, stack.account, stack.region)


def resource(type: str, **properties: Any) -> dict[str, Any]:
    """A resource of a template."""
    return {"Type": type, "Properties": properties}


def test_an_unknown_type_is_an_error_and_leaves_nothing_behind(stack):
    stack.add(
        Known=resource("AWS::SNS::Topic", TopicName="known"),
        Odd=resource("AWS::Quantum::Computer", Qubits=5),
    )

    with pytest.raises(ClientError, match="AWS::Quantum::Computer"):
        stack.deploy()

    assert client(stack, "sns").list_topics()["Topics"] == []
    assert client(stack, "cloudformation").describe_stacks()["Stacks"] == []


def test_a_failure_takes_back_what_was_made_before_it(stack):
    stack.add(
        Topic=resource("AWS::SNS::Topic", TopicName="known"),
        Machine=resource("AWS::StepFunctions::StateMachine", RoleArn="arn:aws:iam::111111111111:role/x",
                         DefinitionString="{}", StateMachineName="machine") | {"DependsOn": "Topic"},
    )  # fmt: skip

    with pytest.raises(ClientError, match="QueryLanguage"):
        stack.deploy()

    assert client(stack, "sns").list_topics()["Topics"] == []


def test_a_bucket_has_everything_its_template_says(stack):
    stack.add(
        Bucket=resource(
            "AWS::S3::Bucket",
            BucketName="locked",
            ObjectLockEnabled=True,
            VersioningConfiguration={"Status": "Enabled"},
            PublicAccessBlockConfiguration={"BlockPublicAcls": True, "RestrictPublicBuckets": True},
            OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            LifecycleConfiguration={
                "Rules": [
                    {
                        "Id": "abort",
                        "Status": "Enabled",
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                    }
                ]
            },
        ),
        Policy=resource(
            "AWS::S3::BucketPolicy",
            Bucket={"Ref": "Bucket"},
            PolicyDocument={
                "Statement": [
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "s3:DeleteObject",
                        "Resource": {"Fn::Sub": "${Bucket.Arn}/*"},
                    }
                ]
            },
        ),
    )
    stack.deploy()
    s3 = client(stack, "s3")

    assert s3.get_bucket_versioning(Bucket="locked")["Status"] == "Enabled"
    lock = s3.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"]
    assert lock == {"ObjectLockEnabled": "Enabled"}
    block = s3.get_public_access_block(Bucket="locked")["PublicAccessBlockConfiguration"]
    assert (block["BlockPublicAcls"], block["RestrictPublicBuckets"]) == (True, True)
    [rule] = s3.get_bucket_lifecycle_configuration(Bucket="locked")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    statement = json.loads(s3.get_bucket_policy(Bucket="locked")["Policy"])["Statement"][0]
    assert statement["Resource"] == "arn:aws:s3:::locked/*"


def test_functions_have_their_layers_memory_and_tracing(stack, functions, tmp_path):
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "file").write_text("x")
    bucket = stack.sim.control.deployer.bootstrap(stack.account, stack.region)
    client(stack, "s3").put_object(Bucket=bucket, Key="layer.zip", Body=archive(tmp_path / "layer"))
    stack.add(Layer=resource("AWS::Lambda::LayerVersion", Content={"S3Bucket": bucket, "S3Key": "layer.zip"}))
    asset = functions(small="def handler(event, context):\n    return 1\n")
    stack.function(
        "small",
        asset,
        Layers=[{"Ref": "Layer"}],
        MemorySize=1769,
        Architectures=["arm64"],
        TracingConfig={"Mode": "Active"},
        EphemeralStorage={"Size": 2048},
    )
    stack.deploy()

    described = client(stack, "lambda").get_function_configuration(FunctionName="small")

    assert len(described["Layers"]) == 1
    assert (described["MemorySize"], described["Architectures"]) == (1769, ["arm64"])
    assert (described["TracingConfig"]["Mode"], described["EphemeralStorage"]["Size"]) == ("Active", 2048)


def test_substitutions_reach_the_definition_of_a_machine(stack):
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Say",
        "States": {"Say": {"Type": "Pass", "Output": "${Word}", "End": True}},
    }
    stack.machine("Machine", {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    stack.resources["Machine"]["Properties"] |= {
        "DefinitionString": json.dumps(definition),
        "DefinitionSubstitutions": {"Word": {"Fn::Sub": "hello from ${AWS::Region}"}},
        "LoggingConfiguration": {"Level": "ALL", "IncludeExecutionData": False},
        "TracingConfiguration": {"Enabled": True},
    }
    stack.outputs["Arn"] = {"Value": {"Ref": "Machine"}}
    arn = stack.deploy()["Arn"]

    described = client(stack, "stepfunctions").describe_state_machine(stateMachineArn=arn)

    assert described["loggingConfiguration"]["level"] == "ALL"
    assert described["tracingConfiguration"]["enabled"] is True
    assert json.loads(stack.run("Machine").output) == "hello from eu-central-1"


def test_an_update_keeps_what_stays_and_follows_references(stack):
    stack.add(
        Topic=resource("AWS::SNS::Topic", TopicName="results"),
        Mail=resource(
            "AWS::SNS::Subscription", TopicArn={"Ref": "Topic"}, Protocol="email", Endpoint="a@example.com"
        ),
        Alarm=resource(
            "AWS::CloudWatch::Alarm",
            AlarmName="errors",
            MetricName="Errors",
            Namespace="AWS/Lambda",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            AlarmActions=[{"Ref": "Topic"}],
        ),
    )
    stack.deploy()
    stack.resources["Topic"]["Properties"]["DisplayName"] = "Results"
    stack.resources["Alarm"]["Properties"]["Threshold"] = 5
    del stack.resources["Mail"]
    stack.deploy()

    sns = client(stack, "sns")
    [topic] = sns.list_topics()["Topics"]
    assert sns.get_topic_attributes(TopicArn=topic["TopicArn"])["Attributes"]["DisplayName"] == "Results"
    assert sns.list_subscriptions()["Subscriptions"] == []
    [alarm] = client(stack, "cloudwatch").describe_alarms()["MetricAlarms"]
    assert (alarm["Threshold"], alarm["AlarmActions"]) == (5.0, [topic["TopicArn"]])


def test_a_role_loses_what_its_template_takes_away(stack):
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    trusted = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "lambda.amazonaws.com"},
    }
    stack.add(
        Role=resource(
            "AWS::IAM::Role",
            RoleName="worker",
            AssumeRolePolicyDocument={"Statement": [trusted]},
            ManagedPolicyArns=["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"],
            Policies=[
                {"PolicyName": "read", "PolicyDocument": {"Statement": [statement]}},
                {"PolicyName": "more", "PolicyDocument": {"Statement": [statement]}},
            ],
        )
    )
    stack.deploy()
    properties = stack.resources["Role"]["Properties"]
    properties["Policies"] = properties["Policies"][:1]
    properties["ManagedPolicyArns"] = []
    properties["MaxSessionDuration"] = 7200
    stack.deploy()

    iam = client(stack, "iam")
    assert iam.list_role_policies(RoleName="worker")["PolicyNames"] == ["read"]
    assert iam.list_attached_role_policies(RoleName="worker")["AttachedPolicies"] == []
    assert iam.get_role(RoleName="worker")["Role"]["MaxSessionDuration"] == 7200


def test_a_managed_policy_that_is_not_known_here_is_refused(stack):
    stack.add(
        Role=resource(
            "AWS::IAM::Role",
            AssumeRolePolicyDocument={"Statement": []},
            ManagedPolicyArns=["arn:aws:iam::aws:policy/AmazonEC2FullAccess"],
        )
    )

    with pytest.raises(ClientError, match="AmazonEC2FullAccess"):
        stack.deploy()


def test_a_table_has_time_to_live_and_recovery(stack):
    stack.add(
        Table=resource(
            "AWS::DynamoDB::Table",
            TableName="catalog",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True},
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
    )
    stack.deploy()
    stack.deploy()

    dynamodb = client(stack, "dynamodb")
    expiry = dynamodb.describe_time_to_live(TableName="catalog")["TimeToLiveDescription"]
    assert expiry == {"AttributeName": "expires_at", "TimeToLiveStatus": "ENABLED"}
    backups = dynamodb.describe_continuous_backups(TableName="catalog")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_key_tells_its_policy_and_rotates(stack):
    policy = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": stack.account}, "Action": "kms:*", "Resource": "*"}
        ]
    }
    stack.add(Key=resource("AWS::KMS::Key", KeyPolicy=policy, EnableKeyRotation=True))
    stack.outputs["Arn"] = {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}
    arn = stack.deploy()["Arn"]

    kms = client(stack, "kms")
    assert json.loads(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]) == policy
    assert kms.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"] is True


def test_smaller_types_exist_as_described(stack):
    stack.add(
        Queue=resource("AWS::SQS::Queue", QueueName="undelivered"),
        QueuePolicy=resource(
            "AWS::SQS::QueuePolicy",
            Queues=[{"Ref": "Queue"}],
            PolicyDocument={
                "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage"}]
            },
        ),
        Secret=resource(
            "AWS::SecretsManager::Secret", Name="password", GenerateSecretString={"PasswordLength": 40}
        ),
        Sender=resource("AWS::SES::EmailIdentity", EmailIdentity="backup@example.com"),
        Group=resource("AWS::Logs::LogGroup", LogGroupName="/aws/lambda/x", RetentionInDays=30),
        Filter=resource(
            "AWS::Logs::MetricFilter",
            LogGroupName={"Ref": "Group"},
            FilterPattern="ERROR",
            MetricTransformations=[
                {"MetricName": "Errors", "MetricNamespace": "Holdfast", "MetricValue": "1"}
            ],
        ),
        Composite=resource("AWS::CloudWatch::CompositeAlarm", AlarmName="all", AlarmRule="FALSE"),
        Document=resource(
            "AWS::SSM::Document", Name="freeze", Content={"schemaVersion": "2.2", "mainSteps": []}
        ),
        Metadata=resource("AWS::CDK::Metadata", Analytics="v2"),
    )
    stack.deploy()

    sqs = client(stack, "sqs")
    url = sqs.get_queue_url(QueueName="undelivered")["QueueUrl"]
    assert "Policy" in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
    assert len(client(stack, "secretsmanager").get_secret_value(SecretId="password")["SecretString"]) == 40
    assert (
        client(stack, "sesv2").list_email_identities()["EmailIdentities"][0]["IdentityName"]
        == "backup@example.com"
    )
    [group] = client(stack, "logs").describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 30
    assert client(stack, "logs").describe_metric_filters()["metricFilters"][0]["filterPattern"] == "ERROR"
    assert client(stack, "ssm").describe_document(Name="freeze")["Document"]["Status"] == "Active"


def test_deleting_a_stack_removes_all_but_what_it_retains(stack):
    stack.add(
        Gone=resource("AWS::S3::Bucket", BucketName="gone"),
        Kept=resource("AWS::S3::Bucket", BucketName="kept") | {"DeletionPolicy": "Retain"},
    )
    stack.machine("Machine", {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    stack.deploy()

    client(stack, "cloudformation").delete_stack(StackName=stack.name)

    buckets = {bucket["Name"] for bucket in client(stack, "s3").list_buckets()["Buckets"]}
    assert buckets & {"gone", "kept"} == {"kept"}
    assert client(stack, "stepfunctions").list_state_machines()["stateMachines"] == []
    assert client(stack, "iam").list_roles()["Roles"] == []


def test_what_is_published_to_a_topic_can_be_read(stack):
    stack.add(Topic=resource("AWS::SNS::Topic", TopicName="results"))
    stack.outputs["Arn"] = {"Value": {"Ref": "Topic"}}
    arn = stack.deploy()["Arn"]

    client(stack, "sns").publish(TopicArn=arn, Subject="Done", Message="3 instances")

    [published] = stack.sim.topics.published("results")
    assert (published.topic_arn, published.subject, published.message) == (arn, "Done", "3 instances")


def assembly(folder: Path, *stacks: tuple[str, dict[str, Any], list[str]]) -> Path:
    """A cloud assembly with stacks, as the CDK writes it."""
    artifacts: dict[str, Any] = {}
    folder.mkdir(exist_ok=True)
    for name, template, needs in stacks:
        (folder / f"{name}.template.json").write_text(json.dumps(template))
        (folder / f"{name}.assets.json").write_text(json.dumps({"files": {}}))
        artifacts[f"{name}.assets"] = {
            "type": "cdk:asset-manifest",
            "properties": {"file": f"{name}.assets.json"},
        }
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "environment": "aws://111111111111/eu-central-1",
            "properties": {"templateFile": f"{name}.template.json"},
            "dependencies": [*needs, f"{name}.assets"],
        }
    (folder / "manifest.json").write_text(json.dumps({"version": "55.0.0", "artifacts": artifacts}))
    return folder


def test_an_assembly_is_deployed_in_the_order_of_its_dependencies(sim, tmp_path):
    uses = {
        "Resources": {
            "Parameter": resource(
                "AWS::SSM::Parameter", Name="copy", Type="String", Value={"Fn::ImportValue": "topic"}
            )
        },
        "Outputs": {"Copy": {"Value": {"Ref": "Parameter"}}},
    }
    gives = {
        "Resources": {"Topic": resource("AWS::SNS::Topic", TopicName="results")},
        "Outputs": {"Topic": {"Value": {"Ref": "Topic"}, "Export": {"Name": "topic"}}},
    }
    cloud = assembly(tmp_path / "cdk.out", ("uses", uses, ["gives"]), ("gives", gives, []))

    outputs = sim.deploy(cloud)

    assert list(outputs) == ["gives", "uses"]
    value = sim.control.client("ssm", "111111111111", "eu-central-1").get_parameter(Name="copy")["Parameter"][
        "Value"
    ]
    assert value == outputs["gives"]["Topic"]
    sim.destroy(cloud)
    assert sim.control.client("sns", "111111111111", "eu-central-1").list_topics()["Topics"] == []


def test_a_stack_that_fails_is_named(sim, tmp_path):
    odd = {"Resources": {"Odd": resource("AWS::Quantum::Computer")}}
    cloud = assembly(tmp_path / "cdk.out", ("odd", odd, []))

    with pytest.raises(
        DeploymentError, match=r"stack odd in 111111111111 eu-central-1.*AWS::Quantum::Computer"
    ):
        sim.deploy(cloud)


def test_a_stack_that_the_assembly_does_not_have_is_named(sim, tmp_path):
    cloud = assembly(tmp_path / "cdk.out", ("one", {"Resources": {}}, []))

    with pytest.raises(DeploymentError, match="two"):
        sim.deploy(cloud, stacks=("two",))
