"""What the roles in protected accounts may do, and whom they trust.

Deleting, and reading the content of snapshots, are bound to the tag of this installation, and so is making
what may later be deleted. These rules are the last line of defence against a defect in Holdfast itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from holdfast.model import tags
from holdfast.model.configuration import Configuration, Policy
from infra.duties import Duty, SpokeRole
from infra.function_table import assumers
from infra.names import Site
from infra.statements import Conditions, Statement, allow, without_repeats

_READ_ONLY: Final = "EC2 offers no resources for these read-only actions."
_ANY_ID: Final = "Ids are made at run time; Region and id stay open, the condition binds what matters."
_SOURCES: Final = "The instances and volumes to protect are chosen by policies, not by this role."
_PLACES: Final = "Where and with what an instance is restored is chosen when it is restored."
_KEYS: Final = (
    "Volumes are encrypted with keys of the account's choice, also shared ones of other accounts; each key's "
    "own policy decides, and the conditions limit the use to EBS."
)
_TAG: Final = tags.INSTALLATION


@dataclass(frozen=True, slots=True)
class Spoke:
    """The account that a role is rendered for; ``account`` may be a pseudo parameter of the template."""

    configuration: Configuration
    account: str

    @property
    def partition(self) -> str:
        return Site.hub(self.configuration).partition

    @property
    def suffix(self) -> str:
        """The end of the partition's host names."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    def ec2(self, kind: str, *, owned: bool = True) -> str:
        """Resources of one kind in any Region; snapshots and images have no account in their ARN."""
        return f"arn:{self.partition}:ec2:*:{self.account if owned else ''}:{kind}/*"

    @property
    def made_by_us(self) -> dict[str, dict[str, Any]]:
        return {"StringEquals": {f"aws:RequestTag/{_TAG}": self.configuration.installation}}

    @property
    def ours(self) -> dict[str, dict[str, Any]]:
        return {"StringEquals": {f"aws:ResourceTag/{_TAG}": self.configuration.installation}}

    def tagging(self, sid: str, resources: tuple[str, ...], *creators: str) -> Statement:
        """Tags only in the call that creates."""
        when = {"StringEquals": {"ec2:CreateAction": list(creators)}}
        return allow(sid, "ec2:CreateTags", *resources, when=when, because=_ANY_ID)

    @property
    def temporary(self) -> dict[str, dict[str, Any]]:
        """What a restore made for itself: also marked as temporary."""
        return {"StringEquals": {**self.ours["StringEquals"], f"aws:ResourceTag/{tags.KIND}": "temporary"}}

    @property
    def policies(self) -> Iterator[Policy]:
        """Policies that enter this account; for an Organization's role, the account is not known."""
        roles = {role.name: role.account for role in self.configuration.roles}
        known = self.account in roles.values()
        for policy in (*self.configuration.policies, *self.configuration.sla_policies):
            if roles.get(policy.source.role, "") == self.account if known else policy.source.organization:
                yield policy

    @property
    def only_receives(self) -> bool:
        """Whether replicas come into this account, and no policy protects anything in it."""
        configuration = self.configuration
        roles = {role.name: role.account for role in configuration.roles}
        every = (*configuration.policies, *configuration.sla_policies)
        targets = {roles.get(target.role) for policy in every for target in policy.replication}
        return self.account in targets and not any(self.policies)

    @property
    def trades(self) -> bool:
        """Whether the configuration has another account with which snapshots can be exchanged."""
        others = {role.account for role in self.configuration.roles} - {self.account}
        return bool(others or self.configuration.organizations)

    def default_key(self) -> Statement:
        """Tell which key is the one that AWS manages for EBS: what is under it cannot be shared."""
        return allow(
            "FindDefaultKey",
            "kms:DescribeKey",
            f"arn:{self.partition}:kms:*:{self.account}:key/*",
            when={"StringEquals": {"kms:RequestAlias": "alias/aws/ebs"}},
            because="AWS makes the key and its id, one in each Region; the condition names its alias.",
        )

    def keys(self) -> tuple[Statement, ...]:
        """Use KMS keys through EBS."""
        resource = f"arn:{self.partition}:kms:*:*:key/*"
        through = {"kms:ViaService": [f"{service}.*.{self.suffix}" for service in ("ec2", "ebs")]}
        uses = (
            "kms:Decrypt DescribeKey GenerateDataKey GenerateDataKeyWithoutPlaintext ReEncryptFrom"
            " ReEncryptTo"
        )
        granted: Conditions = {"StringLike": through, "Bool": {"kms:GrantIsForAWSResource": "true"}}
        return (
            allow("UseKeys", uses, resource, when={"StringLike": through}, because=_KEYS),
            allow("GrantKeys", "kms:CreateGrant", resource, when=granted, because=_KEYS),
        )


