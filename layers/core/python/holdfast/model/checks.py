"""Checks of a configuration as a whole: names, references and combinations.

What is an error here stops synthesis; what the operator may well want, but should know, is a warning. The
checks must accept whatever the rules in ``planning`` can execute, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from holdfast.model.configuration import Configuration, Mailing, Repository
from holdfast.model.findings import Finding, Path, closest, shown
from holdfast.model.policy_checks import check_policy
from holdfast.model.regions import TIME_ZONES
from holdfast.model.sla_checks import check_sla_policy, check_sla_template, check_storage_template

_SUBJECT_VARIABLES = ("%JobName%", "%JobResult%", "%ObjectCount%", "%Issues%")


def check(configuration: Configuration) -> list[Finding]:
    """Everything that is wrong or doubtful, in the order of the configuration."""
    return [
        *_names(configuration),
        *_regions(configuration),
        *_repositories(configuration),
        *_mailing(("notifications",), configuration.notifications),
        *(
            finding
            for index, template in enumerate(configuration.sla_templates)
            for finding in check_sla_template(("sla_templates", index), template)
        ),
        *(
            finding
            for index, storage in enumerate(configuration.storage_templates)
            for finding in check_storage_template(("storage_templates", index), storage, configuration)
        ),
        *(
            finding
            for index, policy in enumerate(configuration.policies)
            for finding in check_policy(("policies", index), policy, configuration)
        ),
        *(
            finding
            for index, sla in enumerate(configuration.sla_policies)
            for finding in check_sla_policy(("sla_policies", index), sla, configuration)
        ),
        *(
            finding
            for section in ("policies", "sla_policies")
            for index, each in enumerate(getattr(configuration, section))
            for finding in (
                _mailing((section, index, "notifications"), each.notifications) if each.notifications else ()
            )
        ),
    ]


def _unique(named: Sequence[tuple[Path, str]], what: str) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for path, name in named:
        earlier = seen.setdefault(name.casefold(), name)
        if earlier is not name:
            yield Finding(
                (*path, "name"), f"the {what} name {shown(name)} is used twice", "names ignore case"
            )


def _named(configuration: Configuration, *sections: str) -> list[tuple[Path, str]]:
    return [
        ((section, index), item.name)
        for section in sections
        for index, item in enumerate(getattr(configuration, section))
    ]


def _names(configuration: Configuration) -> Iterator[Finding]:
    yield from _unique(_named(configuration, "roles", "organizations"), "role or organization")
    yield from _unique(_named(configuration, "repositories"), "repository")
    yield from _unique(_named(configuration, "policies", "sla_policies"), "policy")
    yield from _unique(_named(configuration, "sla_templates"), "SLA template")
    yield from _unique(_named(configuration, "storage_templates"), "storage template")


def _region(path: Path, region: str, known: Mapping[str, str]) -> Iterator[Finding]:
    if region not in known:
        suggestion = closest(region, known) or "a new Region becomes known by region_time_zones"
        yield Finding(path, f"there is no Region {shown(region)}", suggestion)


def _regions(configuration: Configuration) -> Iterator[Finding]:
    known = {**TIME_ZONES, **configuration.region_time_zones}
    yield from _region(("hub_region",), configuration.hub_region, known)
    for index, repository in enumerate(configuration.repositories):
        yield from _region(("repositories", index, "region"), repository.region, known)
    for index, storage in enumerate(configuration.storage_templates):
        for field in ("backups_by_region", "archives_by_region"):
            for region in getattr(storage, field):
                yield from _region(("storage_templates", index, field, region), region, known)
    for section in ("policies", "sla_policies"):
        for index, policy in enumerate(getattr(configuration, section)):
            for place, region in enumerate(policy.regions):
                yield from _region((section, index, "regions", place), region, known)
                if region in policy.regions[:place]:
                    yield Finding((section, index, "regions", place), f"the Region {region} is listed twice")
            for place, target in enumerate(policy.replication):
                yield from _region((section, index, "replication", place, "region"), target.region, known)


def _repositories(configuration: Configuration) -> Iterator[Finding]:
    places: dict[tuple[str, str], str] = {}
    for index, repository in enumerate(configuration.repositories):
        path: Path = ("repositories", index)
        earlier = places.setdefault((repository.bucket, repository.prefix), repository.name)
        if earlier != repository.name:
            yield Finding(
                (*path, "prefix"),
                f"the repository {shown(earlier)} has the same bucket and prefix",
                "give each repository a prefix of its own",
            )
        if ".." in repository.bucket:
            yield Finding(
                (*path, "bucket"), f"{shown(repository.bucket)} is not a bucket name", "no dots in a row"
            )
        yield from _encryption(path, repository)


def _encryption(path: Path, repository: Repository) -> Iterator[Finding]:
    encryption = repository.encryption
    at: Path = (*path, "encryption")
    if encryption.kind == "password" and not encryption.secret_arn:
        yield Finding(at, "encryption by password needs secret_arn", "name a Secrets Manager secret")
    for kind, field, value in (
        ("kms", "key_arn", encryption.key_arn),
        ("password", "secret_arn", encryption.secret_arn),
    ):
        if value and encryption.kind != kind:
            yield Finding(
                (*at, field),
                f"{field} has no effect with kind {encryption.kind}",
                f"did you mean kind {kind}?",
            )
    region = encryption.key_arn.split(":")[3] if encryption.key_arn else repository.region
    if region != repository.region:
        yield Finding(
            (*at, "key_arn"),
            f"the key is in {region}, the repository in {repository.region}",
            "use a key of the repository's Region",
        )


def _mailing(path: Path, mailing: Mailing) -> Iterator[Finding]:
    if mailing.recipients and not mailing.sender:
        yield Finding(
            (*path, "recipients"), "recipients need a sender", "add an address that SES may send from"
        )
    if mailing.sender and not re.fullmatch(r"[^@\s;,<>]+@[^@\s;,<>]+", mailing.sender):
        yield Finding((*path, "sender"), f"{shown(mailing.sender)} is not a mail address")
    for variable in re.findall(r"%\w+%", mailing.subject):
        if variable not in _SUBJECT_VARIABLES:
            suggestion = closest(variable, _SUBJECT_VARIABLES) or f"known: {' '.join(_SUBJECT_VARIABLES)}"
            yield Finding((*path, "subject"), f"there is no variable {variable}", suggestion)
