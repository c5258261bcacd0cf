"""Names, references and combinations in a configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from holdfast.model.checks import check
from tests.vectors.policies import BASIS, REGION, configuration, errors, warnings

COMPANY = {"name": "company", "management_role": "arn:aws:iam::777788889999:role/Organization"}
TEMPLATE = {"name": "t", "snapshots": {"daily": {"hours": 1}}}
BACKED = {
    "name": "t",
    "backups": {"daily": {"hours": 1}},
    "backup_window": {"start": "01:00", "end": "05:00"},
}
STORAGE = {"name": "s", "backups": "standard", "archives": "archive"}
SLA = BASIS | {"sla_template": "t"}
DAILY = {"daily": {"snapshots": {"hours": [7]}}}
MONDAYS = {"weekly": {"time": "07:00", "backups": {"days": ["mon"]}}, "repository": "standard"}


def said(policy: dict | None = None, **parts: object) -> list[str]:
    policies = [BASIS | policy] if policy is not None else []
    return errors(configuration(*policies, **parts))


def sla(policy: dict, *templates: dict, **parts: object) -> list[str]:
    whole = {"sla_policies": [SLA | policy], "sla_templates": list(templates or [TEMPLATE]), **parts}
    return errors(configuration(**whole))


def test_a_configuration_that_rules_can_execute_has_no_errors():
    assert said(DAILY | MONDAYS) == []
    assert sla({}) == []
    assert sla({"storage_template": "s"}, BACKED, storage_templates=[STORAGE]) == []


@pytest.mark.parametrize(
    "policy, error",
    [
        ({"selection": {}}, "nothing is selected"),
        ({"source": {}}, "the source is either a role or an organization"),
        (
            {"source": {"role": "role", "organization": "company"}},
            "the source is either a role or an organization",
        ),
        ({"source": {"role": "rol"}}, "there is no role 'rol'"),
        ({"source": {"organization": "companies"}}, "there is no organization 'companies'"),
        (
            {"source": {"role": "role", "exclude_accounts": ["000000000001"]}},
            "exclude_accounts has no effect",
        ),
        (
            {
                "source": {
                    "organization": "company",
                    "units": ["ou-root-includes"],
                    "exclude_units": ["ou-root-includes"],
                }
            },
            "is included and excluded",
        ),
        ({"regions": [REGION, REGION]}, "is listed twice"),
        ({"regions": ["us-esat-1"]}, "there is no Region 'us-esat-1'"),
        ({"tags": {"custom": {"aws:x": "y"}}}, "tag keys that start with aws:"),
        ({"tags": {"custom": {"Holdfast:x": "y"}}}, "tag keys that start with Holdfast:"),
        ({"tags": {"custom": {"": "y"}}}, "a tag key has 1 to 128"),
        ({"tags": {"custom": {"x": "y" * 257}}}, "a tag value has at most 256"),
        ({"guest": {"linux": {"before": "freeze.exe"}}}, "'freeze.exe' cannot be run here"),
        ({"guest": {"windows": {"after": "thaw.sh"}}}, "'thaw.sh' cannot be run here"),
        ({"guest": {"linux": {"before_arguments": "%polcy%"}}}, "there is no variable %polcy%"),
        ({"daily": {"backups": {"hours": [1]}}}, "backups need a repository"),
        ({"archive_repository": "archive"}, "archives need backups"),
        ({"health_check": {}}, "health checks need backups"),
        ({"repository": "standrad"}, "there is no repository 'standrad'"),
        ({"repository": "archive"}, "'archive' has storage class GLACIER"),
        (
            {"repository": "standard", "archive_repository": "standard"},
            "'standard' has storage class STANDARD",
        ),
        (
            DAILY | {"weekly": {"time": "08:00", "snapshots": {"days": ["mon"]}}},
            "no daily snapshot runs at 08:00",
        ),
        (
            {
                "daily": {"days": ["tue"], "snapshots": {"hours": [0]}},
                "weekly": {"snapshots": {"days": ["mon"]}},
            },
            "the daily schedule does not run on mon",
        ),
        (
            DAILY | {"monthly": {"time": "08:00", "snapshots": {"months": "all"}}},
            "the daily schedule does not run at 08:00",
        ),
        (
            MONDAYS | {"yearly": {"run_on": {"ordinal": "last", "weekday": "fri"}, "backups": {}}},
            "the weekly schedule does not run on fri",
        ),
        (MONDAYS | {"monthly": {"archive": {"months": "all"}}}, "archives need a repository"),
        (MONDAYS | {"yearly": {}}, "the yearly schedule makes nothing"),
    ],
)
def test_an_impossible_schedule_policy_is_refused(policy, error):
    found = said(policy, organizations=[COMPANY])
    assert any(error in each for each in found), found


@pytest.mark.parametrize(
    "target, error",
    [
        ({"source_region": "us-west-2"}, "us-west-2 is not a Region of the policy"),
        ({"region": "eu-wst-1"}, "there is no Region 'eu-wst-1'"),
        ({"region": REGION}, "the replica would lie beside its source"),
        ({"role": "gone"}, "there is no role 'gone'"),
        ({"key_arn": "arn:aws:kms:us-east-1:444455556666:key/x"}, "the key is not in eu-west-1"),
        ({"encrypt": "all"}, "encrypting all volumes needs key_arn"),
    ],
)
def test_an_impossible_replication_target_is_refused(target, error):
    replication = [{"source_region": REGION, "region": "eu-west-1"} | target]
    found = said({"daily": {"replicas": {"hours": [7]}}, "replication": replication})
    assert any(error in each for each in found), found


def test_every_region_has_exactly_one_target_when_replicas_are_scheduled():
    target = {"source_region": REGION, "region": "eu-west-1"}
    replicas = {"daily": {"replicas": {"hours": [7]}}}
    assert said(replicas | {"replication": [target]}) == []
    assert said(replicas) == [f"{REGION} has no replication target"]
    assert said(replicas | {"replication": [target, target]}) == [f"{REGION} has two targets"]


def test_a_replica_in_the_same_region_of_another_account_is_allowed():
    roles = [
        {"name": "role", "arn": "arn:aws:iam::444455556666:role/HoldfastBackup"},
        {"name": "other", "arn": "arn:aws:iam::111122223333:role/HoldfastReplica"},
    ]
    replication = [{"source_region": REGION, "region": REGION, "role": "other"}]
    assert said({"daily": {"replicas": {"hours": [7]}}, "replication": replication}, roles=roles) == []


@pytest.mark.parametrize(
    "parts, error",
    [
        ({"hub_region": "eu-centrall-1"}, "there is no Region 'eu-centrall-1'"),
        (
            {"organizations": [COMPANY | {"name": "ROLE"}]},
            "the role or organization name 'ROLE' is used twice",
        ),
        ({"sla_templates": [TEMPLATE, TEMPLATE | {"name": "T"}]}, "the SLA template name 'T' is used twice"),
        (
            {"storage_templates": [{"name": "a"}, {"name": "A"}]},
            "the storage template name 'A' is used twice",
        ),
        ({"notifications": {"recipients": ["a@example.com"]}}, "recipients need a sender"),
        ({"notifications": {"sender": "nobody"}}, "'nobody' is not a mail address"),
        ({"notifications": {"subject": "%JobNme% %Other%"}}, "there is no variable %JobNme%"),
        ({"sla_templates": [{"name": "t"}]}, "the template promises nothing"),
        ({"sla_templates": [{"name": "t", "snapshots": {}}]}, "`snapshots` has no cadence"),
        ({"sla_templates": [BACKED | {"replicas": {}}]}, "replicas need snapshots"),
        ({"sla_templates": [TEMPLATE | {"archives": {"months": [1]}}]}, "archives need backups"),
        ({"sla_templates": [TEMPLATE | {"health_check": {}}]}, "health check need backups"),
        ({"storage_templates": [{"name": "s", "archives": "archive"}]}, "archives need backups"),
        ({"storage_templates": [{"name": "s", "backups": "archive"}]}, "it must be STANDARD"),
        (
            {"storage_templates": [STORAGE | {"backups_by_region": {"us-west-2": "gone"}}]},
            "there is no repository 'gone'",
        ),
        (
            {"storage_templates": [STORAGE | {"archives_by_region": {"us-wst-2": "archive"}}]},
            "there is no Region 'us-wst-2'",
        ),
    ],
)
def test_what_is_wrong_outside_policies_is_refused(parts, error):
    found = [f"{finding.message} {finding.suggestion}" for finding in check(configuration(**parts))]
    assert any(error in each for each in found), found


def repository(**parts: object) -> dict:
    return {"name": "main", "bucket": "main-bucket", "region": REGION} | parts


@pytest.mark.parametrize(
    "repositories, error",
    [
        ([repository(), repository(name="MAIN", prefix="other")], "the repository name 'MAIN' is used twice"),
        ([repository(), repository(name="other")], "the repository 'main' has the same bucket and prefix"),
        ([repository(bucket="a..b")], "'a..b' is not a bucket name"),
        ([repository(region="us-esat-1")], "there is no Region 'us-esat-1'"),
        ([repository(encryption={"kind": "password"})], "encryption by password needs secret_arn"),
        (
            [repository(encryption={"key_arn": "arn:aws:kms:us-east-1:111122223333:key/x"})],
            "key_arn has no effect with kind none",
        ),
        (
            [
                repository(
                    encryption={
                        "kind": "kms",
                        "secret_arn": "arn:aws:secretsmanager:us-east-1:111122223333:secret:x",
                    }
                )
            ],
            "secret_arn has no effect with kind kms",
        ),
        (
            [repository(encryption={"kind": "kms", "key_arn": "arn:aws:kms:eu-west-1:111122223333:key/x"})],
            "the key is in eu-west-1, the repository in us-east-1",
        ),
    ],
)
def test_an_impossible_repository_is_refused(repositories, error):
    assert error in said(repositories=repositories)


def test_both_kinds_of_policies_share_one_name_space():
    found = errors(configuration(BASIS, sla_templates=[TEMPLATE], sla_policies=[SLA | {"name": "POLICY"}]))
    assert found == ["the policy name 'POLICY' is used twice"]


@pytest.mark.parametrize(
    "section, field, most",
    [
        ("policies", "name", 127),
        ("policies", "description", 255),
        ("sla_templates", "name", 127),
        ("sla_templates", "description", 255),
        ("storage_templates", "name", 127),
        ("storage_templates", "description", 255),
        ("repositories", "name", 125),
        ("repositories", "description", 1024),
        ("repositories", "prefix", 125),
        ("roles", "name", 127),
        ("organizations", "description", 255),
    ],
)
def test_names_and_descriptions_have_their_limits(section, field, most):
    item = {
        "policies": BASIS,
        "sla_templates": TEMPLATE,
        "storage_templates": STORAGE,
        "repositories": repository(),
        "roles": {"name": "role", "arn": "arn:aws:iam::444455556666:role/HoldfastBackup"},
        "organizations": COMPANY,
    }[section]
    configuration(**{section: [item | {field: "x" * most}]})
    with pytest.raises(ValidationError):
        configuration(**{section: [item | {field: "x" * (most + 1)}]})


@pytest.mark.parametrize(
    "policy, template, error",
    [
        ({"sla_template": "x"}, TEMPLATE, "there is no SLA template 'x'"),
        ({"storage_template": "x"}, TEMPLATE, "there is no storage template 'x'"),
        ({}, BACKED, f"backups of {REGION} have no repository"),
        ({"storage_template": "empty"}, BACKED, f"backups of {REGION} have no repository"),
        (
            {"storage_template": "no archive"},
            BACKED | {"archives": {"months": [1]}},
            f"archives of {REGION} have no repository",
        ),
        ({}, TEMPLATE | {"replicas": {}}, f"{REGION} has no replication target"),
        ({"source": {"role": "x"}}, TEMPLATE, "there is no role 'x'"),
    ],
)
def test_an_impossible_sla_policy_is_refused(policy, template, error):
    storages = [{"name": "empty"}, {"name": "no archive", "backups": "standard"}]
    assert error in sla(policy, template, storage_templates=storages)


def test_the_repository_of_each_region_is_checked_with_the_archive_of_the_same_region():
    encrypted = {"kind": "kms"}
    repositories = [
        repository(name="standard"),
        repository(name="sealed", bucket="sealed-bucket", encryption=encrypted),
        repository(name="archive", bucket="archive-bucket", storage_class="DEEP_ARCHIVE"),
    ]
    storage = STORAGE | {"backups_by_region": {"us-west-2": "sealed"}}
    assert said(repositories=repositories, storage_templates=[storage]) == [
        "'sealed' and 'archive' must both be encrypted, or both not"
    ]


@pytest.mark.parametrize(
    "policy, warning",
    [
        ({"selection": {"all": True, "instances": ["i-0123456789abcdef0"]}}, "`all` already includes"),
        (DAILY | {"repository": "standard"}, "no schedule makes backups"),
        (
            DAILY | {"replication": [{"source_region": REGION, "region": "eu-west-1"}]},
            "no schedule makes replicas",
        ),
        (
            {"guest": {"application_aware": True}, "exclude_volumes": {"volumes": ["vol-0123456789abcdef0"]}},
            "with VSS only system volumes can be excluded",
        ),
    ],
)
def test_what_an_operator_may_want_but_should_know_is_a_warning(policy, warning):
    made = configuration(BASIS | policy)
    assert errors(made) == []
    assert any(warning in each for each in warnings(made))


def test_an_sla_template_without_a_pause_is_a_warning():
    always = {"name": "t", "backups": {"daily": {"hours": 1}}}
    made = configuration(
        sla_templates=[always], storage_templates=[STORAGE], sla_policies=[SLA | {"storage_template": "s"}]
    )
    assert errors(made) == []
    assert any("the backup window never closes" in each for each in warnings(made))


@pytest.mark.parametrize(
    "regions, told",
    [
        (["eu-west-1"], False),
        (["eu-west-1", "ap-southeast-1", "us-west-2"], True),
    ],
)
def test_windows_that_cover_the_day_over_all_regions_together_are_a_warning(regions: list[str], told: bool):
    long = {
        "name": "t",
        "backups": {"daily": {"hours": 1}},
        "backup_window": {"start": "00:00", "end": "12:00"},
    }
    made = configuration(
        sla_templates=[long],
        storage_templates=[STORAGE],
        sla_policies=[SLA | {"storage_template": "s", "regions": regions}],
    )
    assert errors(made) == []
    assert any("never closes in all its Regions together" in each for each in warnings(made)) is told


def test_a_short_sla_archive_is_a_warning():
    short = BACKED | {"archives": {"months": [1], "keep": "89 days"}}
    made = configuration(
        sla_templates=[short], storage_templates=[STORAGE], sla_policies=[SLA | {"storage_template": "s"}]
    )
    assert errors(made) == []
    assert warnings(made) == ["archives in GLACIER cost 90 days at least"]


def test_a_new_region_becomes_known_by_its_time_zone():
    made = {"hub_region": "xx-new-1"}
    assert said(**made) == ["there is no Region 'xx-new-1'"]
    assert said(**made, region_time_zones={"xx-new-1": "Asia/Tokyo"}) == []


def test_a_dangling_reference_names_what_is_configured():
    finding = next(f for f in check(configuration(BASIS | {"repository": "xyz"})) if not f.warning)
    assert finding.suggestion == "configured: archive, standard"
    assert finding.path == ("policies", 0, "repository")
    nothing = next(f for f in check(configuration(BASIS, roles=[])) if not f.warning)
    assert nothing.suggestion == "nothing is configured under `roles`"
