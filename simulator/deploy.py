"""Deploys a synthesized cloud assembly into the simulated accounts, as ``cdk deploy`` would.

Templates and assets go in exactly as they were synthesized; nothing is edited on the way, since what runs
here must be what is deployed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from moto.s3.models import s3_backends

_QUALIFIER = "hnb659fds"
_BOOTSTRAP_VERSION = "30"
_TEMPLATE_BYTES = 1_000_000  # CloudFormation's quota for a template read from S3


class DeploymentError(Exception):
    """A stack could not be deployed; the message names it and the resource."""


@dataclass(frozen=True, slots=True)
class StackArtifact:
    """One stack of an assembly."""

    id: str
    name: str
    account: str
    region: str
    template: Path
    parameters: Mapping[str, str]
    asset_manifests: tuple[Path, ...]
    needs: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


class Deployer:
    """Deploys assemblies; ``client(service, account, region)`` gives the operator's clients."""

    def __init__(self, client: Any, backup_account: str, home_region: str) -> None:
        self._client = client
        self._backup_account = backup_account
        self._home_region = home_region

    def deploy(
        self, assembly: Path, *, stacks: tuple[str, ...] = (), parameters: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, str]]:
        """Create or update the stacks of an assembly in the order of their dependencies; all, or those named.

        Returns the outputs by stack name. Raises DeploymentError.
        """
        chosen = [
            one for one in self.stacks(assembly) if not stacks or one.name in stacks or one.id in stacks
        ]
        if stacks and len(chosen) != len(stacks):
            known = ", ".join(one.name for one in self.stacks(assembly))
            raise DeploymentError(
                f"{assembly} has no stack {set(stacks) - {one.name for one in chosen}}; it has {known}"
            )
        return {one.name: self._deploy(one, dict(parameters or {})) for one in chosen}

    def destroy(self, assembly: Path, *, stacks: tuple[str, ...] = ()) -> None:
        """Delete the stacks of an assembly, dependents first. Retained resources stay."""
        for one in reversed(self.stacks(assembly)):
            if not stacks or one.name in stacks:
                self._client("cloudformation", one.account, one.region).delete_stack(StackName=one.name)

    def stacks(self, assembly: Path) -> list[StackArtifact]:
        """The stacks of an assembly and its nested assemblies (stages), each after those it depends on."""
        found = {one.id: one for one in self._read(assembly)}
        order: list[StackArtifact] = []

        def place(one: StackArtifact) -> None:
            for need in one.needs:
                if need in found and found[need] not in order:
                    place(found[need])
            if one not in order:
                order.append(one)

        for one in found.values():
            place(one)
        return order

    def bootstrap(self, account: str, region: str) -> str:
        """Make what deployments find after ``cdk bootstrap``. Returns the bucket of assets."""
        bucket = f"cdk-{_QUALIFIER}-assets-{account}-{region}"
        if bucket not in s3_backends[account]["aws"].buckets:
            place = (
                {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            )
            self._client("s3", account, region).create_bucket(Bucket=bucket, **place)
            self._client("ssm", account, region).put_parameter(
                Name=f"/cdk-bootstrap/{_QUALIFIER}/version",
                Value=_BOOTSTRAP_VERSION,
                Type="String",
                Overwrite=True,
            )
        return bucket

    def _read(self, assembly: Path) -> Iterator[StackArtifact]:
        artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
        for name, artifact in artifacts.items():
            properties = artifact.get("properties", {})
            if artifact["type"] == "cdk:cloud-assembly":
                yield from self._read(assembly / properties["directoryName"])
            if artifact["type"] != "aws:cloudformation:stack":
                continue
            needs = artifact.get("dependencies", [])
            manifests = [
                assembly / artifacts[need]["properties"]["file"]
                for need in needs
                if artifacts[need]["type"] == "cdk:asset-manifest"
            ]
            account, region = re.fullmatch(r"aws://([^/]+)/([^/]+)", artifact["environment"]).groups()  # type: ignore[union-attr]
            yield StackArtifact(
                id=name,
                name=properties.get("stackName", name),
                account=self._backup_account if account == "unknown-account" else account,
                region=self._home_region if region == "unknown-region" else region,
                template=assembly / properties["templateFile"],
                parameters=properties.get("parameters", {}),
                asset_manifests=tuple(manifests),
                needs=tuple(needs),
                tags=properties.get("tags", {}),
            )

    def _deploy(self, stack: StackArtifact, parameters: dict[str, str]) -> dict[str, str]:
        self.bootstrap(stack.account, stack.region)
        for manifest in stack.asset_manifests:
            self._publish(manifest, stack)
        body = stack.template.read_text()
        if len(body.encode()) > _TEMPLATE_BYTES:
            raise DeploymentError(f"stack {stack.name}: the template exceeds {_TEMPLATE_BYTES} bytes")
        declared = json.loads(body).get("Parameters", {})
        given = {key: value for key, value in {**stack.parameters, **parameters}.items() if key in declared}
        client = self._client("cloudformation", stack.account, stack.region)
        arguments = {
            "StackName": stack.name,
            "TemplateBody": body,
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
        }
        try:
            if not self._exists(client, stack.name):
                client.create_stack(**arguments)
            elif client.get_template(StackName=stack.name)["TemplateBody"] != json.loads(body) or given:
                client.update_stack(**arguments)
            described = client.describe_stacks(StackName=stack.name)["Stacks"][0]
        except Exception as error:
            raise DeploymentError(f"stack {stack.name} in {stack.account} {stack.region}: {error}") from error
        if not described["StackStatus"].endswith("_COMPLETE") or "ROLLBACK" in described["StackStatus"]:
            raise DeploymentError(f"stack {stack.name} is {described['StackStatus']}")
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}

    def _exists(self, client: Any, name: str) -> bool:
        try:
            client.describe_stacks(StackName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return False
            raise
        return True

    def _publish(self, manifest: Path, stack: StackArtifact) -> None:
        for asset in json.loads(manifest.read_text()).get("files", {}).values():
            for destination in asset["destinations"].values():
                region = _filled(destination.get("region", stack.region), stack)
                bucket, key = (
                    _filled(destination["bucketName"], stack),
                    _filled(destination["objectKey"], stack),
                )
                account = stack.account
                if found := re.search(r"-(\d{12})-", bucket):
                    account = found.group(1)
                self.bootstrap(account, region)
                client = self._client("s3", account, region)
                with contextlib.suppress(ClientError):
                    client.head_object(Bucket=bucket, Key=key)
                    continue  # the key is a hash of the content
                source = manifest.parent / asset["source"]["path"]
                zipped = asset["source"]["packaging"] == "zip" and source.is_dir()
                client.put_object(
                    Bucket=bucket, Key=key, Body=archive(source) if zipped else source.read_bytes()
                )


def _filled(text: str, stack: StackArtifact) -> str:
    for name, value in (("AccountId", stack.account), ("Region", stack.region), ("Partition", "aws")):
        text = text.replace(f"${{AWS::{name}}}", value)
    return text


@functools.lru_cache(maxsize=4)
def _zipped(folder: Path) -> bytes:
    """The archive of an asset; every Region gets the same one."""
    return archive(folder)


def archive(folder: Path) -> bytes:
    """A zip archive of a folder, the same for the same content; stored, because it is read back at once."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(str(path.relative_to(folder)), (1980, 1, 1, 0, 0, 0))
                entry.external_attr = path.stat().st_mode << 16
                content.writestr(entry, path.read_bytes())
    return buffer.getvalue()
