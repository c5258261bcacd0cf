"""Who is looked at in a session, who is found there, and what a retry looks at again."""

from __future__ import annotations

from typing import Any

from holdfast.errors import AccessDeniedError, ThrottledError
from holdfast.model.configuration import Configuration
from holdfast.model.session import Outcome, Problem, State
from holdfast.operations.sessions.conclude_instance import write_outcome
from holdfast.operations.sessions.discover_instances import DiscoverInstances, discover_instances
from holdfast.operations.sessions.resolve_scope import ResolveScope, resolve_scope
from holdfast.operations.steps import InstanceStep
from holdfast.ports import OrganizationAccount
from tests.session_world import ACCOUNT, POLICY, REGION, START, MemoryOrganization, SessionWorld, configured

SESSION = {"session_id": "20261122T070000Z-daily-1", "policy": POLICY, "slot": START}
SHOP, OFFICE, CLOSED, LAB = "222222222222", "333333333333", "444444444444", "555555555555"


def company(**source: Any) -> SessionWorld:
    """An Organization: the shop in a unit inside a unit, the office in the root, a closed account, a lab."""
    world = SessionWorld(
        configured(
            source={"organization": "company", **source},
            organizations=[
                {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
            ],
        )
    )
    world.organizations["company"] = MemoryOrganization(
        {
            "r-ab12": (
                ["ou-ab12-11111111", "ou-ab12-22222222"],
                [OrganizationAccount(OFFICE, "office", "ACTIVE")],
            ),
            "ou-ab12-11111111": (["ou-ab12-33333333"], [OrganizationAccount(CLOSED, "old", "SUSPENDED")]),
            "ou-ab12-33333333": ([], [OrganizationAccount(SHOP, "shop", "ACTIVE")]),
            "ou-ab12-22222222": ([], [OrganizationAccount(LAB, "lab", "ACTIVE")]),
        }
    )
    return world


def resolve(world: SessionWorld) -> list[str]:
    resolve_scope(ResolveScope.model_validate(SESSION), world)
    part = world.catalog.read_part(SESSION["session_id"], "scope")
    return [account["account"] for account in part["accounts"]]


def discover(world: SessionWorld, attempt: int = 0, region: str = REGION) -> dict[str, Any]:
    event = {**SESSION, "region": region, "attempt": attempt}
    return discover_instances(DiscoverInstances.model_validate(event), world)


def found(world: SessionWorld, answer: dict[str, Any]) -> list[str]:
    return [item["instance_id"] for item in world.work.read(answer["items_key"])]


def region_part(world: SessionWorld, region: str = REGION) -> dict[str, Any]:
    part = world.catalog.read_part(SESSION["session_id"], f"region/{region}")
    assert part is not None
    return part


def ended(world: SessionWorld, instance_id: str, state: State) -> None:
    step = InstanceStep.model_validate(
        {**SESSION, "region": REGION, "account": ACCOUNT, "instance_id": instance_id}
    )
    outcome = Outcome(account=ACCOUNT, region=REGION, instance_id=instance_id, state=state)
    write_outcome(step, outcome, world)


def test_a_policy_of_one_account_looks_at_that_account():
    world = SessionWorld(configured(regions=["eu-west-1", "eu-central-1"]))
    answer = resolve_scope(ResolveScope.model_validate(SESSION), world)
    assert answer == {"regions": ["eu-central-1", "eu-west-1"], "accounts": 1}
    assert resolve(world) == [ACCOUNT]


def test_every_active_account_of_an_organization_is_in_its_scope():
    assert resolve(company()) == [SHOP, OFFICE, LAB]


def test_an_excluded_unit_takes_everything_below_it_out_with_the_reason():
    world = company(exclude_units=["ou-ab12-11111111"], exclude_accounts=[LAB])
    assert resolve(world) == [OFFICE]
    left_out = world.catalog.read_part(SESSION["session_id"], "scope")["left_out"]
    assert {one["account"]: one["reason"] for one in left_out} == {
        SHOP: "the account lies in the excluded unit ou-ab12-11111111",
        CLOSED: "the account lies in the excluded unit ou-ab12-11111111",
        LAB: "the account is excluded by exclude_accounts",
    }


def second_to_the_company(**source: Any) -> SessionWorld:
    """The policy of one account, after a policy of the Organization in which that account lies."""
    organizations = [
        {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
    ]
    document = configured(organizations=organizations).model_dump(exclude_defaults=True)
    (own,) = document["policies"]
    first = {**own, "name": "company-wide", "source": {"organization": "company", **source}}
    document["policies"] = [first, own]
    world = SessionWorld(Configuration.model_validate(document))
    member = OrganizationAccount(ACCOUNT, "production", "ACTIVE")
    world.organizations["company"] = MemoryOrganization({"r-ab12": ([], [member])})
    return world


def test_an_instance_of_a_role_account_has_one_owner_also_after_a_policy_of_its_organization():
    world = second_to_the_company()
    resolve(world)
    world.add_instance()
    assert found(world, discover(world)) == []
    assert region_part(world)["coverage"] == {"not selected": 1}


def test_a_policy_of_the_organization_that_leaves_the_account_out_takes_nothing_from_its_own():
    world = second_to_the_company(exclude_accounts=[ACCOUNT])
    resolve(world)
    instance_id = world.add_instance()
    assert found(world, discover(world)) == [instance_id]


def test_an_organization_that_cannot_be_read_leaves_no_account_of_a_role_unprotected():
    class Closed(MemoryOrganization):
        def roots(self) -> list[str]:
            raise AccessDeniedError("denied organizations:ListRoots")

    world = second_to_the_company()
    world.organizations["company"] = Closed({})
    resolve(world)
    instance_id = world.add_instance()
    assert found(world, discover(world)) == [instance_id]


def test_a_scope_without_accounts_has_no_region_to_look_at():
    world = company(units=["ou-ab12-99999999"])
    assert resolve_scope(ResolveScope.model_validate(SESSION), world)["regions"] == []


def test_instances_of_every_account_are_listed():
    world = company()
    resolve(world)
    first = world.add_instance(1, account=SHOP)
    second = world.add_instance(2, account=OFFICE)
    world.add_instance(3, account=OFFICE, region="eu-west-1")
    answer = discover(world)
    assert (answer["count"], found(world, answer)) == (2, [first, second])


def test_excluded_and_unselected_instances_are_counted_and_left():
    world = SessionWorld(
        configured(
            selection={"tags": [{"key": "backup", "value": "yes"}], "exclude_tags": [{"key": "never"}]}
        )
    )
    resolve(world)
    chosen = world.add_instance(1, tags={"backup": "yes"})
    world.add_instance(2, tags={"backup": "yes", "never": "1"})
    world.add_instance(3)
    assert found(world, discover(world)) == [chosen]
    assert region_part(world)["coverage"] == {"protected": 1, "excluded": 1, "not selected": 1}


def test_an_unreachable_account_is_a_named_problem_and_the_others_are_protected():
    world = company()
    resolve(world)
    reachable = world.add_instance(1, account=OFFICE)
    world.add_instance(2, account=SHOP)
    world.refused[SHOP] = AccessDeniedError(
        "holdfast-discover may not assume the role", resource="arn:role", remedy="Check the external id."
    )
    answer = discover(world)
    problem = Problem.model_validate(region_part(world)["problems"][0])
    assert (found(world, answer), answer["unreachable"]) == ([reachable], 1)
    assert problem.message == (
        "Account 222222222222 (shop) could not be looked at: holdfast-discover may not assume the role"
    )
    assert (problem.resource, problem.severity, problem.remedy) == (
        SHOP,
        State.WARNING,
        "Check the external id.",
    )


def test_a_retry_lists_failed_instances_only():
    world = SessionWorld()
    resolve(world)
    good, bad = world.add_instance(1), world.add_instance(2)
    discover(world)
    ended(world, good, State.SUCCESS)
    ended(world, bad, State.FAILED)
    world.add_instance(3)
    assert found(world, discover(world, attempt=1)) == [bad]


def test_a_retry_looks_again_at_accounts_whose_problem_may_pass():
    world = company()
    resolve(world)
    world.refused = {SHOP: ThrottledError("slow down"), LAB: AccessDeniedError("no")}
    in_office = world.add_instance(1, account=OFFICE)
    in_shop = world.add_instance(2, account=SHOP)
    world.add_instance(3, account=LAB)
    discover(world)
    ended(world, in_office, State.SUCCESS)
    world.refused.pop(SHOP)
    answer = discover(world, attempt=1)
    assert found(world, answer) == [in_shop]
    assert [problem["resource"] for problem in region_part(world)["problems"]] == [LAB]
    assert region_part(world)["coverage"] == {"protected": 2}


def test_a_retry_of_a_lost_region_looks_at_everything_but_what_ended_well():
    world = SessionWorld()
    resolve(world)
    good, bad, unseen = (world.add_instance(number) for number in (1, 2, 3))
    ended(world, good, State.SUCCESS)
    ended(world, bad, State.FAILED)
    world.catalog.write_part(
        SESSION["session_id"], f"region/{REGION}", {"lost": True, "problems": []}, at=START
    )
    assert found(world, discover(world, attempt=1)) == [bad, unseen]


def gold_first() -> SessionWorld:
    """A world whose policy comes after one that selects what is tagged gold."""
    first = {
        "name": "first",
        "priority": 1,
        "source": {"role": "production"},
        "regions": [REGION],
        "selection": {"tags": [{"key": "gold"}]},
        "daily": {"snapshots": {"hours": [3]}},
    }
    base = configured().model_dump(exclude_defaults=True)
    world = SessionWorld(type(configured()).model_validate({**base, "policies": [*base["policies"], first]}))
    resolve(world)
    return world


def test_an_instance_that_a_policy_of_higher_priority_selects_is_left_to_it():
    world = gold_first()
    world.add_instance(1, tags={"gold": "yes"})
    mine = world.add_instance(2)
    assert found(world, discover(world)) == [mine]


def test_an_instance_of_a_policy_that_was_switched_off_falls_to_the_next_one():
    world = gold_first()
    gold, mine = world.add_instance(1, tags={"gold": "yes"}), world.add_instance(2)
    world.catalog.switch_policy("first", off=True)
    assert found(world, discover(world)) == [gold, mine]
    world.catalog.switch_policy("first", off=False)
    assert found(world, discover(world)) == [mine]
