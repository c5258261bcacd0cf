"""Checks of policies: references, scope, and combinations of schedules, repositories and replicas.

Source: policies.md 2, 3, 3.2 and the vectors HS-7, AR-2, AR-3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from holdfast.model.configuration import Configuration, Policy, Repository, SchedulePolicy, Scripts
from holdfast.model.findings import Finding, Path, closest, dangling, shown
from holdfast.model.firings import firings, monthly_time, weekday_numbers, yearly_time
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.schedules import DayOfMonth, Keep
from holdfast.model.settable import WEEKDAYS, minutes

MINIMUM_ARCHIVE_DAYS: Final = {"GLACIER": 90, "DEEP_ARCHIVE": 180}
SCRIPT_VARIABLES: Final = ("%policy%", "%instance%", "%account%", "%region%", "%session%", "%restorePoint%")
_EXTENSIONS: Final = {"linux": ("sh",), "windows": ("exe", "bat", "cmd", "wsf", "js", "vbs", "ps1")}


def check_policy(path: Path, policy: SchedulePolicy, configuration: Configuration) -> Iterator[Finding]:
    """What is wrong with a schedule-based policy."""
    yield from check_scope(path, policy, configuration)
    made = {firing.kind for firing in firings(policy)}
    yield from check_replication(path, policy, configuration, wanted=Kind.REPLICA in made)
    yield from _targets(path, policy, configuration, made)
    yield from _archives(path, policy)
    yield from _alignment(path, policy)


def check_scope(path: Path, policy: Policy, configuration: Configuration) -> Iterator[Finding]:
    """Source, selection, tags and guest processing, which both kinds of policies have."""
    yield from _source(path, policy, configuration)
    chosen = policy.selection
    if not (chosen.all or chosen.instances or chosen.tags):
        yield Finding((*path, "selection"), "nothing is selected", "use `all: true`, `instances` or `tags`")
    if chosen.all and (chosen.instances or chosen.tags):
        yield Finding(
            (*path, "selection", "all"), "`all` already includes `instances` and `tags`", warning=True
        )
    yield from _custom_tags(path, policy)
    yield from _guest(path, policy)


def _source(path: Path, policy: Policy, configuration: Configuration) -> Iterator[Finding]:
    source = policy.source
    at: Path = (*path, "source")
    if bool(source.role) == bool(source.organization):
        yield Finding(at, "the source is either a role or an organization", "give exactly one of them")
        return
    if source.role:
        roles = [role.name for role in configuration.roles]
        if source.role not in roles:
            yield dangling((*at, "role"), "role", source.role, roles, "roles")
        for field in ("units", "exclude_units", "exclude_accounts"):
            if getattr(source, field):
                yield Finding(
                    (*at, field), f"{field} has no effect with a role", "it belongs to an organization"
                )
        return
    organizations = [organization.name for organization in configuration.organizations]
    if source.organization not in organizations:
        yield dangling(
            (*at, "organization"), "organization", source.organization, organizations, "organizations"
        )
    for index, unit in enumerate(source.exclude_units):
        if unit in source.units:
            yield Finding((*at, "exclude_units", index), f"the unit {unit} is included and excluded")


def _custom_tags(path: Path, policy: Policy) -> Iterator[Finding]:
    for key, value in policy.tags.custom.items():
        at: Path = (*path, "tags", "custom", key)
        if key.casefold().startswith(("aws:", "holdfast:")):
            yield Finding(at, f"tag keys that start with {key.split(':')[0]}: are reserved", at_key=True)
        if not 1 <= len(key) <= 128:
            yield Finding(at, "a tag key has 1 to 128 characters", at_key=True)
        if len(value) > 256:
            yield Finding(at, "a tag value has at most 256 characters")


def _guest(path: Path, policy: Policy) -> Iterator[Finding]:
    at: Path = (*path, "guest")
    if policy.guest.application_aware and (policy.exclude_volumes.volumes or policy.exclude_volumes.tags):
        yield Finding(
            (*at, "application_aware"),
            "with VSS only system volumes can be excluded",
            "instances with other excluded volumes get a crash-consistent snapshot",
            warning=True,
        )
    for system in ("linux", "windows"):
        scripts = getattr(policy.guest, system)
        if scripts:
            yield from _scripts((*at, system), scripts, _EXTENSIONS[system])


def _scripts(path: Path, scripts: Scripts, extensions: tuple[str, ...]) -> Iterator[Finding]:
    for field in ("before", "after"):
        script = getattr(scripts, field)
        if script and script.rpartition(".")[2].casefold() not in extensions:
            yield Finding(
                (*path, field), f"{shown(script)} cannot be run here", f"supported: {' '.join(extensions)}"
            )
        for variable in re.findall(r"%\w+%", getattr(scripts, f"{field}_arguments")):
            if variable not in SCRIPT_VARIABLES:
                suggestion = closest(variable, SCRIPT_VARIABLES) or f"known: {' '.join(SCRIPT_VARIABLES)}"
                yield Finding((*path, f"{field}_arguments"), f"there is no variable {variable}", suggestion)


def check_replication(
    path: Path, policy: Policy, configuration: Configuration, *, wanted: bool
) -> Iterator[Finding]:
    """The mapping of source Regions to targets. ``wanted``: whether a schedule makes replicas."""
    roles = {role.name: role for role in configuration.roles}
    mapped: set[str] = set()
    for index, target in enumerate(policy.replication):
        at: Path = (*path, "replication", index)
        if target.source_region in mapped:
            yield Finding(
                (*at, "source_region"), f"{target.source_region} has two targets", "one for each Region"
            )
        mapped.add(target.source_region)
        if target.source_region not in policy.regions:
            suggestion = closest(target.source_region, policy.regions) or "add it to `regions`"
            yield Finding(
                (*at, "source_region"), f"{target.source_region} is not a Region of the policy", suggestion
            )
        if target.role and target.role not in roles:
            yield dangling((*at, "role"), "role", target.role, roles, "roles")
        own = roles.get(policy.source.role)
        account = roles[target.role].account if target.role in roles else ""
        if target.region == target.source_region and account in ("", own.account if own else ""):
            yield Finding(
                (*at, "region"), "the replica would lie beside its source", "choose another Region or account"
            )
        if target.key_arn and target.key_arn.split(":")[3] != target.region:
            yield Finding(
                (*at, "key_arn"), f"the key is not in {target.region}", "use a key of the target Region"
            )
        if target.encrypt == "all" and not target.key_arn:
            yield Finding(
                (*at, "encrypt"), "encrypting all volumes needs key_arn", "name a key of the target Region"
            )
    if wanted:
        for index, region in enumerate(policy.regions):
            if region not in mapped:
                yield Finding(
                    (*path, "regions", index),
                    f"{region} has no replication target",
                    "add it to `replication`",
                )
    elif policy.replication:
        yield Finding(
            (*path, "replication"), "no schedule makes replicas", "add `replicas`", warning=True, at_key=True
        )


def _find(configuration: Configuration, name: str) -> Repository | None:
    return next((repository for repository in configuration.repositories if repository.name == name), None)


def check_repositories(
    path: Path, archive_path: Path, standard: str, archive: str, configuration: Configuration
) -> Iterator[Finding]:
    """That two names are repositories of the right storage class, both encrypted or both not."""
    names = [repository.name for repository in configuration.repositories]
    found = {}
    for at, name, want in ((path, standard, "STANDARD"), (archive_path, archive, "archive")):
        repository = found[want] = _find(configuration, name)
        if not name:
            continue
        if repository is None:
            yield dangling(at, "repository", name, names, "repositories")
        elif (repository.storage_class == "STANDARD") != (want == "STANDARD"):
            need = "STANDARD" if want == "STANDARD" else "GLACIER or DEEP_ARCHIVE"
            yield Finding(
                at, f"{shown(name)} has storage class {repository.storage_class}", f"it must be {need}"
            )
    first, second = found["STANDARD"], found["archive"]
    if first and second and (first.encryption.kind == "none") != (second.encryption.kind == "none"):
        yield Finding(
            archive_path,
            f"{shown(standard)} and {shown(archive)} must both be encrypted, or both not",
            "kms and password may mix",
        )


def archive_warning(path: Path, keep: Keep, repository: Repository | None) -> Iterator[Finding]:
    """A warning when an archive goes before the storage class's minimum, which is paid anyway."""
    minimum = MINIMUM_ARCHIVE_DAYS.get(repository.storage_class, 0) if repository else 0
    days = keep.days or 30 * (keep.months or 0) or 365 * (keep.years or 0)
    if days < minimum:
        yield Finding(
            path,
            f"archives in {repository.storage_class if repository else ''} cost {minimum} days at least",
            f"keep them {minimum} days or longer",
            warning=True,
        )


