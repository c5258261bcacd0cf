"""Edits of the operator's files change what was meant, and no other character that a person wrote."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.cli import yaml_text
from holdfast.cli.policy_edit import exported
from holdfast.cli.policy_files import (
    KINDS,
    PolicyFiles,
    add_instance,
    add_policy,
    remove_policy,
    set_priorities,
)
from holdfast.model.configuration import SchedulePolicy
from holdfast.planning.priorities import moved, ordered
from holdfast.yaml_tree import read_tree

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=12)
WORDS = st.sampled_from(
    ["no", "07:00", "1e5", ".5", "0x1f", "- a", "a: b", "a #b", "~", "'", '"', "\\", " a ", "[", "é", "😀"]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), TEXT, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT | WORDS, inner, max_size=3)),
    max_leaves=12,
)
BASE = """# Everything of ours.
backup_account: "999999999999"
hub_region: eu-central-1
roles: [{name: production, arn: "arn:aws:iam::111122223333:role/HoldfastBackup"}]
"""
NAMES = st.sampled_from(["shop", "office"]) | TEXT.map(str.strip).filter(
    lambda name: bool(name) and name.isprintable()
)
HOURS = st.lists(st.integers(0, 23), min_size=1, max_size=24, unique=True)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """A schedule-based policy with everything in it that is awkward to write in YAML."""
    tags = st.builds(lambda key, value: {"key": key, "value": value}, TEXT.filter(bool), TEXT | WORDS)
    return {
        "name": draw(NAMES),
        "description": draw(TEXT | WORDS | st.just("line: #1")),
        "source": {"role": "production"},
        "regions": draw(
            st.lists(st.sampled_from(["eu-central-1", "us-east-1"]), min_size=1, max_size=2, unique=True)
        ),
        "selection": draw(
            st.one_of(
                st.just({"all": True}),
                st.builds(lambda found: {"tags": found}, st.lists(tags, min_size=1, max_size=3)),
                st.just({"instances": [f"i-{number:017x}" for number in range(12)]}),
            )
        ),
        "time_zone": draw(st.sampled_from(["UTC", "Europe/Berlin"])),
        "daily": {"snapshots": {"hours": draw(HOURS), "keep": draw(st.integers(1, 99))}},
        "enabled": draw(st.booleans()),
        "priority": draw(st.integers(1, 100_000)),
        "tags": {"custom": draw(st.dictionaries(st.sampled_from(["a", "no", "b c"]), WORDS, max_size=2))},
    }


@given(st.dictionaries(TEXT | WORDS, VALUES, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_written_as_yaml_is_read_as_it_was(value: dict[str, Any]) -> None:
    assert read_tree("\n".join(yaml_text.lines(value)).encode(), "file").value == value
    assert read_tree(yaml_text.flow(value).encode(), "file").value == value


@given(policies(), NAMES)
@settings(max_examples=25, deadline=None)
def test_a_policy_that_is_exported_and_imported_differs_in_its_name_alone(
    body: dict[str, Any], name: str
) -> None:
    policy = SchedulePolicy.model_validate(body)
    told = read_tree("\n".join(yaml_text.lines(exported("policies", policy))).encode(), "file").value
    new = {**told["policies"][0], "name": f"{name} 2"}
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "all.yaml").write_text(BASE, encoding="utf-8")
        add_policy(PolicyFiles.open(Path(directory)), "policies", body, policy)
        again = KINDS["policies"].model_validate(new)
        add_policy(PolicyFiles.open(Path(directory)), "policies", new, again)
        first, second = PolicyFiles.open(Path(directory)).configuration.policies
    assert first == policy
    assert second == policy.model_copy(update={"name": f"{name} 2"})


WRITTEN = [
    """policies:
  # The shop sells.
  - name: shop # ours
    description: |
      All of it.

      And more.
    source: {role: production}

    # Only there.
    regions: [eu-central-1]
    selection:
      instances:
        - i-00000000000000001 # web
        # the database comes later
    daily: {snapshots: {hours: [7]}}

  # The office works.
  - source:
      role: production
    name: "office"
    priority: 7   # lucky
    regions:
    - eu-central-1
    selection: {tags: [{key: office}]}
    daily:
      snapshots:
        hours: [8]   # after breakfast
# The end of policies.
""",
    """policies:
- name: shop
  source: {role: production}
  regions: [eu-central-1]
  selection: {instances: [i-00000000000000001]}
  daily: {snapshots: {hours: [7]}}
# The office works.
- {name: office, source: {role: production}, regions: [eu-central-1], selection: {all: true},
   priority: 7, daily: {snapshots: {hours: [8]}}} # one line, nearly
""",
    """{"policies": [
  {"name": "shop", "source": {"role": "production"}, "regions": ["eu-central-1"],
   "selection": {"instances": ["i-00000000000000001"]}, "daily": {"snapshots": {"hours": [7]}}},
  {"name": "office", "source": {"role": "production"}, "regions": ["eu-central-1"], "priority": 7,
   "selection": {"all": true}, "daily": {"snapshots": {"hours": [8]}}}
]}
""",
]
LINE_BREAKS = st.sampled_from(["\n", "\r\n"])
EDITS = st.sampled_from(["first", "last", "number", "delete shop", "delete office", "add", "import"])


def edit(files: PolicyFiles, number: int, what: str) -> None:
    names = [policy.name for policy in files.policies("policies")]
    if what in ("first", "last", "number"):
        if names:
            numbers = (
                {names[-1]: 12}
                if what == "number"
                else moved(files.policies("policies"), names[-1], 0 if what == "first" else len(names))
            )
            set_priorities(files, "policies", numbers) if numbers else None
    elif what.startswith("delete"):
        if what.split()[1] in names:
            remove_policy(files, what.split()[1])
    elif what == "add":
        if "shop" in names:
            add_instance(files, "shop", f"i-{number + 100:017x}")
    else:
        body = {
            "name": f"new {number}",
            "source": {"role": "production"},
            "regions": ["eu-central-1"],
            "selection": {"all": True},
            "daily": {"snapshots": {"hours": [1, 2]}},
        }
        add_policy(files, "policies", body, SchedulePolicy.model_validate(body))


def comments(text: str, *, without: str = "") -> list[str]:
    return [found for found in re.findall(r"#[^\r\n]*", text) if found not in without]


@given(st.sampled_from(WRITTEN), LINE_BREAKS, st.booleans(), st.lists(EDITS, min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_edits_one_after_another_keep_comments_and_line_breaks(
    written: str, line_break: str, marked: bool, edits: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "all.yaml").write_text(BASE, encoding="utf-8")
        file = Path(directory) / "policies.yaml"
        content = written.replace("\n", line_break).encode()
        file.write_bytes(b"\xef\xbb\xbf" * marked + content)
        for number, what in enumerate(edits):
            edit(PolicyFiles.open(Path(directory)), number, what)
        after = file.read_bytes()
        assert (Path(directory) / "all.yaml").read_text(encoding="utf-8") == BASE
        assert after.startswith(b"\xef\xbb\xbf") is marked
        text = after.removeprefix(b"\xef\xbb\xbf").decode()
        assert text.count("\r\n") == text.count("\n") * (line_break == "\r\n")
        if not any(what.startswith("delete") for what in edits):
            assert comments(text) == comments(written)
        PolicyFiles.open(Path(directory))


def named(priorities: list[int]) -> list[SchedulePolicy]:
    return [
        SchedulePolicy.model_validate(
            {
                "name": f"p{number}",
                "priority": priority,
                "source": {"role": "r"},
                "regions": ["eu-central-1"],
                "selection": {"all": True},
            }
        )
        for number, priority in enumerate(priorities)
    ]


@given(
    st.lists(st.integers(1, 6) | st.sampled_from([1000, 99_999, 100_000]), min_size=1, max_size=8), st.data()
)
@settings(max_examples=100, deadline=None)
def test_a_moved_policy_stands_where_it_should_and_the_others_stay_in_order(
    priorities: list[int], data: st.DataObject
) -> None:
    every = named(priorities)
    name = data.draw(st.sampled_from([policy.name for policy in every]))
    place = data.draw(st.integers(0, len(every) - 1))
    wanted = [policy.name for policy in ordered(every) if policy.name != name]
    wanted.insert(place, name)
    numbers = moved(every, name, place)
    after = [
        policy.model_copy(update={"priority": numbers.get(policy.name, policy.priority)}) for policy in every
    ]
    assert [policy.name for policy in ordered(after)] == wanted
    assert all(1 <= number <= 100_000 for number in numbers.values())
    assert all(numbers[policy.name] != policy.priority for policy in every if policy.name in numbers)