def may_leave(configuration: Configuration, policy: Policy) -> bool:
    """Whether replicas of the policy may belong to another account than their source."""
    roles = {role.name: role.account for role in configuration.roles}
    own = roles.get(policy.source.role)
    return any(target.role and roles.get(target.role) != own for target in policy.replication)


def backup(spoke: Spoke) -> tuple[Statement, ...]:
    """Find instances; make, tag, copy, read and remove snapshots that carry the installation's tag."""
    snapshots = spoke.ec2("snapshot", owned=False)
    # ForAllValues alone is true without keys, and a call without keys removes every tag.
    named: Conditions = {
        "ForAllValues:StringLike": {"aws:TagKeys": [f"{tags.PREFIX}*"]},
        "Null": {"aws:TagKeys": "false"},
    }
    own_tags: Conditions = {**spoke.ours, **named}
    return (
        *(() if spoke.only_receives else _of_sources(spoke)),
        allow(
            "FindInstances",
            "ec2:DescribeAddresses DescribeInstanceAttribute DescribeInstances DescribeSnapshots"
            " DescribeVolumes",
            "*",
            because=_READ_ONLY,
        ),
        allow("CopySnapshots", "ec2:CopySnapshot", snapshots, when=spoke.made_by_us, because=_ANY_ID),
        allow("CopySources", "ec2:CopySnapshot", snapshots, when=spoke.ours, because=_ANY_ID),
        *((_shared_sources(spoke),) if spoke.trades else ()),
        spoke.tagging("TagNewSnapshots", (snapshots,), "CreateSnapshots", "CopySnapshot"),
        allow("TagSnapshots", "ec2:CreateTags", snapshots, when=spoke.ours, because=_ANY_ID),
        allow("UntagSnapshots", "ec2:DeleteTags", snapshots, when=own_tags, because=_ANY_ID),
        allow("RemoveSnapshots", "ec2:DeleteSnapshot", snapshots, when=spoke.ours, because=_ANY_ID),
        *spoke.keys(),
    )


def _of_sources(spoke: Spoke) -> Iterator[Statement]:
    """Where instances are protected: make snapshots, read their blocks, lend them to another account."""
    snapshots = spoke.ec2("snapshot", owned=False)
    yield allow(
        "SnapshotSources",
        "ec2:CreateSnapshots",
        spoke.ec2("instance"),
        spoke.ec2("volume"),
        because=_SOURCES,
    )
    yield allow("MakeSnapshots", "ec2:CreateSnapshots", snapshots, when=spoke.made_by_us, because=_ANY_ID)
    yield allow(
        "ReadSnapshots",
        "ebs:ListSnapshotBlocks ListChangedBlocks GetSnapshotBlock",
        snapshots,
        when=spoke.ours,
        because=_ANY_ID,
    )
    if spoke.trades:
        yield _lent(spoke)
    if any(may_leave(spoke.configuration, policy) for policy in spoke.policies):
        yield spoke.default_key()


def _lent(spoke: Spoke) -> Statement:
    """Share our snapshots with accounts of the configuration, and never with everybody."""
    configuration = spoke.configuration
    partners = sorted({configuration.backup_account, *(role.account for role in configuration.roles)})
    # An Organization's accounts are not known here: its snapshots may go to any.
    known = {} if configuration.organizations else {"StringEqualsIfExists": {"ec2:Add/userId": partners}}
    shared: Conditions = {**spoke.ours, **known, "Null": {"ec2:Add/group": "true"}}
    snapshots = spoke.ec2("snapshot", owned=False)
    return allow("ShareSnapshots", "ec2:ModifySnapshotAttribute", snapshots, when=shared, because=_ANY_ID)


def _shared_sources(spoke: Spoke) -> Statement:
    """Copy what another account shares: its tags are not visible here, and that account chose to share it."""
    return allow(
        "CopySharedSources",
        "ec2:CopySnapshot",
        spoke.ec2("snapshot", owned=False),
        when={"StringNotEquals": {"ec2:Owner": spoke.account}},
        because=_ANY_ID,
    )


