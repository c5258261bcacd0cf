"""Laws of selection: everything gets one verdict, exclusions win, one owner."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.planning.selection import Coverage, precedence, rivals, select
from tests.vectors.policies import BASIS, REGION, configuration, policy

OWN = "444455556666"
TAGS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", ""]), max_size=3)
IDS = [f"i-{number:017x}" for number in range(4)]
WANTED = st.builds(
    lambda key, value: {"key": key, "value": value}, st.sampled_from("abc"), st.sampled_from(["", "1"])
)
SELECTIONS = st.fixed_dictionaries(
    {
        "all": st.booleans(),
        "instances": st.lists(st.sampled_from(IDS), max_size=2, unique=True),
        "tags": st.lists(WANTED, max_size=2),
        "tags_match": st.sampled_from(["any", "all"]),
        "exclude_instances": st.lists(st.sampled_from(IDS), max_size=2, unique=True),
        "exclude_tags": st.lists(WANTED, max_size=2),
    }
)


@st.composite
def inventories(draw: st.DrawFn) -> list[Instance]:
    volume = AttachedVolume(volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=1 << 30)
    return [
        Instance(
            instance_id=name,
            account=OWN,
            region=draw(st.sampled_from([REGION, "eu-west-1"])),
            state=draw(st.sampled_from(["running", "stopped", "terminated"])),
            tags=draw(TAGS),
            volumes=(volume,) if draw(st.booleans()) else (),
        )
        for name in draw(st.sets(st.sampled_from(IDS)))
    ]


@given(inventories(), SELECTIONS)
@settings(max_examples=100)
def test_the_verdicts_add_up_to_the_inventory(instances, selection):
    found = select(policy(selection=selection), instances)
    assert sum(len(found.with_coverage(coverage)) for coverage in Coverage) == len(instances)
    assert {verdict.instance.instance_id for verdict in found.verdicts} == {
        each.instance_id for each in instances
    }
    assert all(verdict.reason for verdict in found.verdicts)


@given(inventories(), SELECTIONS)
@settings(max_examples=100)
def test_nothing_that_is_excluded_gone_or_elsewhere_is_protected(instances, selection):
    for verdict in select(policy(selection=selection), instances).protected:
        subject = verdict.instance
        assert (subject.region, subject.state != "terminated") == (REGION, True)
        assert subject.instance_id not in selection["exclude_instances"]
        for tag in selection["exclude_tags"]:
            assert subject.tags.get(tag["key"]) not in ({tag["value"]} if tag["value"] else {"1", "2", ""})


@given(inventories(), SELECTIONS, WANTED)
@settings(max_examples=100)
def test_another_exclusion_never_protects_more(instances, selection, tag):
    more = selection | {"exclude_tags": [*selection["exclude_tags"], tag]}
    protected = {
        verdict.instance.instance_id for verdict in select(policy(selection=selection), instances).protected
    }
    left = {verdict.instance.instance_id for verdict in select(policy(selection=more), instances).protected}
    assert left <= protected


@given(
    inventories(), st.lists(st.tuples(SELECTIONS, st.integers(1, 3), st.booleans()), min_size=1, max_size=4)
)
@settings(max_examples=60)
def test_an_instance_has_at_most_one_owner_and_one_when_any_enabled_policy_selects_it(instances, made):
    whole = configuration(
        *(
            BASIS | {"name": f"p{number}", "selection": selection, "priority": priority, "enabled": enabled}
            for number, (selection, priority, enabled) in enumerate(made)
        )
    )
    active = [each for each in precedence(whole) if each.enabled]
    owners = [
        verdict.instance.instance_id
        for each in active
        for verdict in select(each, instances, {OWN: rivals(whole, each, OWN)}).protected
    ]
    assert len(owners) == len(set(owners))
    wanted = {
        verdict.instance.instance_id for each in active for verdict in select(each, instances).protected
    }
    assert set(owners) == wanted
