"""What the configuration can say and sessions do not execute yet.

A setting without effect would leave an operator believing in a copy that nobody makes: what concerns
protection is an error here, the rest a warning. A line goes when its feature comes.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.model.configuration import Configuration, Policy, SchedulePolicy, SlaTemplate
from holdfast.model.findings import Finding, Path

_INSTEAD = "remove it; this version does not execute it"


def unavailable(configuration: Configuration) -> Iterator[Finding]:
    """A finding for every setting that would have no effect."""
    for index, repository in enumerate(configuration.repositories):
        if repository.immutable:
            yield _missing(("repositories", index, "immutable"), "immutable repositories")
    for index, template in enumerate(configuration.sla_templates):
        yield from _in_template(("sla_templates", index), template)
    for index, sla in enumerate(configuration.sla_policies):
        yield from _in_guest(("sla_policies", index), sla)
    for index, policy in enumerate(configuration.policies):
        yield from _in_policy(("policies", index), policy)
    if configuration.daily_report:
        yield _missing(("daily_report",), "the daily report", warning=True)


def _in_policy(path: Path, policy: SchedulePolicy) -> Iterator[Finding]:
    for name in ("daily", "weekly", "monthly", "yearly"):
        schedule = getattr(policy, name)
        if getattr(schedule, "archive", None) is not None:
            yield _missing((*path, name, "archive"), "scheduled archives")
    yield from _in_guest(path, policy)
    if policy.health_check:
        yield _missing((*path, "health_check"), "scheduled health checks", warning=True)


def _in_guest(path: Path, policy: Policy) -> Iterator[Finding]:
    if policy.guest.application_aware or policy.guest.linux or policy.guest.windows:
        yield _missing((*path, "guest"), "guest processing")


def _in_template(path: Path, template: SlaTemplate) -> Iterator[Finding]:
    if template.archives is not None:
        yield _missing((*path, "archives"), "archives of SLA templates")
    if template.health_check:
        yield _missing((*path, "health_check"), "scheduled health checks", warning=True)


def _missing(path: Path, what: str, *, warning: bool = False) -> Finding:
    return Finding(path, f"not available yet: {what}", _INSTEAD, warning, at_key=True)
