"""Under which policy the restore points of an instance stand, and when that is not known."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.scope import Account
from holdfast.planning.ruling import Standing, ruler_of

ACCOUNT, REGION = "111122223333", "eu-central-1"
OUTSIDE = Account(account=ACCOUNT)
INSIDE = Account(account=ACCOUNT, organization="company", units=("r-1", "ou-1"))


def policy(name: str, priority: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "priority": priority,
        "source": {"role": "shop"},
        "regions": [REGION],
        "selection": {"tags": [{"key": "backup", "value": name}]},
        "daily": {"snapshots": {"hours": [7]}},
        **more,
    }


def configuration(*policies: dict[str, Any]) -> Configuration:
    return Configuration.model_validate(
        {
            "backup_account": "999999999999",
            "hub_region": REGION,
            "roles": [{"name": "shop", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"}],
            "organizations": [
                {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
            ],
            "policies": list(policies),
        }
    )


def instance(*, region: str = REGION, state: str = "running", **tags: str) -> Instance:
    volume = AttachedVolume(volume_id="vol-1", device="/dev/xvda", size_bytes=1 << 30, root=True)
    return Instance(
        instance_id="i-0123456789abcdef0",
        account=ACCOUNT,
        region=region,
        state=state,
        tags=tags,
        volumes=(volume,),
    )


EVERYTHING = {"selection": {"all": True}}
COMPANY = {"source": {"organization": "company"}, **EVERYTHING}


@pytest.mark.parametrize(
    "policies, found, standing, owner",
    [
        ([policy("a", 1)], instance(backup="a"), Standing.OWNED, "a"),
        ([policy("a", 2), policy("b", 1, **EVERYTHING)], instance(backup="a"), Standing.OWNED, "b"),
        ([policy("a", 1, enabled=False)], instance(backup="a"), Standing.AGEING, "a"),
        (
            [policy("a", 1, enabled=False), policy("b", 2, **EVERYTHING)],
            instance(backup="a"),
            Standing.OWNED,
            "b",
        ),
        (
            [policy("b", 1, enabled=False, **EVERYTHING), policy("a", 2, enabled=False)],
            instance(backup="a"),
            Standing.AGEING,
            "b",
        ),
        ([policy("a", 1)], instance(), Standing.OBSOLETE, None),
        ([policy("a", 1)], instance(region="us-east-1", backup="a"), Standing.OBSOLETE, None),
        ([policy("a", 1)], instance(state="terminated", backup="a"), Standing.OBSOLETE, None),
        ([policy("a", 1)], None, Standing.OBSOLETE, None),
        ([], instance(backup="a"), Standing.OBSOLETE, None),
    ],
)
def test_the_owner_judges_else_who_would_own_the_instance_else_nobody(
    policies: list[dict[str, Any]], found: Instance | None, standing: Standing, owner: str | None
):
    ruler = ruler_of(configuration(*policies), found, OUTSIDE)
    assert (ruler.standing, ruler.policy.name if ruler.policy else None) == (standing, owner)
    assert ruler.reason


@pytest.mark.parametrize("left_out", [{"system_volumes": True}, {"volumes": ["vol-00000001"]}])
def test_a_policy_that_selects_an_instance_and_leaves_out_all_its_volumes_still_ages_its_points(
    left_out: dict[str, Any],
):
    made = configuration(policy("a", 1, exclude_volumes=left_out))
    found = instance(backup="a")
    volume = found.volumes[0].model_copy(update={"volume_id": "vol-00000001"})
    ruler = ruler_of(made, found.model_copy(update={"volumes": (volume,)}), OUTSIDE)
    assert ruler.standing is Standing.AGEING


def test_an_instance_whose_volumes_are_not_to_be_seen_is_not_obsolete():
    found = instance(backup="a").model_copy(update={"volumes": ()})
    assert ruler_of(configuration(policy("a", 1)), found, OUTSIDE).standing is Standing.AGEING


def test_an_excluded_instance_is_in_no_policy():
    selection = {"all": True, "exclude_tags": [{"key": "backup", "value": "no"}]}
    made = configuration(policy("a", 1, selection=selection))
    assert ruler_of(made, instance(backup="no"), OUTSIDE).standing is Standing.OBSOLETE


@pytest.mark.parametrize(
    "policies, found, place, standing",
    [
        ([policy("c", 1, **COMPANY)], instance(), OUTSIDE, Standing.UNKNOWN),
        ([policy("c", 1, **COMPANY)], None, OUTSIDE, Standing.UNKNOWN),
        ([policy("c", 1, enabled=False, **COMPANY)], instance(), OUTSIDE, Standing.UNKNOWN),
        ([policy("c", 1, **COMPANY), policy("a", 2)], instance(backup="a"), OUTSIDE, Standing.UNKNOWN),
        ([policy("a", 1), policy("c", 2, **COMPANY)], instance(backup="a"), OUTSIDE, Standing.OWNED),
        (
            [policy("c", 1, enabled=False, **COMPANY), policy("a", 2)],
            instance(backup="a"),
            OUTSIDE,
            Standing.OWNED,
        ),
        (
            [policy("c", 1, **COMPANY), policy("a", 2, enabled=False)],
            instance(backup="x"),
            OUTSIDE,
            Standing.UNKNOWN,
        ),
        (
            [policy("a", 2, enabled=False), policy("c", 3, enabled=False, **COMPANY)],
            instance(backup="a"),
            OUTSIDE,
            Standing.UNKNOWN,
        ),
        ([policy("c", 1, **COMPANY)], instance(), INSIDE, Standing.OWNED),
    ],
)
def test_an_organization_that_was_not_read_leaves_open_what_it_may_own(
    policies: list[dict[str, Any]], found: Instance | None, place: Account, standing: Standing
):
    assert ruler_of(configuration(*policies), found, place, ["company"]).standing is standing


def test_nobody_judges_in_an_account_that_is_closed():
    closed = INSIDE.model_copy(update={"active": False})
    assert ruler_of(configuration(policy("c", 1, **COMPANY)), instance(), closed).standing is Standing.UNKNOWN
    assert ruler_of(configuration(), None, closed).standing is Standing.UNKNOWN
