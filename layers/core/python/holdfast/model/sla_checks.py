"""Checks of SLA templates, storage templates and SLA policies. Source: policies.md 4.

A template's schedules must have somewhere to put what they make.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from zoneinfo import ZoneInfo

from holdfast.model.configuration import Configuration, SlaPolicy, SlaTemplate, StorageTemplate
from holdfast.model.findings import Finding, Path, dangling
from holdfast.model.policy_checks import archive_warning, check_replication, check_repositories, check_scope
from holdfast.model.regions import TIME_ZONES
from holdfast.model.sla import Cadences
from holdfast.model.windows import never_pauses


def _makes(cadences: Cadences | None) -> bool:
    return cadences is not None and bool(cadences.daily or cadences.weekly or cadences.monthly)


def check_sla_template(path: Path, template: SlaTemplate) -> Iterator[Finding]:
    """That the template promises something, and that what is derived has a source."""
    for field in ("snapshots", "backups"):
        if getattr(template, field) is not None and not _makes(getattr(template, field)):
            yield Finding((*path, field), f"`{field}` has no cadence", "add `daily`, `weekly` or `monthly`")
    if template.snapshots is None and template.backups is None:
        yield Finding(path, "the template promises nothing", "add `snapshots` or `backups`")
    if template.replicas and template.snapshots is None:
        yield Finding((*path, "replicas"), "replicas need snapshots", "add `snapshots`")
    for field in ("archives", "health_check"):
        if getattr(template, field) and template.backups is None:
            yield Finding((*path, field), f"{field.replace('_', ' ')} need backups", "add `backups`")


def check_storage_template(
    path: Path, storage: StorageTemplate, configuration: Configuration
) -> Iterator[Finding]:
    """That every location is a repository of the right kind, for each Region."""
    if storage.archives and not storage.backups:
        yield Finding((*path, "archives"), "archives need backups", "name a repository in `backups`")
    yield from check_repositories(
        (*path, "backups"), (*path, "archives"), storage.backups, storage.archives, configuration
    )
    for region in sorted({*storage.backups_by_region, *storage.archives_by_region}):
        at = (
            (*path, "backups_by_region", region)
            if region in storage.backups_by_region
            else (*path, "backups")
        )
        archive_at = (
            (*path, "archives_by_region", region)
            if region in storage.archives_by_region
            else (*path, "archives")
        )
        yield from check_repositories(
            at, archive_at, storage.repository_for(region), storage.archive_for(region), configuration
        )


def check_sla_policy(path: Path, policy: SlaPolicy, configuration: Configuration) -> Iterator[Finding]:
    """Scope, templates, and that the storage has a place for everything that the template makes."""
    yield from check_scope(path, policy, configuration)
    templates = {template.name: template for template in configuration.sla_templates}
    storages = {storage.name: storage for storage in configuration.storage_templates}
    template, storage = templates.get(policy.sla_template), storages.get(policy.storage_template)
    if template is None:
        yield dangling(
            (*path, "sla_template"), "SLA template", policy.sla_template, templates, "sla_templates"
        )
    if policy.storage_template and storage is None:
        yield dangling(
            (*path, "storage_template"),
            "storage template",
            policy.storage_template,
            storages,
            "storage_templates",
        )
    if template is None or (policy.storage_template and storage is None):
        return
    yield from check_replication(path, policy, configuration, wanted=template.replicas is not None)
    yield from _locations(path, policy, template, storage, configuration)


def _locations(
    path: Path,
    policy: SlaPolicy,
    template: SlaTemplate,
    storage: StorageTemplate | None,
    configuration: Configuration,
) -> Iterator[Finding]:
    repositories = {repository.name: repository for repository in configuration.repositories}
    for region in policy.regions:
        if template.backups and not (storage and storage.repository_for(region)):
            yield Finding((*path, "storage_template"), f"backups of {region} have no repository")
        if template.archives and not (storage and storage.archive_for(region)):
            yield Finding((*path, "storage_template"), f"archives of {region} have no repository")
        elif template.archives and storage:
            target = repositories.get(storage.archive_for(region))
            yield from archive_warning((*path, "sla_template"), template.archives.keep, target)
    if template.backups and _never_pauses(policy, template, configuration):
        everywhere = " in all its Regions together" if len(policy.regions) > 1 else ""
        yield Finding(
            (*path, "sla_template"),
            f"the backup window never closes{everywhere}, so retention and backups run at the same time",
            "leave a gap in `backup_window`, or make a policy for each part of the world",
            warning=True,
        )


def _never_pauses(policy: SlaPolicy, template: SlaTemplate, configuration: Configuration) -> bool:
    """Whether some window is always open, in winter or in summer."""
    own = configuration.region_time_zones
    names = {own.get(region) or TIME_ZONES.get(region) for region in policy.regions}
    zones = [ZoneInfo(name) for name in names if name]
    return any(never_pauses(template, zones, on) for on in (date(2026, 1, 15), date(2026, 7, 15)))