def _targets(
    path: Path, policy: SchedulePolicy, configuration: Configuration, made: set[Kind]
) -> Iterator[Finding]:
    yield from check_repositories(
        (*path, "repository"),
        (*path, "archive_repository"),
        policy.repository,
        policy.archive_repository,
        configuration,
    )
    if not policy.repository:
        for name, schedule in _schedules(policy):
            if getattr(schedule, "backups", None):
                yield Finding(
                    (*path, name, "backups"), "backups need a repository", "name one in `repository`"
                )
        if policy.archive_repository:
            yield Finding(
                (*path, "archive_repository"), "archives need backups", "name a `repository` for backups"
            )
        if policy.health_check:
            yield Finding(
                (*path, "health_check"), "health checks need backups", "name a `repository` for backups"
            )
    elif Kind.BACKUP not in made:
        yield Finding(
            (*path, "repository"), "no schedule makes backups", "add `backups` to a schedule", warning=True
        )
    repository = _find(configuration, policy.repository)
    if repository and repository.immutable and not made:
        yield Finding(
            (*path, "repository"),
            f"{shown(repository.name)} is immutable, so the policy needs a schedule",
            "a manual run takes its retention from the most frequent schedule",
        )
    for name in ("monthly", "yearly"):
        archive = getattr(getattr(policy, name), "archive", None)
        if archive and not policy.archive_repository:
            yield Finding(
                (*path, name, "archive"), "archives need a repository", "name one in `archive_repository`"
            )
        elif archive:
            target = _find(configuration, policy.archive_repository)
            yield from archive_warning((*path, name, "archive"), archive.keep, target)


