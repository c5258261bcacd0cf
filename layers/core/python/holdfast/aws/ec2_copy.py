"""Copying EBS snapshots between Regions and accounts.

A share is always to one named account, never public, and is taken back when the copy is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import boto3

from holdfast.aws.clients import CONFIG, ONCE
from holdfast.aws.faults import translating
from holdfast.errors import ConfigurationError, PermanentError, SourceGoneError

DEFAULT_KEY: Final = "alias/aws/ebs"


class Ec2SnapshotCopier:
    """`ports.SnapshotCopier` on EC2.

    CopySnapshot has no idempotency token: the client that calls it sends a request a single time.
    """

    def __init__(self, session: boto3.Session, role: str) -> None:
        self._session = session
        self._role = role

    @cached_property
    def _ec2(self) -> Any:
        return self._session.client("ec2", config=CONFIG)

    @cached_property
    def _ec2_once(self) -> Any:
        return self._session.client("ec2", config=ONCE)

    def default_key(self) -> str:
        with translating("kms:DescribeKey", role=self._role, resource=DEFAULT_KEY):
            told = self._session.client("kms", config=CONFIG).describe_key(KeyId=DEFAULT_KEY)
        return str(told["KeyMetadata"]["Arn"])

    def _permit(self, snapshot_id: str, account: str, operation: str) -> None:
        with translating("ec2:ModifySnapshotAttribute", role=self._role, resource=snapshot_id):
            self._ec2.modify_snapshot_attribute(
                SnapshotId=snapshot_id,
                Attribute="createVolumePermission",
                OperationType=operation,
                UserIds=[account],
            )

    def share(self, snapshot_id: str, account: str) -> None:
        try:
            self._permit(snapshot_id, account, "add")
        except PermanentError as error:
            if type(error) not in (PermanentError, ConfigurationError):
                raise
            raise PermanentError(
                f"The snapshot cannot be shared with account {account}: {error.message}",
                resource=snapshot_id,
                remedy="Snapshots under the default key aws/ebs cannot leave their account: encrypt the "
                "volume with a customer managed key, or use an image-level backup.",
            ) from error

    def unshare(self, snapshot_id: str, account: str) -> None:
        try:
            self._permit(snapshot_id, account, "remove")
        except SourceGoneError:
            return

    def copy(
        self,
        snapshot_id: str,
        source_region: str,
        *,
        encrypted: bool,
        kms_key_arn: str,
        description: str,
        tags: Mapping[str, str],
    ) -> str:
        optional: dict[str, Any] = {"Encrypted": True} if encrypted or kms_key_arn else {}
        if kms_key_arn:
            optional["KmsKeyId"] = kms_key_arn
        with translating("ec2:CopySnapshot", role=self._role, resource=snapshot_id):
            made = self._ec2_once.copy_snapshot(
                SourceSnapshotId=snapshot_id,
                SourceRegion=source_region,
                Description=description,
                TagSpecifications=[
                    {
                        "ResourceType": "snapshot",
                        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
                    }
                ],
                **optional,
            )
        return str(made["SnapshotId"])
