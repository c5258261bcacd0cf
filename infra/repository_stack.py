"""A repository: the bucket that holds image-level backups and, when asked for, the key that seals them.

Bucket and key outlive the stack. Nobody may by-pass a lock, and deleting is denied to everybody but the
function of retention.
"""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from holdfast.model.configuration import Configuration, Repository
from infra.constructs.site import output
from infra.constructs.storage import deny_weak_transport
from infra.names import Place, Site, makes_key, repository_key_alias
from infra.permissions import REPOSITORY_CONTEXT
from infra.statements import acknowledge

SUPERSEDED_DAYS: Final = 30
DELETERS: Final = ("expire_backups",)


class RepositoryStack(cdk.Stack):
    """The bucket of one repository, in the repository's Region."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        configuration: Configuration,
        repository: Repository,
        **options: object,
    ) -> None:
        super().__init__(scope, name, **options)  # type: ignore[arg-type]
        site = Site(configuration, Place.HUB, repository.region)
        bucket = _bucket(self, repository)
        _deny(bucket, site)
        output(self, "BucketName", bucket.bucket_name, f"Bucket of the repository {repository.name}")
        output(self, "BucketArn", bucket.bucket_arn, f"Bucket of the repository {repository.name}")
        if makes_key(repository):
            key = _key(self, configuration, repository)
            output(
                self,
                "KeyArn",
                key.key_arn,
                f"Key of the repository {repository.name}: without it, no restore",
            )


def _bucket(scope: Construct, repository: Repository) -> s3.Bucket:
    abort = cdk.Duration.days(7)
    rules = [s3.LifecycleRule(id="AbortUploads", abort_incomplete_multipart_upload_after=abort)]
    if not repository.immutable:
        # Versions are the way back from a mistaken deletion; a locked bucket keeps them by its locks instead.
        rules.append(
            s3.LifecycleRule(
                id="ForgetDeleted",
                noncurrent_version_expiration=cdk.Duration.days(SUPERSEDED_DAYS),
                expired_object_delete_marker=True,
            )
        )
    bucket = s3.Bucket(
        scope,
        "Bucket",
        bucket_name=repository.bucket,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        encryption=s3.BucketEncryption.S3_MANAGED,
        enforce_ssl=True,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        versioned=True,
        object_lock_enabled=repository.immutable,
        lifecycle_rules=rules,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    acknowledge(
        bucket,
        "S1",
        "Workers write thousands of objects an hour: CloudTrail data events are the trail to switch on where "
        "one is wanted; access logs would be a second bucket to protect.",
    )
    return bucket


def _deny(bucket: s3.Bucket, site: Site) -> None:
    """Denials for everybody: old TLS, other accounts, by-passing locks, and deleting but by retention."""
    everything = [bucket.bucket_arn, bucket.arn_for_objects("*")]
    deleters = [site.role_pattern(verb) for verb in DELETERS]
    deny_weak_transport(bucket)
    for sid, actions, resources, conditions in (
        (
            "DenyOtherAccounts",
            ["s3:*"],
            everything,
            {
                "StringNotEquals": {"aws:PrincipalAccount": site.account},
                "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
            },
        ),
        ("DenyBypassOfLocks", ["s3:BypassGovernanceRetention"], everything, {}),
        (
            "DenyDeletion",
            ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            [bucket.arn_for_objects("*")],
            {"ArnNotLike": {"aws:PrincipalArn": deleters}},
        ),
    ):
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=actions,
                resources=resources,
                conditions=conditions,
            )
        )


def _key(scope: Construct, configuration: Configuration, repository: Repository) -> kms.Key:
    key = kms.Key(
        scope,
        "Key",
        alias=repository_key_alias(configuration, repository),
        description=f"Wraps the key of the Holdfast repository {repository.name}",
        enable_key_rotation=True,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid="OnlyKeysOfRepositories",
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
            resources=["*"],  # in a key policy: this key
            conditions={"Null": {REPOSITORY_CONTEXT: "true"}},
        )
    )
    return key
