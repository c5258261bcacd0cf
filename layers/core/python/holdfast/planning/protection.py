"""What a policy of either kind says about one Region: repository, time zone, retention, CBT.

Sessions ask here and nowhere else, so that a step need not know whether a schedule or an SLA template is
behind its policy. Source: policies.md 1, 3, 4.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy, SlaTemplate, StorageTemplate
from holdfast.model.restore_point import Kind
from holdfast.planning.retention import Rule, keeps_cbt_base, rule_for
from holdfast.planning.sla import region_zone, sla_rule


def template_of(configuration: Configuration, policy: SlaPolicy) -> SlaTemplate:
    """The SLA template of a policy. Raises ConfigurationError."""
    for template in configuration.sla_templates:
        if template.name == policy.sla_template:
            return template
    raise ConfigurationError(
        f"There is no SLA template {policy.sla_template!r}.",
        resource=policy.name,
        remedy="Add it under `sla_templates`.",
    )


def _storage(configuration: Configuration, policy: SlaPolicy) -> StorageTemplate | None:
    found = (one for one in configuration.storage_templates if one.name == policy.storage_template)
    return next(found, None)


def repository_for(configuration: Configuration, policy: AnyPolicy, region: str) -> str:
    """The repository for backups of instances in ``region``; empty: none."""
    if not isinstance(policy, SlaPolicy):
        return policy.repository
    storage = _storage(configuration, policy)
    return storage.repository_for(region) if storage else ""


def archive_for(configuration: Configuration, policy: AnyPolicy, region: str) -> str:
    """The repository for archives of instances in ``region``; empty: none."""
    if not isinstance(policy, SlaPolicy):
        return policy.archive_repository
    storage = _storage(configuration, policy)
    return storage.archive_for(region) if storage else ""


def zone_of(configuration: Configuration, policy: AnyPolicy, region: str) -> ZoneInfo:
    """The time zone in which the policy's slots of ``region`` are meant. Raises ConfigurationError."""
    if isinstance(policy, SlaPolicy):
        return region_zone(configuration, region)
    return ZoneInfo(policy.time_zone)


def rule_of(configuration: Configuration, policy: AnyPolicy, kind: Kind, region: str) -> Rule:
    """What the policy keeps of one kind of restore points of instances in ``region``."""
    if not isinstance(policy, SlaPolicy):
        return rule_for(policy, kind)
    zone = region_zone(configuration, region)
    return sla_rule(template_of(configuration, policy), kind, zone, policy.keep_last)


def keeps_base(configuration: Configuration, policy: AnyPolicy) -> bool:
    """Whether the snapshot that the next backup compares with is kept although retention would remove it."""
    if not isinstance(policy, SlaPolicy):
        return keeps_cbt_base(policy)
    template = template_of(configuration, policy)
    return template.cbt and template.backups is not None and bool(policy.storage_template)
