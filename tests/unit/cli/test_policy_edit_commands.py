"""Policies edited from the command line, in the operator's own files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.policy_files import PolicyFiles, remove_policy
from holdfast.configuration import load
from holdfast.errors import ConfigurationError, ConflictError
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Session
from tests.session_world import ACCOUNT, REGION, START
from tests.unit.cli.conftest import CommandWorld

Command = Callable[..., Any]
INSTANCE = "i-00000000000000009"
BASE = f"""backup_account: "999999999999"
hub_region: {REGION}
roles:
  - {{name: production, arn: "arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"}}
organizations:
  - {{name: company, management_role: "arn:aws:iam::777777777777:role/HoldfastOrganization"}}
"""
FIRST = f"""# What the shop needs.
policies:
  # Every day.
  - name: daily # the first one
    source: {{role: production}}
    regions: [{REGION}]
    selection:
      tags: [{{key: shop}}]
    daily: {{snapshots: {{hours: [7]}}}}

  # Whoever is left.
  - name: rest
    source: {{role: production}}
    regions: [{REGION}]
    selection: {{all: true}}
    weekly: {{time: "03:00", snapshots: {{days: [sun]}}}}
"""
SECOND = f"""policies:
  - name: company
    source: {{organization: company}}
    regions: [{REGION}]
    selection: {{instances: [i-00000000000000001]}}
    daily: {{snapshots: {{hours: [9]}}}}
