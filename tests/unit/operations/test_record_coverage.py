"""The ledger of a day, from sessions that really ran and accounts that were really looked at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, NotFoundError, ThrottledError, UnavailableError
from holdfast.model.configuration import Configuration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Outcome, Problem, Session, State
from holdfast.operations.coverage.coverage_ledger import chunks, dated, read_day, read_head, read_known
from holdfast.operations.coverage.look_around import AT_ONCE, LATE, MARGIN, SLOW, accesses, look_around
from holdfast.operations.coverage.record_coverage import RecordCoverage, record_coverage
from holdfast.planning.coverage import Day
from holdfast.planning.standing import Standing
from holdfast.ports import OrganizationAccount
from tests.restore_world import RestoreWorld
from tests.session_play import play
from tests.session_world import ACCOUNT, REGION, MemoryOrganization, configured

MEMBER, SANDBOX, CLOSED = "000000000001", "000000000002", "000000000003"
SATURDAY = date(2026, 11, 21)
SUNDAY = date(2026, 11, 22)
COMPANY = {
    "name": "company",
    "source": {"organization": "company", "exclude_accounts": [SANDBOX]},
    "regions": [REGION],
    "selection": {"tags": [{"key": "backup"}]},
    "daily": {"snapshots": {"hours": [3], "keep": 2}},
}


def with_company(**changes: Any) -> Configuration:
    """The policy of one account, and one of an Organization that leaves the sandbox out."""
    own = configured(daily={"snapshots": {"hours": [7], "keep": 2}}, repository="", **changes)
    organization = {"name": "company", "management_role": "arn:aws:iam::777777777777:role/Organization"}
    whole = own.model_dump(mode="json", exclude_defaults=True)
    return Configuration.model_validate(
        whole | {"organizations": [organization], "policies": [*whole["policies"], COMPANY]}
    )


def at(on: date, hour: int) -> datetime:
    return datetime(on.year, on.month, on.day, hour, tzinfo=UTC)


class Setting(RestoreWorld):
    """Accounts of an Organization beside the one of a role."""

    def __init__(self, *members: str) -> None:
        super().__init__(with_company())
        self.join(*members)

    def join(self, *members: str) -> None:
        accounts = [OrganizationAccount(one, f"name of {one[-1]}", "ACTIVE") for one in members]
        accounts += [OrganizationAccount(CLOSED, "closed", "SUSPENDED")]
        self.organizations["company"] = MemoryOrganization({"r-root": ([], accounts)})

    def session(
        self, policy: str, slot: datetime, *ended: Outcome, problems: tuple[Problem, ...] = ()
    ) -> str:
        """The records of a session as the functions leave them."""
        from holdfast.model.ids import session_id

        name, catalog = session_id(policy, slot), self.catalog
        state = State.FAILED if any(one.state is State.FAILED for one in ended) else State.SUCCESS
        over = slot + timedelta(minutes=10)
        catalog.write_session(
            Session(session_id=name, policy=policy, slot=slot, started_at=slot, ended_at=over, state=state)
        )
        region = {"ended": True, "problems": [one.model_dump(mode="json") for one in problems]}
        catalog.write_part(name, f"region/{REGION}", region, at=slot)
        for one in ended:
            part = f"outcome/{one.region}/{one.account}/{one.instance_id}"
            catalog.write_part(name, part, {"outcome": one.model_dump(mode="json")}, at=slot)
        return name

    def record(self, on: date) -> Day:
        """The ledger of a day, written at 04:00 of the next."""
        self.clock.current = at(on, 4) + timedelta(days=1)
        record_coverage(RecordCoverage(scheduled_at=self.clock.current), self)
        return read_day(on, self.catalog)[1]


def ended(instance_id: str, account: str = ACCOUNT, why: str = "") -> Outcome:
    problems = (Problem(code="SourceGone", message=why),) if why else ()
    state = State.FAILED if why else State.SUCCESS
    return Outcome(
        account=account,
        region=REGION,
        instance_id=instance_id,
        state=state,
        problems=problems,
        kinds=() if why else ("snapshot",),
    )


def standings(found: Day) -> Mapping[str, str]:
    return {line.instance_id[-1]: line.standing.value for line in found.lines}


def test_a_day_joins_the_inventory_with_what_its_sessions_made():
    world = Setting(MEMBER, SANDBOX)
    good, bad = world.add_instance(1), world.add_instance(2)
    member = world.add_instance(3, account=MEMBER, tags={"backup": "yes"})
    world.add_instance(4, account=MEMBER)
    world.add_instance(5, account=SANDBOX, tags={"backup": "yes"})
    world.session("daily", at(SUNDAY, 7), ended(good), ended(bad, why="the volume is gone"))
    world.session("company", at(SUNDAY, 3), ended(member, MEMBER))
    found = world.record(SUNDAY)
    assert standings(found) == {
        "1": "protected",
        "2": "failed",
        "3": "protected",
        "4": "not selected",
        "5": "not selected",
    }
    (failure,) = found.failures
    assert failure.reason == "the session of 2026-11-22 07:00 UTC failed: SourceGone: the volume is gone"
    assert [(each.account, each.instances, each.reachable) for each in found.accounts] == [
        (MEMBER, 2, True),
        (SANDBOX, 1, True),
        (CLOSED, 0, False),
        (ACCOUNT, 2, True),
    ]
    assert found.unreachable == ()  # nobody protects a closed account
    ((policy, metrics),) = world.metrics
    assert (policy, metrics["InstancesExisting"], metrics["InstancesProtected"]) == ("", 5, 2)
    assert (metrics["InstancesUnprotected"], metrics["LedgersRecorded"]) == (1, 1)


def test_a_session_that_really_ran_protects():
    world = RestoreWorld(configured(daily={"snapshots": {"hours": [7], "keep": 2}}, repository=""))
    world.add_instance(1)
    play(world)
    world.clock.current = at(SUNDAY, 4) + timedelta(days=1)
    answer = record_coverage(RecordCoverage(scheduled_at=world.clock.current), world)
    assert answer["instances"]["protected"] == 1
    (line,) = read_day(SUNDAY, world.catalog)[1].lines
    assert line.reason == "restore point of 2026-11-22 07:00 UTC by policy 'daily'"


def test_an_account_that_cannot_be_entered_keeps_its_known_instances_and_alarms():
    world = Setting(MEMBER)
    world.add_instance(3, account=MEMBER, tags={"backup": "yes"})
    world.record(SATURDAY)
    world.refused[MEMBER] = AccessDeniedError("The role HoldfastBackup is gone.", resource=MEMBER)
    found = world.record(SUNDAY)
    assert standings(found) == {"3": "unreachable"}
    (account,) = found.unreachable
    assert account.reason == f"AccessDenied: The role HoldfastBackup is gone. (in {REGION})"
    assert world.metrics[-1][1]["AccountsOutOfReach"] == 1
    _, subject, text, document = world.notifier.notices[-1]
    assert subject == "[Coverage] 2026-11-22: 0 failed, 1 accounts unreachable, 0 new"
    assert f"account {MEMBER} (name of 1) is unreachable" in text
    assert document["unreachable_accounts"] == [MEMBER]


def test_an_account_that_joins_is_new_once():
    world = Setting(MEMBER)
    assert world.record(SATURDAY - timedelta(days=1)).new == ()  # the first ledger knows no earlier one
    world.join(MEMBER, SANDBOX)
    assert [each.account for each in world.record(SATURDAY).new] == [SANDBOX]
    assert "is new: 0 of 0 instances protected" in world.notifier.notices[-1][2]
    assert world.record(SUNDAY).new == ()


def test_an_organization_that_cannot_be_read_is_taken_as_it_was_known():
    world = Setting(MEMBER)
    world.add_instance(3, account=MEMBER)
    world.record(SATURDAY)

    class Closed(MemoryOrganization):
        def roots(self) -> list[str]:
            raise AccessDeniedError("The management role is gone.")

    world.organizations["company"] = Closed({})
    found = world.record(SUNDAY)
    assert standings(found) == {"3": "not selected"}
    assert found.unread == {"company": "The management role is gone."}
    assert "Organization company could not be read: The management role is gone." in found.alarms


def test_a_day_is_recorded_once_and_never_changed():
    world = Setting(MEMBER)
    bad = world.add_instance(2)
    world.session("daily", at(SUNDAY, 7), ended(bad, why="gone"))
    before = world.record(SUNDAY)
    world.add_instance(9)
    again = record_coverage(RecordCoverage(scheduled_at=world.clock.now()), world)
    assert again["recorded"] is False
    assert read_day(SUNDAY, world.catalog)[1] == before
    assert len(world.notifier.notices) == 1
    assert len(world.metrics) == 1


def test_a_message_that_could_not_be_sent_is_sent_by_the_retry():
    world = Setting(MEMBER)
    world.session("daily", at(SUNDAY, 7), ended(world.add_instance(2), why="gone"))
    world.notifier.broken[""] = UnavailableError("SNS does not answer.")
    with pytest.raises(UnavailableError):
        world.record(SUNDAY)
    world.notifier.broken.clear()
    world.record(SUNDAY)
    world.record(SUNDAY)
    assert len(world.notifier.notices) == 1


def test_days_without_a_ledger_are_judged_with_the_next_one():
    world = Setting(MEMBER)
    instance_id = world.add_instance(1)
    friday = SATURDAY - timedelta(days=1)
    world.session("daily", at(friday, 7), ended(instance_id))
    world.record(friday)
    world.session("daily", at(SATURDAY, 7), ended(instance_id, why="gone"))
    world.session("daily", at(SUNDAY, 7), ended(instance_id))
    assert standings(world.record(SUNDAY)) == {"1": "protected"}
    assert read_head(SATURDAY, world.catalog) is None


def test_a_missing_session_is_a_failure_from_the_second_day_of_a_policy_on():
    world = Setting(MEMBER)
    world.add_instance(1)
    assert standings(world.record(SATURDAY)) == {"1": "not selected"}
    assert standings(world.record(SUNDAY)) == {"1": "failed"}


def test_a_restore_point_of_the_next_morning_says_nothing_about_the_day():
    world = Setting(MEMBER)
    instance_id = world.add_instance(1)
    made = {"kind": Kind.SNAPSHOT, "account": ACCOUNT, "region": REGION, "instance_id": instance_id}
    world.catalog.add_point(RestorePoint(point_id="later", taken_at=at(SUNDAY, 3), **made))
    assert standings(world.record(SATURDAY)) == {"1": "not selected"}
    manual = RestorePoint(point_id="by hand", taken_at=at(SATURDAY, 3), manual=True, **made)
    world.catalog.add_point(manual)
    assert standings(world.record(SATURDAY - timedelta(days=1))) == {"1": "not selected"}
    world.catalog.add_point(RestorePoint(point_id="earlier", taken_at=at(SATURDAY, 2), **made))
    world.catalog.part_records.clear()
    assert standings(world.record(SATURDAY)) == {"1": "protected"}


def test_slots_from_before_a_policy_was_switched_on_do_not_count():
    world = Setting(MEMBER)
    world.add_instance(1)
    world.record(SATURDAY)
    world.catalog.switch_policy("daily", off=False, at=at(SUNDAY, 12))
    assert standings(world.record(SUNDAY)) == {"1": "not selected"}


def test_a_policy_that_is_switched_off_owns_nothing():
    world = Setting(MEMBER)
    world.add_instance(1)
    world.record(SATURDAY)
    world.catalog.switch_policy("daily", off=True, at=at(SUNDAY, 5))
    (line,) = world.record(SUNDAY).lines
    assert (line.standing, "disabled" in line.reason) == (Standing.NOT_SELECTED, True)


def test_a_look_at_this_moment_changes_nothing_and_tells_nobody():
    world = Setting(MEMBER)
    world.add_instance(1)
    world.add_instance(3, account=MEMBER)
    world.clock.current = at(SUNDAY, 8)
    answer = record_coverage(RecordCoverage(live=True, accounts=(MEMBER,)), world)
    found = read_day(answer["ledger"], world.catalog)[1]
    assert standings(found) == {"3": "not selected"}
    assert (world.metrics, world.notifier.notices) == ([], [])
    assert read_head(SUNDAY, world.catalog) is None
    known = read_known(world.catalog)
    assert (known.accounts or {}).keys() == {ACCOUNT, MEMBER, CLOSED}
    assert known.instances.keys() == {(MEMBER, REGION)}
    world.add_instance(9, account=SANDBOX)
    world.join(MEMBER, SANDBOX)
    record_coverage(RecordCoverage(live=True), world)
    assert world.record(SUNDAY).new == ()  # there is no earlier ledger
    assert standings(read_day(SUNDAY, world.catalog)[1])["9"] == "not selected"


def test_the_default_key_is_noted_where_something_is_encrypted():
    world = Setting(MEMBER)
    instance_id = world.add_instance(1)
    world.add_instance(3, account=MEMBER)
    instance = world.home.machines[instance_id].instance
    (volume,) = instance.volumes
    encrypted = volume.model_copy(update={"encrypted": True, "kms_key_arn": "some key"})
    world.adjust(instance_id, instance=instance.model_copy(update={"volumes": (encrypted,)}))
    world.record(SUNDAY)
    keys = read_known(world.catalog).default_keys
    assert keys[ACCOUNT, REGION] == world.snapshot_copier(ACCOUNT, REGION).default_key()
    assert keys[MEMBER, REGION] == ""


def test_what_was_not_looked_at_in_time_is_told_as_such():
    world = Setting(MEMBER)
    world.add_instance(1)
    world.record(SATURDAY)
    world.seconds_left = MARGIN - 1
    found = world.record(SUNDAY)
    assert [each.account for each in found.unreachable] == [MEMBER, ACCOUNT]
    assert {line.reason for line in found.lines} == {LATE}


def test_a_slow_account_gives_up_its_further_regions_and_holds_up_nobody():
    world = Setting(MEMBER)
    (policy, *others) = world.configuration.policies
    wide = policy.model_copy(update={"regions": (REGION, "eu-west-1", "us-east-1")})
    world.configuration = world.configuration.model_copy(update={"policies": (wide, *others)})
    world.add_instance(1)
    slow = world.spoke("", ACCOUNT, REGION)
    slow.faults["inventory"] = [lambda: world.clock.advance(timedelta(seconds=121))]
    seen = look_around(world, read_known(world.catalog), [ACCOUNT])
    assert seen.closed == {(ACCOUNT, "eu-west-1"): SLOW, (ACCOUNT, "us-east-1"): SLOW}
    assert [one.account for one in seen.everything(read_known(world.catalog))] == [ACCOUNT]


def test_a_region_that_is_denied_does_not_hide_the_others():
    world = Setting(MEMBER)
    (policy, *others) = world.configuration.policies
    wide = policy.model_copy(update={"regions": (REGION, "eu-west-1")})
    world.configuration = world.configuration.model_copy(update={"policies": (wide, *others)})
    world.add_instance(1)
    denied = world.spoke("", ACCOUNT, "eu-west-1")
    denied.faults["inventory"] = [ThrottledError("Too many requests.")]
    seen = look_around(world, read_known(world.catalog))
    assert seen.closed[ACCOUNT, "eu-west-1"] == "Throttled: Too many requests."
    assert len(seen.found[ACCOUNT, REGION]) == 1


def test_many_accounts_are_all_looked_at():
    members = [f"{number:012}" for number in range(100, 100 + 4 * AT_ONCE)]
    world = Setting(*members)
    for number, account in enumerate(members):
        world.add_instance(number + 10, account=account)
    found = world.record(SUNDAY)
    assert len(found.lines) == len(members)
    assert [line.account for line in read_day(SUNDAY, world.catalog, members[5])[1].lines] == [members[5]]


def test_an_account_is_entered_by_its_own_role_before_its_organization():
    world = Setting(MEMBER, ACCOUNT)
    look_around(world, read_known(world.catalog))
    assert [role for account, _, role in world.roles if account == ACCOUNT] == ["production"]
    assert [role for account, _, role in world.roles if account == MEMBER] == ["company"]
    (own,) = (one for one in look_around(world, read_known(world.catalog)).accounts if one.account == ACCOUNT)
    assert accesses(world.configuration, own) == ("production", "company")


def test_lists_are_cut_so_that_an_item_of_the_catalog_holds_them():
    rows = [{"text": "x" * 90_000}] * 5
    assert [len(piece) for piece in chunks(rows)] == [2, 2, 1]
    assert list(chunks([])) == [[]]


def test_tags_of_volumes_that_no_item_holds_do_not_stop_the_ledger():
    """50 tags of 384 characters on each of 28 volumes are more than an item, even compressed."""
    world = Setting(MEMBER)
    instance_id = world.add_instance(1)
    instance = world.home.machines[instance_id].instance
    tags = {f"{number}": "\u4e00" * 256 for number in range(50)}
    volumes = tuple(
        instance.volumes[0].model_copy(update={"volume_id": f"vol-{number:017x}", "tags": tags})
        for number in range(28)
    )
    world.adjust(instance_id, instance=instance.model_copy(update={"volumes": volumes}))
    assert len(world.record(SUNDAY).lines) == 1
    (kept,) = read_known(world.catalog).instances[ACCOUNT, REGION]
    assert [len(volume.tags) for volume in kept.volumes] == [0] * 28
    assert kept.tags == instance.tags


def test_what_another_version_kept_and_this_one_cannot_read_is_looked_at_anew():
    world = Setting(MEMBER)
    world.add_instance(1)
    world.record(SATURDAY)
    key = ("coverage/known", f"instances/{ACCOUNT}/{REGION}/0000")
    world.catalog.part_records[key]["rows"] += [{"instance_id": "i-1", "novelty": 1}]
    assert len(read_known(world.catalog).instances[ACCOUNT, REGION]) == 1
    assert len(world.record(SUNDAY).lines) == 1


def test_a_shorter_inventory_forgets_the_pieces_of_a_longer_one():
    world = Setting(MEMBER)
    for number in range(1, 4):
        world.add_instance(number, tags={f"key {one}": "v" * 200 for one in range(400)})
    world.record(SATURDAY)
    assert len(read_known(world.catalog, ACCOUNT, REGION).instances[ACCOUNT, REGION]) == 3
    del world.home.machines[f"i-{2:017x}"], world.home.machines[f"i-{3:017x}"]
    world.record(SUNDAY)
    assert len(read_known(world.catalog).instances[ACCOUNT, REGION]) == 1
    world.home.machines.clear()
    world.record(SUNDAY + timedelta(days=1))
    assert list(read_known(world.catalog).everything()) == []


def test_the_ledger_is_kept_for_thirteen_months_whatever_session_records_say():
    now = at(SUNDAY, 4)
    short = configured()
    assert dated(short, now) - now == timedelta(days=397 - 93)
    assert dated(configured(session_records={"years": 2}), now) == now
    assert dated(configured(session_records="all"), now) == now


def test_a_day_without_a_ledger_says_when_there_will_be_one():
    with pytest.raises(NotFoundError) as raised:
        read_day(SUNDAY, Setting(MEMBER).catalog)
    assert "--live" in raised.value.remedy
