"""What may be removed, where an instance can be added, and the order of policies, at their borders."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.adding import Placed, eligible, why_not
from holdfast.planning.ownership import opinions, without
from holdfast.planning.priorities import HIGHEST, moved
from holdfast.planning.removing import Scope, in_scope, key_of
from tests.session_world import ACCOUNT, REGION, SessionWorld, configured

INSTANCE = "i-00000000000000001"


def points() -> list[RestorePoint]:
    """One restore point of every kind, made by a policy and by hand."""
    return [
        RestorePoint(
            point_id=f"{kind}-{manual}",
            kind=kind,
            manual=manual,
            account=ACCOUNT,
            region=REGION,
            instance_id=INSTANCE,
            taken_at=datetime(2026, 11, 22, tzinfo=UTC),
        )
        for kind, manual in product(Kind, (False, True))
    ]


def test_every_point_is_in_exactly_one_of_the_five_classes_and_the_others_are_sums_of_them():
    def keys(scope: Scope) -> set[str]:
        return {key_of(point) for point in in_scope(points(), scope)}

    classes = [Scope.MANUAL, Scope.LOCAL, Scope.REPLICAS, Scope.STANDARD, Scope.ARCHIVED]
    assert sum(len(keys(scope)) for scope in classes) == len(points()) == len(keys(Scope.EVERYTHING))
    assert keys(Scope.SNAPSHOTS) == keys(Scope.MANUAL) | keys(Scope.LOCAL) | keys(Scope.REPLICAS)
    assert keys(Scope.BACKUPS) == keys(Scope.STANDARD) | keys(Scope.ARCHIVED)
    assert keys(Scope.EVERYTHING) == set().union(*(keys(scope) for scope in classes))


def test_one_point_in_two_places_has_two_keys():
    here, *_ = points()
    there = here.model_copy(update={"account": "444455556666"})
    assert key_of(here) != key_of(there)


def policies(*changes: dict[str, Any]) -> Configuration:
    base = configured().model_dump(exclude_defaults=True)
    organization = {
        "name": "company",
        "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization",
    }
    made = [{**base["policies"][0], "name": f"p{number}", **one} for number, one in enumerate(changes)]
    return Configuration.model_validate({**base, "organizations": [organization], "policies": made})


@pytest.mark.parametrize(
    "change,reason",
    [
        ({"selection": {"tags": [{"key": "a"}]}}, ""),
        ({"selection": {"instances": [INSTANCE]}}, "listed already"),
        ({"selection": {"all": True, "exclude_instances": [INSTANCE]}}, "exclusions win"),
        ({"source": {"organization": "company", "exclude_units": ["ou-ab12-sandboxes"]}}, "does not enter"),
        ({"source": {"organization": "company"}, "selection": {"tags": [{"key": "a"}]}}, ""),
    ],
)
def test_only_policies_that_reach_an_instance_are_offered(change: dict[str, Any], reason: str):
    configuration = policies(change)
    place = Account(account=ACCOUNT, organization="company", units=("r-ab12", "ou-ab12-sandboxes"))
    placed = Placed(INSTANCE, ACCOUNT, REGION, place)
    (policy,) = configuration.policies
    told = why_not(configuration, policy, placed)
    assert (reason in told, bool(told)) == (True, bool(reason))
    assert eligible(configuration, placed) == (() if reason else ("p0",))


def test_policies_are_numbered_anew_only_when_there_is_no_place_between():
    same = policies({"priority": 5}, {"priority": 5}, {"priority": 5}).policies
    assert moved(same, "p2", 2) == {}
    assert moved(same, "p0", 2) == {"p0": 16}
    assert moved(same, "p2", 1) == {"p0": 10, "p2": 20, "p1": 30}
    last = policies({"priority": HIGHEST}, {"priority": 1}).policies
    assert moved(last, "p1", 1) == {"p1": HIGHEST}


def test_a_policy_that_is_switched_off_has_an_opinion_and_owns_nothing():
    world = SessionWorld(policies({"priority": 1}, {"priority": 2}))
    world.add_instance(1)
    instance = world.spoke("p0", ACCOUNT, REGION).machines[INSTANCE].instance
    place = Account(account=ACCOUNT)
    before = opinions(world.configuration, instance, place)
    after = opinions(without(world.configuration, {"p0"}), instance, place)
    assert [one.policy for one in before if one.owns] == ["p0"]
    assert [one.policy for one in after if one.owns] == ["p1"]
    assert "disabled" in after[0].reason
