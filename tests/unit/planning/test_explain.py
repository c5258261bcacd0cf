"""What is announced for an instance: its next slots, and what retention will remove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.configuration import Account, Configuration, SchedulePolicy
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning import explain as rules
from holdfast.planning.explain import Explanation, Removal, explain
from holdfast.planning.retention import judge, rule_for
from holdfast.planning.schedule import slots
from tests.vectors.policies import BASIS, REGION, configuration, point, policy, spelled

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OWN = Account(account="444455556666")
DAILY = {"snapshots": {"hours": [7], "keep": 3}, "backups": {"hours": [7], "keep": {"days": 5}}}


def instance(**more: object) -> Instance:
    volume = AttachedVolume(volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=1 << 30)
    whole = {
        "instance_id": "i-0123456789abcdef0",
        "account": OWN.account,
        "region": REGION,
        "volumes": (volume,),
    }
    return Instance.model_validate(whole | more)


def forecast(
    made: SchedulePolicy, kind: Kind, chain: list[RestorePoint], until: datetime, base: str = ""
) -> tuple[Removal, ...]:
    """The forecast of one chain of a policy that stands alone."""
    return rules.forecast(configuration(), made, kind, REGION, chain, NOW, until, base)


def history(made: SchedulePolicy, kind: Kind, days: int) -> list[RestorePoint]:
    """The points that a policy made before NOW, with retention after each."""
    chain: list[RestorePoint] = []
    for slot in slots(made, NOW - DAY * days, NOW):
        if kind in slot.products:
            chain.append(point(slot.at, spelled(slot.flags_of(kind)), kind))
        kept = {verdict.point_id: verdict for verdict in judge(chain, rule_for(made, kind), slot.at)}
        chain = [
            each.model_copy(update={"flags": kept[each.point_id].flags})
            for each in chain
            if not kept[each.point_id].remove
        ]
    return chain


def test_snapshots_go_in_the_session_that_makes_one_too_many():
    made = policy(daily={"snapshots": DAILY["snapshots"]})
    chain = history(made, Kind.SNAPSHOT, 20)
    found = forecast(made, Kind.SNAPSHOT, chain, NOW + 10 * DAY)
    assert [(removal.taken_at.day, removal.at.day, removal.at.hour) for removal in found] == [
        (8, 11, 7),
        (9, 12, 7),
        (10, 13, 7),
    ]
    assert {removal.reason for removal in found} == {"the daily schedule keeps the newest 3"}


def test_what_a_changed_retention_lets_go_goes_with_the_next_pass():
    """Not only with the next session: the daily pass judges snapshots too, but for those of the last day."""
    longer = policy(daily={"snapshots": {"hours": [7], "keep": 9}})
    chain = history(longer, Kind.SNAPSHOT, 20)[-4:]
    shorter = policy(daily={"days": ["mon"], "snapshots": {"hours": [7], "keep": 1}})
    found = forecast(shorter, Kind.SNAPSHOT, chain, NOW + 3 * DAY)
    assert [(removal.taken_at.day, f"{removal.at:%d %H:%M}") for removal in found] == [
        (7, "11 04:00"),
        (8, "11 04:00"),
        (9, "11 04:00"),
        (10, "12 07:00"),
    ]


def test_backups_go_at_the_daily_retention_after_their_time():
    made = policy(daily=DAILY, repository="standard")
    chain = history(made, Kind.BACKUP, 20)
    found = forecast(made, Kind.BACKUP, chain, NOW + 3 * DAY)
    assert [(removal.taken_at.day, f"{removal.at:%d %H:%M}") for removal in found] == [
        (6, "12 04:00"),
        (7, "13 04:00"),
    ]
    assert [removal.gone_at - removal.at for removal in found] == [DAY, DAY]  # noted first, then deleted


def test_the_snapshot_that_the_next_backup_compares_with_is_announced_for_after_it():
    made = policy(
        daily=DAILY | {"backups": {"hours": []}, "snapshots": {"hours": [7], "keep": 2}},
        repository="standard",
    )
    weekly = made.model_copy(
        update={"weekly": policy(weekly={"time": "07:00", "backups": {"days": ["fri"]}}).weekly}
    )
    chain = [point(NOW.replace(hour=7) - DAY * number, "D") for number in (2, 1, 0)]
    found = forecast(weekly, Kind.SNAPSHOT, chain, NOW + 8 * DAY, base=chain[0].point_id)
    at = {removal.taken_at.day: removal.at.day for removal in found}
    assert at == {8: 16, 9: 11, 10: 12}


def test_a_backup_at_the_hour_of_retention_is_made_after_it():
    made = policy(daily={"backups": {"hours": [4], "keep": {"days": 5}}}, repository="standard")
    only = point(NOW - 90 * DAY, "D", Kind.BACKUP)
    (removal,) = forecast(made, Kind.BACKUP, [only], NOW + 5 * DAY)
    assert f"{removal.at:%d %H:%M}" == "12 04:00"


def test_nothing_is_announced_for_what_stays():
    made = policy(daily={"snapshots": DAILY["snapshots"]})
    manual = point(NOW - 90 * DAY, manual=True)
    assert forecast(made, Kind.SNAPSHOT, [manual], NOW + 30 * DAY) == ()


def test_an_explanation_names_owner_slots_and_removals():
    made = configuration(BASIS | {"daily": DAILY, "repository": "standard"})
    mine = made.policies[0]
    backups = [
        each.model_copy(
            update={"repository": "standard", "snapshot_ids": {"vol-1": f"snap-{each.taken_at.day}"}}
        )
        for each in history(mine, Kind.BACKUP, 20)
    ]
    snapshots = [
        each.model_copy(update={"snapshot_ids": {"vol-1": f"snap-{each.taken_at.day}"}})
        for each in history(mine, Kind.SNAPSHOT, 20)
    ]
    found = explain(made, instance(), OWN, [*backups, *snapshots], NOW, count=3, horizon=2 * DAY)
    assert found.owner == "policy"
    assert [slot.at.day for slot in found.slots] == [11, 12, 13]
    assert [(removal.kind.value, removal.taken_at.day, removal.at.day) for removal in found.removals] == [
        ("snapshot", 8, 11),
        ("backup", 6, 12),
        ("snapshot", 9, 12),
    ]


def test_an_instance_without_an_owner_is_explained_by_the_opinions_alone():
    made = configuration(BASIS | {"selection": {"tags": [{"key": "gold"}]}})
    found = explain(made, instance(), OWN, [], NOW)
    assert (found.owner, found.slots, found.removals) == ("", (), ())
    assert found.opinions[0].reason == "neither its id nor its tags are selected"


def test_snapshots_of_an_instance_without_an_owner_go_as_obsolete_ones():
    chosen = BASIS | {"selection": {"tags": [{"key": "gold"}]}}
    made = configuration(chosen, obsolete_snapshots={"mode": "after", "days": 15})
    old = point(NOW.replace(hour=7) - 13 * DAY, "D", policy="policy")
    (removal,) = explain(made, instance(), OWN, [old], NOW).removals
    assert f"{removal.at:%d %H:%M}" == "13 04:00"
    assert "obsolete snapshots are kept for 15 days" in removal.reason


def test_points_of_a_disabled_policy_age_by_it_without_new_ones():
    off = BASIS | {"daily": DAILY, "repository": "standard", "enabled": False}
    made = configuration(off, obsolete_snapshots={"mode": "after", "days": 15})
    snapshots = history(made.policies[0], Kind.SNAPSHOT, 20)
    backups = [
        each.model_copy(update={"repository": "standard", "policy": "policy"})
        for each in history(made.policies[0], Kind.BACKUP, 20)
    ]
    found = explain(made, instance(), OWN, [*snapshots, *backups], NOW)
    assert (found.owner, found.slots) == ("", ())
    assert [(each.kind, each.taken_at.day) for each in found.removals] == [
        (Kind.BACKUP, day) for day in (6, 7, 8, 9)
    ]  # counted snapshots stay, and keep_last spares the newest backup


def with_sla(**template: object) -> Configuration:
    whole = {
        "name": "t",
        "snapshots": {
            "daily": {"hours": 12, "keep": "3 days"},
            "weekly": {"days": ["sun"], "keep": "9 days"},
        },
        "replicas": {"every": "day", "keep": "3 days"},
        "backups": {"daily": {"hours": 24, "keep": "5 days"}},
        "snapshot_window": {"start": "06:00", "end": "06:00"},
        "backup_window": {"start": "08:00", "end": "10:00"},
    }
    sla = BASIS | {"sla_template": "t", "storage_template": "s"}
    return configuration(
        sla_policies=[sla],
        sla_templates=[whole | template],
        storage_templates=[{"name": "s", "backups": "standard"}],
        region_time_zones={REGION: "UTC"},
    )


def spelled_slots(found: Explanation) -> list[tuple[str, dict[str, str]]]:
    return [
        (f"{slot.at:%d %H:%M}", {kind.value: spelled(flags) for kind, flags in slot.flags.items()})
        for slot in found.slots
    ]


def test_slots_of_an_sla_policy_show_the_flags_that_they_can_earn():
    found = explain(with_sla(), instance(), OWN, [], NOW, count=4)
    assert found.earned
    # Saturday evening, Sunday: the weekly flag is open to both snapshots until one has it
    assert spelled_slots(found) == [
        ("10 18:00", {"snapshot": "D", "replica": "D"}),
        ("11 06:00", {"snapshot": "DW", "replica": "D"}),
        ("11 08:00", {"backup": "D"}),
        ("11 18:00", {"snapshot": "DW", "replica": "D"}),
    ]
    assert found.slots[2].temporary == {Kind.SNAPSHOT}


def test_a_flag_that_a_restore_point_has_taken_is_not_offered_again():
    now = NOW + DAY
    taken = point(now.replace(hour=6), "DW", policy="policy")
    replicated = point(now.replace(hour=6), "D", Kind.REPLICA, policy="policy")
    found = explain(with_sla(), instance(), OWN, [taken, replicated], now, count=1)
    assert spelled_slots(found) == [("11 18:00", {"snapshot": "D"})]


def test_what_an_sla_policy_made_goes_when_its_windows_have_closed_or_at_four():
    old = [point((NOW - DAY * days).replace(hour=6), "D", policy="policy") for days in (3, 2)]
    found = explain(with_sla(), instance(), OWN, old, NOW, horizon=3 * DAY)
    assert [(each.taken_at.day, f"{each.at:%d %H:%M}") for each in found.removals] == [
        (7, "11 04:00"),
        (8, "11 06:00"),
    ]


def test_a_temporary_snapshot_goes_with_the_next_backup():
    made = point(NOW.replace(hour=8), "", policy="policy", temporary=True)
    (removal,) = explain(with_sla(), instance(), OWN, [made], NOW).removals
    assert (f"{removal.at:%d %H:%M}", removal.reason) == ("11 08:00", "temporary, until the next backup")


@pytest.mark.parametrize("kind", [Kind.SNAPSHOT, Kind.BACKUP])
def test_what_is_announced_is_what_happens(kind):
    made = policy(
        daily={"snapshots": {"hours": [7, 19], "keep": 5}, "backups": {"hours": [19], "keep": {"days": 9}}},
        weekly={
            "time": "19:00",
            "snapshots": {"days": ["sun"], "keep": 2},
            "backups": {"days": ["sun"], "keep": "30 days"},
        },
    )
    chain = history(made, kind, 60)
    announced = forecast(made, kind, chain, NOW + 25 * DAY)
    mine = {each.point_id for each in chain}
    passes = [slot.at for slot in slots(made, NOW, NOW + 25 * DAY)]
    if kind is Kind.BACKUP:
        passes += [(NOW + DAY * number).replace(hour=4) for number in range(1, 26)]
    happened = []
    for at in sorted(passes):
        for slot in slots(made, at, at + timedelta(minutes=1)):
            if kind in slot.products:
                chain.append(point(slot.at, spelled(slot.flags_of(kind)), kind))
        if kind is Kind.BACKUP and at.hour != 4:
            continue
        verdicts = {verdict.point_id: verdict for verdict in judge(chain, rule_for(made, kind), at)}
        happened += [(each, at) for each in verdicts if verdicts[each].remove and each in mine]
        chain = [
            each.model_copy(update={"flags": verdicts[each.point_id].flags})
            for each in chain
            if not verdicts[each.point_id].remove
        ]
    assert [(removal.point_id, removal.at) for removal in announced] == happened
    assert happened
