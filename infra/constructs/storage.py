"""Buckets, queues and topics as Holdfast wants them: private, encrypted, reachable over TLS alone.

Denials in a bucket policy bind every principal of the account, administrators too; they are kept to what
nobody may ever do.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.names import Site
from infra.statements import acknowledge

WORK_DAYS: Final = 30
UNDELIVERED_DAYS: Final = 14


def deny_weak_transport(bucket: s3.Bucket) -> None:
    """Refuse TLS older than 1.2 (the bucket itself refuses plain HTTP)."""
    bucket.add_to_resource_policy(
        iam.PolicyStatement(
            sid="DenyOldTls",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["s3:*"],
            resources=[bucket.bucket_arn, bucket.arn_for_objects("*")],
            conditions={"NumericLessThan": {"s3:TlsVersion": "1.2"}},
        )
    )


def work_bucket(scope: Construct, site: Site) -> s3.Bucket:
    """The bucket of an execution's lists; what is left of them goes after a month."""
    bucket = s3.Bucket(
        scope,
        "WorkBucket",
        bucket_name=site.work_bucket,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        encryption=s3.BucketEncryption.S3_MANAGED,
        enforce_ssl=True,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="ForgetLists",
                expiration=cdk.Duration.days(WORK_DAYS),
                abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
            )
        ],
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    deny_weak_transport(bucket)
    acknowledge(
        bucket,
        "S1",
        f"Lists live {WORK_DAYS} days and hold identifiers; CloudTrail records who changes the "
        "bucket, and server access logs would cost more than the lists.",
    )
    return bucket


def undelivered_queue(scope: Construct, site: Site) -> sqs.Queue:
    """Where events go that could not be delivered; an alarm watches its length."""
    queue = sqs.Queue(
        scope,
        "Undelivered",
        queue_name=site.undelivered_name,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=cdk.Duration.days(UNDELIVERED_DAYS),
    )
    acknowledge(queue, "SQS3", "This queue is itself the dead letter queue of schedules and functions.")
    return queue


def alarm_topic(scope: Construct, name: str, site: Site, topic_name: str) -> sns.Topic:
    """A topic for results and alarms of this account."""
    topic = sns.Topic(scope, name, topic_name=topic_name, enforce_ssl=True)
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": site.account}},
        )
    )
    return topic