"""


@pytest.fixture
def config(tmp_path: Path, aws: CommandWorld) -> Path:
    """The operator's files: a base, and policies in two files."""
    for name, text in (("a.yaml", BASE), ("b.yaml", FIRST), ("c.yaml", SECOND)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def edit(holdfast: Command, config: Path) -> Command:
    """Runs `holdfast policy ...` on these files."""
    return lambda *words: holdfast("--config", str(config), "policy", *words)


def order(edited: Any) -> list[str]:
    return [one["name"] for one in edited.result]


@pytest.mark.parametrize(
    "words,expected",
    [
        (("company", "--first"), ["company", "daily", "rest"]),
        (("daily", "--last"), ["rest", "company", "daily"]),
        (("company", "--before", "rest"), ["daily", "company", "rest"]),
        (("daily", "--after", "rest"), ["rest", "daily", "company"]),
        (("rest", "7"), ["rest", "daily", "company"]),
        (("daily", "--first"), ["daily", "rest", "company"]),
    ],
)
def test_the_order_of_policies_is_edited_in_their_files(
    edit: Command, config: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    ended = edit("priority", *words)
    assert (ended.code, order(ended)) == (0, expected)
    assert {policy.name for policy in load(config).policies} == set(expected)
    for line in FIRST.splitlines():
        assert line in (config / "b.yaml").read_text().splitlines()


def test_an_edit_touches_one_line_and_says_what_applies_it(edit: Command, config: Path) -> None:
    ended = edit("priority", "rest", "7")
    assert "cdk deploy" in ended.err
    expected = FIRST.replace("  - name: rest\n", "  - name: rest\n    priority: 7\n")
    assert (config / "b.yaml").read_text() == expected
    edit("priority", "rest", "8")
    assert (config / "b.yaml").read_text() == expected.replace("priority: 7", "priority: 8")


@pytest.mark.parametrize(
    "words,code,told",
    [
        (("daily",), 2, "Give one of"),
        (("daily", "--first", "--last"), 2, "Give one of"),
        (("daily", "0"), 2, ""),
        (("nobody", "--first"), 4, "There is no policy 'nobody'"),
        (("daily", "--before", "nobody"), 4, "There is no policy 'nobody'"),
        (("daily", "--before", "daily"), 1, "ordered among their kind"),
    ],
)
def test_a_place_that_is_none_changes_nothing(
    edit: Command, config: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    ended = edit("priority", *words)
    assert (ended.code, told in ended.err) == (code, True)
    assert (config / "b.yaml").read_text() == FIRST


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_policy_is_exported_and_imported_under_a_new_name(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory, form: str
) -> None:
    file = tmp_path_factory.mktemp("exported") / f"daily.{form}"
    file.write_text(edit("export", "daily", "--as", form).out)
    ended = edit("import", str(file), "--name", "daily, again")
    assert ended.result == {"name": "daily, again", "kind": "schedule", "file": str(config / "c.yaml")}
    found = load(config)
    first, again = found.policy("daily"), found.policy("daily, again")
    assert first is not None
    assert again == first.model_copy(update={"name": "daily, again"})
    assert (config / "c.yaml").read_text().startswith(SECOND)


def test_an_imported_policy_stands_apart_where_policies_do(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (config / "c.yaml").unlink()
    file = tmp_path_factory.mktemp("exported") / "x.yaml"
    file.write_text(edit("export", "daily").out)
    edit("import", str(file), "--name", "new")
    added = (config / "b.yaml").read_text().removeprefix(FIRST.rstrip("\n"))
    assert added.startswith("\n\n  - name: new\n    source:\n")


def test_what_was_written_is_exported_also_where_it_is_usual(edit: Command, config: Path) -> None:
    (config / "c.yaml").write_text(SECOND + "    retries: 3\n")
    assert "retries: 3" in edit("export", "company").out
    assert "retries" not in edit("export", "daily").out


def test_a_policy_in_json_is_whole_json(edit: Command) -> None:
    assert json.loads(edit("export", "rest", "--as", "json").out)["policies"][0]["name"] == "rest"


@pytest.mark.parametrize(
    "text,told",
    [
        ("policies: []", "does not hold one policy"),
        ("{}", "does not hold one policy"),
        ("- a", "does not hold one policy"),
        ("policies: [{}, {}]", "does not hold one policy"),
        ("policies: [x]", "does not hold one policy"),
        ("policies: [{}]\nroles: []", "does not hold one policy"),
        ("a: &a b", "anchors and aliases"),
        ("policies: [{name: x, colour: red}]", "colour"),
        (
            "policies: [{name: x, source: {role: nobody}, regions: [eu-central-1], selection: {all: true}}]",
            "there is no role 'nobody'",
        ),
    ],
)
def test_what_is_no_policy_of_this_installation_is_refused_with_the_reason(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory, text: str, told: str
) -> None:
    file = tmp_path_factory.mktemp("exported") / "x.yaml"
    file.write_text(text)
    ended = edit("import", str(file), "--name", "new")
    assert (ended.code, told in ended.err) == (1, True), ended.err
    assert (config / "c.yaml").read_text() == SECOND


def test_a_name_that_is_taken_is_refused(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("exported") / "x.yaml"
    file.write_text(edit("export", "daily").out)
    ended = edit("import", str(file), "--name", "rest")
    assert (ended.code, "used twice" in ended.err) == (1, True)
    assert (config / "c.yaml").read_text() == SECOND


def test_the_first_policy_of_its_kind_gets_a_file_of_its_own(
    holdfast: Command, aws: CommandWorld, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    file = tmp_path_factory.mktemp("exported") / "x.yaml"
    file.write_text(FIRST.partition("  # Whoever")[0])
    ended = holdfast("--config", str(tmp_path), "policy", "import", str(file), "--name", "mine")
    assert ended.result["file"] == str(tmp_path / "policies.yaml")
    assert [policy.name for policy in load(tmp_path).policies] == ["mine"]


WHERE = ("--account", ACCOUNT, "--instance-region", REGION)


def test_an_instance_is_added_to_a_policy_that_reaches_it(edit: Command, config: Path) -> None:
    ended = edit("add", "daily", INSTANCE, *WHERE)
    assert (ended.code, ended.result["file"]) == (0, str(config / "b.yaml"))
    policy = load(config).policy("daily")
    assert policy is not None
    assert policy.selection.instances == (INSTANCE,)
    assert "# the first one" in (config / "b.yaml").read_text()


@pytest.mark.parametrize(
    "name,where,told",
    [
        ("rest", WHERE, "selects every instance already"),
        ("daily", ("--account", "555555555555", "--instance-region", REGION), "does not enter the account"),
        ("daily", ("--account", ACCOUNT, "--instance-region", "us-east-1"), "us-east-1 is not in the policy"),
        ("company", WHERE, "no session of the policy has entered the account"),
    ],
)
def test_a_policy_that_does_not_reach_an_instance_is_refused_and_others_are_offered(
    edit: Command, config: Path, name: str, where: tuple[str, ...], told: str
) -> None:
    ended = edit("add", name, INSTANCE, *where)
    assert (ended.code, told in ended.err) == (1, True)
    offered = "It can be added to: daily." if where == WHERE else "It can be added to: none."
    assert offered in ended.err
    assert (config / "b.yaml").read_text() == FIRST


def test_where_an_instance_is_comes_from_its_restore_points(edit: Command, aws: CommandWorld) -> None:
    assert "--instance-region" in edit("add", "daily", INSTANCE).err
    aws.catalog.add_point(a_point())
    assert edit("add", "daily", INSTANCE).code == 0
    assert "listed already" in edit("add", "daily", INSTANCE).err


def test_a_policy_of_an_organization_is_offered_once_a_session_has_entered_the_account(
    edit: Command, config: Path, aws: CommandWorld
) -> None:
    aws.catalog.write_session(Session(session_id="s1", policy="company", slot=START, started_at=START))
    account = {"account": ACCOUNT, "name": "shop", "organization": "company", "units": ["r-1"]}
    aws.catalog.write_part("s1", "scope", {"regions": [REGION], "accounts": [account]}, at=START)
    assert edit("add", "company", INSTANCE, *WHERE).code == 0
    text = (config / "c.yaml").read_text()
    assert f"{{instances: [i-00000000000000001, {INSTANCE}]}}" in text


def a_point(**changes: Any) -> RestorePoint:
    return RestorePoint.model_validate(
        {
            "point_id": "p1",
            "kind": Kind.SNAPSHOT,
            "account": ACCOUNT,
            "region": REGION,
            "instance_id": INSTANCE,
            "taken_at": START - timedelta(days=1),
            "policy": "daily",
            "size_bytes": 1 << 30,
            **changes,
        }
    )


def test_a_policy_is_deleted_and_what_becomes_of_its_points_is_told(
    edit: Command, config: Path, aws: CommandWorld
) -> None:
    aws.catalog.add_point(a_point())
    aws.catalog.add_point(a_point(kind=Kind.BACKUP, repository="main", stored_bytes=500))
    aws.catalog.add_point(a_point(point_id="p2", policy="rest"))
    ended = edit("delete", "daily", "--yes")
    assert (ended.code, ended.result["points"]) == (0, 2)
    assert ended.result["snapshots"]["size_bytes"] == 1 << 30
    assert "`obsolete_snapshots` is `never`" in ended.result["snapshots"]["then"]
    assert (ended.result["backups"]["points"], ended.result["backups"]["stored_bytes"]) == (1, 500)
    assert [policy.name for policy in load(config).policies] == ["rest", "company"]
    kept = "\n\n".join(("# What the shop needs.\npolicies:\n  # Every day.", FIRST.partition("\n\n")[2]))
    assert (config / "b.yaml").read_text() == kept


def test_a_session_that_runs_is_told_before_its_policy_is_deleted(edit: Command, aws: CommandWorld) -> None:
    running = Session(session_id="s1", policy="daily", slot=START, started_at=START)
    aws.catalog.write_session(running)
    ended = edit("delete", "daily", "--yes")
    assert (ended.code, ended.result["running"]) == (0, ["s1"])
    assert "s1 runs: stop it" in ended.err


def test_snapshots_of_a_deleted_policy_go_after_the_time_that_is_configured(
    edit: Command, config: Path
) -> None:
    with (config / "a.yaml").open("a") as file:
        file.write("obsolete_snapshots: {mode: after, days: 30}\n")
    assert "after 30 days" in edit("delete", "daily", "--yes").result["snapshots"]["then"]


def test_nothing_is_deleted_unasked(edit: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert edit("delete", "daily").code == 2
    assert (config / "b.yaml").read_text() == FIRST


def test_a_file_that_somebody_changed_meanwhile_is_left_alone(config: Path) -> None:
    files = PolicyFiles.open(config)
    files.text(config / "b.yaml")
    changed = FIRST + "# one more line\n"
    (config / "b.yaml").write_text(changed)
    with pytest.raises(ConflictError, match="changed the file meanwhile"):
        remove_policy(files, "daily")
    assert (config / "b.yaml").read_text() == changed


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "shared.yaml"
    os.replace(config / "b.yaml", target)
    target.chmod(0o640)
    (config / "b.yaml").symlink_to(target)
    assert edit("priority", "rest", "7").code == 0
    assert (config / "b.yaml").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert "priority: 7" in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["shared.yaml"]


@pytest.mark.parametrize(
    "end,told",
    [
        ("    description: |+\n      kept\n\n\n", "does not understand"),
        ("...\n", ""),
        ("    ? priority\n    : 5\n", ""),
    ],
)
def test_a_file_written_in_an_odd_way_is_edited_right_or_not_at_all(
    edit: Command, config: Path, tmp_path_factory: pytest.TempPathFactory, end: str, told: str
) -> None:
    (config / "c.yaml").write_text(SECOND + end)
    before = load(config)
    file = tmp_path_factory.mktemp("exported") / "x.yaml"
    file.write_text(edit("export", "daily").out)
    ended = edit("import", str(file), "--name", "new")
    assert (ended.code, told in ended.err) == (int(bool(told)), True)
    if told:
        assert (config / "c.yaml").read_text() == SECOND + end
    after = load(config)
    assert after.policies[: len(before.policies)] == before.policies
    assert (after.policy("new") is None) is bool(told)


def test_files_that_are_not_valid_are_not_edited(edit: Command, config: Path) -> None:
    (config / "c.yaml").write_text(SECOND.replace("organization: company", "organization: nobody"))
    ended = edit("priority", "daily", "--last")
    assert (ended.code, "is not valid" in ended.err) == (1, True)
    with pytest.raises(ConfigurationError):
        PolicyFiles.open(config)
