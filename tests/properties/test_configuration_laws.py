"""Whatever stands in the operator's files, reading them ends in a configuration or in remarks with places."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.bundle import dump_bundle
from holdfast.configuration import load, read
from holdfast.model.configuration import Configuration
from holdfast.yaml_tree import YamlRefused, read_tree

ROOT = Path(__file__).parents[2]
EXAMPLE = json.loads(dump_bundle(load(ROOT / "config")))
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=8)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
NASTY = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**15,
        1.5,
        "",
        "x" * 300,
        "\x1b[31m",
        "../..",
        "07:00",
        "35 days",
        [],
        {},
        [None],
        {"": ""},
    ]
)
LETTERS = st.sampled_from(list("ab:-[]{},#&*!|>'\"%@?\n\t \\0é"))


@given(
    st.one_of(
        st.binary(max_size=60), st.lists(LETTERS, max_size=40).map(lambda found: "".join(found).encode())
    )
)
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused_at_a_place_in_them(content):
    try:
        tree = read_tree(content, "file")
    except YamlRefused as error:
        line, column = error.position[1:]
    else:
        line, column = tree.values.get((), (1, 1, 1))[1:]
    assert 1 <= line <= content.count(b"\n") + content.count(b"\r") + 2
    assert column >= 1


@given(JSON)
@settings(max_examples=100)
def test_what_json_says_is_read_as_it_is_and_every_part_has_a_place(value):
    tree = read_tree(json.dumps(value, indent=1, ensure_ascii=False).encode(), "file")
    assert tree.value == value

    def visit(part: Any, path: tuple) -> None:
        assert path in tree.values
        children = (
            part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        )
        for key, child in children:
            assert isinstance(part, list) or (*path, key) in tree.keys
            visit(child, (*path, key))

    visit(value, ())


def places(value: Any, path: tuple = ()) -> list[tuple]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@given(st.data())
@settings(max_examples=150)
def test_a_damaged_configuration_is_refused_with_places_or_still_valid(data):
    """One value of the example is replaced, removed, or gets an unknown neighbour."""
    whole = deepcopy(EXAMPLE)
    path = data.draw(st.sampled_from(places(whole)[1:]))
    parent: Any = whole
    for step in path[:-1]:
        parent = parent[step]
    what = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if what == "replace":
        parent[path[-1]] = data.draw(st.one_of(NASTY, JSON))
    elif what == "remove":
        del parent[path[-1]]
    elif isinstance(parent, dict):
        parent[f"{path[-1]}x"] = data.draw(NASTY)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "all.yaml")
        file.write_text(json.dumps(whole, indent=1))
        configuration, remarks = read(directory)
        lines = file.read_text().count("\n") + 1
    assert (configuration is None) == any(not remark.warning for remark in remarks)
    for remark in remarks:
        assert remark.position.file.endswith("all.yaml")
        assert 1 <= remark.position.line <= lines
        assert remark.message
        assert str(remark).replace("…", "").isprintable()
    if configuration is not None:
        assert Configuration.model_validate_json(dump_bundle(configuration)) == configuration