def _schedules(policy: SchedulePolicy) -> Iterator[tuple[str, object]]:
    for name in ("daily", "weekly", "monthly", "yearly"):
        schedule = getattr(policy, name)
        if schedule:
            yield name, schedule


def _archives(path: Path, policy: SchedulePolicy) -> Iterator[Finding]:
    """A schedule that archives makes no standard backups, and needs a more frequent one that does."""
    backups = {firing.flag for firing in firings(policy) if firing.kind is Kind.BACKUP}
    for name, schedule, frequent in (
        ("monthly", policy.monthly, {Flag.DAILY, Flag.WEEKLY}),
        ("yearly", policy.yearly, {Flag.DAILY, Flag.WEEKLY, Flag.MONTHLY}),
    ):
        if not (schedule and schedule.enabled and schedule.archive):
            continue
        if schedule.backups:
            yield Finding(
                (*path, name, "archive"), f"the {name} schedule archives, so it cannot make backups too"
            )
        if not backups & frequent:
            need = "daily or weekly" if name == "monthly" else "daily, weekly or monthly"
            yield Finding(
                (*path, name, "archive"), f"{name} archives need {need} backups", "the archive reads them"
            )
    if policy.yearly and policy.yearly.enabled and not (policy.yearly.backups or policy.yearly.archive):
        yield Finding((*path, "yearly"), "the yearly schedule makes nothing", "add `backups` or `archive`")


def _daily_snapshots(policy: SchedulePolicy) -> tuple[set[int], frozenset[int]]:
    """Minutes of the day and weekdays of the daily schedule's snapshots."""
    daily = [f for f in firings(policy) if f.flag is Flag.DAILY and f.kind is Kind.SNAPSHOT]
    return {f.minute for f in daily}, daily[0].days.weekdays if daily else frozenset()


def _weekly_days(policy: SchedulePolicy) -> frozenset[int]:
    """Weekdays on which the enabled weekly schedule makes something."""
    return frozenset(day for f in firings(policy) if f.flag is Flag.WEEKLY for day in f.days.weekdays)


def _alignment(path: Path, policy: SchedulePolicy) -> Iterator[Finding]:
    """Less frequent slots must coincide with more frequent ones; only a day of the month is free."""
    times, days = _daily_snapshots(policy)
    weekly_days = _weekly_days(policy)
    if policy.weekly and times and weekly_days:
        if minutes(policy.weekly.time) not in times:
            yield Finding(
                (*path, "weekly", "time"), f"no daily snapshot runs at {policy.weekly.time}", _listed(times)
            )
        if not weekly_days <= days:
            extra = ", ".join(WEEKDAYS[day] for day in sorted(weekly_days - days))
            yield Finding(
                (*path, "weekly"), f"the daily schedule does not run on {extra}", "add the days there"
            )
    makes = {f.flag for f in firings(policy)}
    if policy.monthly and Flag.MONTHLY in makes:
        yield from _aligned((*path, "monthly"), policy, policy.monthly.run_on, monthly_time(policy))
    if policy.yearly and Flag.YEARLY in makes:
        yield from _aligned((*path, "yearly"), policy, policy.yearly.run_on, yearly_time(policy))


def _aligned(path: Path, policy: SchedulePolicy, on: DayOfMonth, time: str) -> Iterator[Finding]:
    """That an ordinal weekday falls on a slot of the weekly schedule, or else of the daily one."""
    if on.weekday is None:
        return
    weekly = _weekly_days(policy)
    times, days = _daily_snapshots(policy)
    if weekly and policy.weekly:
        times, days, what = {minutes(policy.weekly.time)}, weekly, "weekly"
    elif times:
        what = "daily"
    else:
        return
    if minutes(time) not in times:
        yield Finding((*path, "time"), f"the {what} schedule does not run at {time}", _listed(times))
    if not weekday_numbers((on.weekday,)) <= days:
        yield Finding(
            (*path, "run_on"), f"the {what} schedule does not run on {on.weekday}", "or use a `day`"
        )


def _listed(times: set[int]) -> str:
    listed = [f"{minute // 60:02}:{minute % 60:02}" for minute in sorted(times)]
    return f"it runs at {', '.join(listed[:6])}{', ...' if len(listed) > 6 else ''}"