def restore(spoke: Spoke) -> tuple[Statement, ...]:
    """Write snapshots; make volumes and instances from them; remove what a restore made for itself."""
    snapshots = spoke.ec2("snapshot", owned=False)
    images = spoke.ec2("image", owned=False)
    volumes, instances = spoke.ec2("volume"), spoke.ec2("instance")
    interfaces = spoke.ec2("network-interface")
    return (
        allow(
            "SeeTarget",
            "ec2:DescribeImages DescribeInstances DescribeSnapshots DescribeVolumes",
            "*",
            because=_READ_ONLY,
        ),
        allow("StartSnapshots", "ebs:StartSnapshot", snapshots, when=spoke.made_by_us, because=_ANY_ID),
        allow(
            "WriteSnapshots",
            "ebs:PutSnapshotBlock CompleteSnapshot",
            snapshots,
            when=spoke.temporary,
            because=_ANY_ID,
        ),
        allow("MakeVolumes", "ec2:CreateVolume", volumes, when=spoke.made_by_us, because=_ANY_ID),
        # EC2 evaluates the source of a volume and of an image as a resource of the same call.
        allow("UseSnapshots", "ec2:CreateVolume RegisterImage", snapshots, when=spoke.ours, because=_ANY_ID),
        allow("RegisterImages", "ec2:RegisterImage", images, when=spoke.made_by_us, because=_ANY_ID),
        allow("LaunchImages", "ec2:RunInstances", images, when=spoke.ours, because=_ANY_ID),
        allow(
            "LaunchInstances", "ec2:RunInstances", instances, volumes, when=spoke.made_by_us, because=_ANY_ID
        ),
        allow(
            "LaunchInPlace",
            "ec2:RunInstances",
            interfaces,
            spoke.ec2("subnet"),
            spoke.ec2("security-group"),
            spoke.ec2("key-pair"),
            snapshots,
            because=_PLACES,
        ),
        spoke.tagging(
            "TagNewResources",
            (snapshots, images, volumes, instances, interfaces),
            "StartSnapshot",
            "RegisterImage",
            "CreateVolume",
            "RunInstances",
        ),
        allow(
            "TagRestored", "ec2:CreateTags", volumes, instances, interfaces, when=spoke.ours, because=_ANY_ID
        ),
        allow("RemoveTemporaryImages", "ec2:DeregisterImage", images, when=spoke.temporary, because=_ANY_ID),
        allow(
            "RemoveTemporarySnapshots", "ec2:DeleteSnapshot", snapshots, when=spoke.temporary, because=_ANY_ID
        ),
        allow(
            "PassProfiles",
            "iam:PassRole",
            f"arn:{spoke.partition}:iam::{spoke.account}:role/*",
            when={"StringEquals": {"iam:PassedToService": f"ec2.{spoke.suffix}"}},
            because="A restored instance gets the instance profile that it had, or the one asked for; the "
            "condition limits it to EC2.",
        ),
        *spoke.keys(),
    )


def organization(spoke: Spoke) -> tuple[Statement, ...]:
    """Walk the tree of the Organization."""
    return (
        allow(
            "WalkOrganization",
            "organizations:ListRoots ListAccountsForParent ListOrganizationalUnitsForParent",
            "*",
            because="The tree is not known before it is walked; these actions only read.",
        ),
    )


PIECES: Final = {Duty.BACKUP: backup, Duty.RESTORE: restore, Duty.ORGANIZATION: organization}


def statements_of(spoke: Spoke, duties: tuple[Duty, ...]) -> tuple[Statement, ...]:
    """Everything that a role with these duties may do."""
    return without_repeats(statement for duty in duties for statement in PIECES[duty](spoke))


def trust(configuration: Configuration, role: SpokeRole, organization_id: str = "") -> dict[str, Any]:
    """Who may assume a spoke role: functions of this installation, with the external id.

    The account is the principal and the roles are a condition, because a principal that names a role stops
    working when that role is deleted and made again. ``organization_id`` may be a pattern or a parameter.
    """
    site = Site.hub(configuration)
    verbs = dict.fromkeys(verb for duty in role.duties for verb in assumers(duty))
    # The principal fixes partition and account; written in every pattern, they would not fit into a policy.
    fixed = f"arn:{site.partition}:iam::{site.account}:"
    callers = [site.role_pattern(verb).replace(fixed, "arn:*:iam::*:") for verb in verbs]
    when: dict[str, dict[str, Any]] = {"ArnLike": {"aws:PrincipalArn": callers}}
    if role.external_ids:
        when["StringEquals"] = {"sts:ExternalId": list(role.external_ids)}
    if organization_id:
        when["StringLike"] = {"aws:PrincipalOrgID": organization_id}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "HoldfastFunctions",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{site.partition}:iam::{site.account}:root"},
                "Action": "sts:AssumeRole",
                "Condition": when,
            }
        ],
    }
