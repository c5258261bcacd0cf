"""Reading the operator's YAML, and what is said about mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.bundle import dump_bundle, load_bundle
from holdfast.configuration import load, read
from holdfast.errors import ConfigurationError
from holdfast.yaml_tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_SCALAR

ROOT = Path(__file__).parents[3]
GOOD = """\
backup_account: "111122223333"
hub_region: eu-central-1
roles:
  - {name: production, arn: "arn:aws:iam::444455556666:role/HoldfastBackup"}
"""
POLICY = """\
policies:
  - name: daily
    source: {role: production}
    regions: [eu-central-1]
    selection: {all: true}
    daily: {snapshots: {hours: [7]}}
"""
SLA = """\
sla_policies:
  - name: s
    source: {role: production}
    regions: [eu-west-1]
    selection: {all: true}
    sla_template: t
    storage_template: s
storage_templates: [{name: s, backups: main}]
sla_templates:
  - name: t
    backups: {daily: {hours: 1}}
    backup_window: {start: "08:00", end: "18:00"}
"""


@pytest.fixture
def said(tmp_path):
    """Write files, read them, and give every remark without the directory."""

    def read_files(**files: str | bytes) -> list[str]:
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else content.encode()
            (tmp_path / f"{name}.yaml").write_bytes(raw)
        _, remarks = read(tmp_path)
        return [str(remark).removeprefix(f"{tmp_path}{os.sep}") for remark in remarks]

    return read_files


def test_the_shipped_example_is_valid_without_a_warning():
    configuration, remarks = read(ROOT / "config")
    assert remarks == ()
    assert configuration is not None
    assert [policy.name for policy in configuration.policies] == ["production-daily", "company-weekly"]


def test_lists_of_several_files_are_joined_in_the_order_of_their_names(said, tmp_path):
    other = POLICY.replace("name: daily", "name: other")
    assert said(a=GOOD, b=POLICY, c=other, d="# nothing but a comment\n") == []
    assert [policy.name for policy in load(tmp_path).policies] == ["daily", "other"]


def test_a_mistake_in_the_second_file_of_a_list_is_found_there(said):
    wrong = POLICY.replace("name: daily", "name: other").replace("[7]", "[24]")
    assert said(a=GOOD, b=POLICY, c=wrong) == ["c.yaml:6:33: error: hours must be at most 23"]


def test_what_is_no_list_may_stand_in_one_file_only(said, tmp_path):
    assert said(a=GOOD, b="hub_region: eu-west-1\n") == [
        f"b.yaml:1:1: error: 'hub_region' is already set in {tmp_path}{os.sep}a.yaml:2"
    ]


@pytest.mark.parametrize(
    "wrong, remark",
    [
        ("polices: []", "9:1: error: unknown key 'polices' (did you mean 'policies'?)"),
        ("xyzzy: []", "9:1: error: unknown key 'xyzzy' (known: "),
        ("backup_account: 1", "1:17: error: backup_account must be text (put it in quotes)"),
        (
            "installation: Holdfast",
            "9:15: error: 'Holdfast' is not a valid installation (expected: Prefix of",
        ),
        (
            "session_records: soon",
            "9:18: error: session_records: write a duration as 35 days, 6 months or 7 years",
        ),
        ("session_records: al", "9:18: error: 'al' is not a value of session_records (did you mean 'all'?)"),
        (
            "session_records: {days: 1, years: 1}",
            "9:18: error: session_records: give exactly one of days, months",
        ),
        (
            "service_time_zone: Europe/Berln",
            "service_time_zone: 'Europe/Berln' is not an IANA time zone (did you mean",
        ),
        ("service_time_zone: ../../etc/passwd", "is not an IANA time zone"),
        ("daily_report: perhaps", "9:15: error: daily_report must be true or false"),
        ("roles: {}", "9:8: error: roles must be a list"),
        ("notifications: []", "9:16: error: notifications must be a mapping"),
        ("notifications: {sender: [x]}", "9:25: error: sender must be text"),
        ("obsolete_snapshots: {mode: after, days: 14}", "9:41: error: days must be at least 15"),
        ("obsolete_snapshots: {mode: after}", "give days or months with mode after"),
        (
            "obsolete_snapshots: {mode: aftr}",
            "9:28: error: 'aftr' is not a value of mode (did you mean 'after'?)",
        ),
        ("repositories: [{name: main}]", "9:16: error: bucket is missing"),
        ("sla_templates: [{name: t, target_percent: high}]", "target_percent must be a number"),
        ("sla_templates: [{name: t, target_percent: 0}]", "target_percent must be more than 0"),
        ("sla_templates: [{name: t, snapshots: {daily: {hours: 1.5}}}]", "hours must be a whole number"),
        ("storage_templates: [{name: a/b}]", "'a/b' is not a valid name"),
        ("repositories: [{name: '', bucket: b, region: r}]", "name must not be empty"),
        ("sla_templates: [{name: t, archives: {months: []}}]", "months needs at least 1 entry"),
        ("3: 4", "unknown key '3'"),
        ("session_records: {dayz: 3}", "9:19: error: unknown key 'dayz' (did you mean 'days'?)"),
        ("service_time_zone: 7", "9:20: error: service_time_zone must be text (put it in quotes)"),
        (
            "sla_templates: [{name: t, snapshots: {daily: {keep: 3d}}}]",
            "daily: give exactly one of hours, minutes",
        ),
        (
            "sla_templates: [{name: t, health_check: {run_on: {}}}]",
            "run_on: give ordinal and weekday, or day",
        ),
        (
            "sla_templates: [{name: t, health_check: {run_on: {day: first}}}]",
            "day must be a whole number (or 'last')",
        ),
        ("sla_templates: [{name: t, target_percent: .nan}]", "target_percent"),
    ],
)
def test_each_mistake_is_named_with_place_and_remedy(said, wrong, remark):
    key = wrong.partition(":")[0]
    filler = "installation: test\nsession_records: all\nservice_time_zone: UTC\n"
    lines = [line for line in (GOOD + filler + "#\n").splitlines() if not line.startswith(f"{key}:")]
    text = "\n".join(lines)
    if key == "roles":
        text = text.replace(
            '  - {name: production, arn: "arn:aws:iam::444455556666:role/HoldfastBackup"}\n', ""
        )
    if key == "backup_account":
        text = f"{wrong}\n{text}\n"
    else:
        text = text + "\n" * (8 - text.count("\n")) + f"{wrong}\n"
    found = said(a=text)
    assert any(remark in each for each in found), found


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(said):
    wrong = (
        POLICY.replace("role: production", "role: prod")
        .replace("all: true", "al: true")
        .replace("[7]", "[7, x]")
    )
    assert said(a=GOOD, b=wrong) == [
        "b.yaml:5:17: error: unknown key 'al' (did you mean 'all'?)",
        "b.yaml:6:36: error: hours must be a whole number",
    ]


def test_more_than_five_custom_tags_are_refused(said):
    tags = ", ".join(f"t{number}: x" for number in range(6))
    assert said(a=GOOD, b=POLICY + f"    tags: {{custom: {{{tags}}}}}\n") == [
        "b.yaml:7:20: error: custom may have at most 5 entries"
    ]


def test_a_wrong_weekday_and_a_wrong_word_get_a_suggestion(said):
    wrong = POLICY.replace("daily: {", "daily: {days: weekday, ")
    assert said(a=GOOD, b=wrong) == [
        "b.yaml:6:19: error: 'weekday' is not a value of days (did you mean 'weekdays'?)"
    ]
    wrong = POLICY.replace("daily: {", "daily: {days: [mon, tuesday], ")
    assert said(b=wrong) == ["b.yaml:6:25: error: 'tuesday' is not a value of days (did you mean 'tue'?)"]


def test_an_unknown_key_deep_inside_gets_a_suggestion_of_its_own_place(said):
    wrong = POLICY.replace("hours: [7]", "hour: [7]").replace("selection: {all", "selection: {tag: [], all")
    assert said(a=GOOD, b=wrong) == [
        "b.yaml:5:17: error: unknown key 'tag' (did you mean 'tags'?)",
        "b.yaml:6:25: error: unknown key 'hour' (did you mean 'hours'?)",
    ]


def test_words_of_yaml_1_1_are_text_and_times_are_no_numbers(said, tmp_path):
    weekly = "    weekly: {time: 07:00, snapshots: {days: [mon]}}\n"
    tags = "    tags: {custom: {on: no, off: y}}\n"
    assert said(a=GOOD, b=POLICY + weekly + tags) == []
    (policy,) = load(tmp_path).policies
    assert policy.weekly.time == "07:00"
    assert policy.tags.custom == {"on": "no", "off": "y"}


@pytest.mark.parametrize(
    "content, remark",
    [
        (b"a: [1", "a.yaml:1:6: error: not YAML"),
        (b"\xff\xfe\x00", "a.yaml:1:1: error: not UTF-8 text"),
        (b"ok: 1\nk\xc3\xa9: \xff", "a.yaml:2:5: error: not UTF-8 text"),
        (b"a: \x01", "a.yaml:1:4: error: a character that YAML does not allow"),
        (b"a: &x 1", "a.yaml:1:4: error: anchors and aliases are not supported"),
        (b"a: [*x]", "a.yaml:1:5: error: anchors and aliases are not supported"),
        (b"a: !!python/object:os.system {}", "a.yaml:1:4: error: explicit types (!...) are not supported"),
        (b'a: "\\ud800"', "a.yaml:1:4: error: half of a character"),
        (b"a: 1\na: 2", "a.yaml:2:1: error: the key 'a' stands here twice"),
        (b"? [1]\n: 2", "a.yaml:1:3: error: a key must be plain text"),
        (b"a: 1\n---\nb: 1", "a.yaml:2:1: error: one document in a file: split it"),
        (b"- a", "a.yaml:1:1: error: a configuration file is a mapping"),
        (b"[" * 100, f"error: nested deeper than {MAX_DEPTH} levels"),
        (b"a: [" + b"1," * MAX_NODES + b"1]", f"error: more than {MAX_NODES} values in one file"),
        (b"a: " + b"x" * (MAX_SCALAR + 1), f"error: a value longer than {MAX_SCALAR} characters"),
        (b"#" * (MAX_BYTES + 1), f"a.yaml:1:1: error: larger than {MAX_BYTES} bytes"),
        (b"%YAML 3.0\n---\na: 1", "a.yaml:1:1: error: not YAML"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_yaml_that_is_broken_or_hostile_is_refused_with_its_place(said, content, remark):
    found = said(a=content)
    assert len(found) == 1
    assert remark in found[0]


def test_what_an_operator_wrote_is_quoted_and_cut_when_it_is_shown(said):
    (remark,) = said(a=GOOD, b='"\\e[31m' + "x" * 500 + '": 1\n')
    assert "\x1b" not in remark
    assert "x" * 100 not in remark


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(said, tmp_path):
    (tmp_path / "directory.yaml").mkdir()
    assert said(a=GOOD) == ["directory.yaml:1:1: error: not a regular file"]


def test_a_directory_without_configuration_says_how_to_name_one(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no \*.yaml file") as raised:
        read(tmp_path)
    assert "--config" in raised.value.remedy
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(tmp_path / "nowhere")


def test_too_many_files_are_refused(tmp_path):
    for number in range(101):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(ConfigurationError, match="more than 100 files"):
        read(tmp_path)


def test_loading_raises_every_error_and_no_warning(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + POLICY.replace("role: production", "role: prod"))
    with pytest.raises(ConfigurationError, match=r"a.yaml:7:20: error: there is no role 'prod'"):
        load(tmp_path)


def test_a_warning_does_not_stop_loading(tmp_path):
    both = POLICY.replace("all: true", "all: true, tags: [{key: backup}]")
    (tmp_path / "a.yaml").write_text(GOOD + both)
    configuration, (remark,) = read(tmp_path)
    assert remark.warning
    assert ": warning: `all` already includes" in str(remark)
    assert configuration == load(tmp_path)


def test_an_error_is_placed_at_the_nearest_thing_that_stands_in_a_file(said):
    no_region = GOOD.replace("hub_region: eu-central-1\n", "")
    assert said(a=no_region) == ["a.yaml:1:1: error: hub_region is missing"]


def test_the_bundle_gives_the_same_configuration_and_the_same_text(tmp_path):
    configuration = load(ROOT / "config")
    bundle = tmp_path / "configuration.json"
    bundle.write_text(dump_bundle(configuration))
    assert load_bundle(bundle) == configuration
    assert dump_bundle(load_bundle(bundle)) == dump_bundle(configuration)


@pytest.mark.parametrize("content", ["{", '{"backup_account": 1}', '{"polices": []}'])
def test_a_bundle_of_another_version_is_a_clear_error(tmp_path, content):
    bundle = tmp_path / "configuration.json"
    bundle.write_text(content)
    with pytest.raises(ConfigurationError, match="does not fit this version"):
        load_bundle(bundle)


def test_a_missing_bundle_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_bundle(tmp_path / "configuration.json")


@pytest.mark.parametrize(
    "addition, remark",
    [
        (
            "    guest: {application_aware: true}\n",
            "b.yaml:7:5: error: not available yet: guest processing",
        ),
        ("    monthly: {archive: {}}\n", "error: not available yet: scheduled archives"),
        ("daily_report: true\n", "b.yaml:7:1: warning: not available yet: the daily report"),
        ("obsolete_snapshots: {mode: after, days: 30}\n", None),
        (
            "repositories: [{name: a, bucket: abc, region: eu-west-1, immutable: true}]\n",
            "error: not available yet: immutable repositories",
        ),
        (
            "repositories: [{name: a, bucket: abc, region: eu-west-1}]\n",
            None,
        ),
        (
            "    health_check: {}\n    repository: main\n",
            "warning: not available yet: scheduled health checks",
        ),
        (SLA, None),
        (
            SLA + "    archives: {months: [1]}\n",
            "b.yaml:19:5: error: not available yet: archives of SLA templates",
        ),
        (SLA + "    health_check: {}\n", "warning: not available yet: scheduled health checks"),
    ],
)
def test_a_setting_that_sessions_do_not_execute_is_never_silently_accepted(said, addition, remark):
    found = said(
        a=GOOD + "repositories: [{name: main, bucket: main-bucket, region: eu-west-1}]\n", b=POLICY + addition
    )
    if remark is None:
        assert found == []
    else:
        assert any(remark in each for each in found), found
