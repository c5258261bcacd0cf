"""What a changed configuration would do, and what protection costs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from xml.dom import minidom

import pytest

from holdfast.model.configuration import Account, Configuration, Role
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.changes import compare
from holdfast.planning.cost import Assumptions, Estimate, estimate, load, steady_chain, to_csv, to_xml
from tests.vectors.policies import BASIS, REGION, configuration, point

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OWN = Account(account="444455556666")
DAILY = {"snapshots": {"hours": [7], "keep": 3}, "backups": {"hours": [7], "keep": {"days": 30}}}
BACKED = BASIS | {"daily": DAILY, "repository": "standard"}


def instance(gib: int = 100, **more: object) -> Instance:
    volume = AttachedVolume(volume_id="vol-0123456789abcdef0", device="/dev/xvda", size_bytes=gib << 30)
    whole = {
        "instance_id": "i-0123456789abcdef0",
        "account": OWN.account,
        "region": REGION,
        "volumes": (volume,),
    }
    return Instance.model_validate(whole | more)


def points(kind: Kind, days: int, **more: object) -> list[RestorePoint]:
    return [
        point((NOW - DAY * number).replace(hour=7), "D", kind, policy="policy", **more)
        for number in range(days)
    ]


def change(before: Configuration, after: Configuration, *made: RestorePoint):
    return compare(before, after, [instance()], [OWN], made, NOW)


def with_daily(**daily: object) -> Configuration:
    return configuration(BACKED | {"daily": DAILY | daily})


def test_the_same_configuration_changes_nothing():
    found = change(configuration(BACKED), configuration(BACKED), *points(Kind.SNAPSHOT, 3))
    assert (found.moved, found.removed, found.cost_delta) == ((), (), 0.0)
    assert not found.needs_confirmation


def test_a_new_policy_gains_instances_and_costs_more():
    found = change(configuration(), configuration(BACKED))
    assert [(each.before, each.after) for each in found.gained] == [("", "policy")]
    assert found.lost == ()
    assert found.cost_delta > 0


def test_a_removed_policy_loses_instances_and_costs_less():
    found = change(configuration(BACKED), configuration())
    assert [(each.before, each.after) for each in found.lost] == [("policy", "")]
    assert found.cost_delta < 0


def test_a_shorter_retention_names_the_points_it_would_remove_and_needs_confirmation():
    after = with_daily(backups={"hours": [7], "keep": {"days": 2}})
    found = change(configuration(BACKED), after, *points(Kind.BACKUP, 5, repository="standard"))
    assert [(each.taken_at.day, each.reason) for each in found.removed] == [
        (6, "the daily schedule keeps 2 days"),
        (7, "the daily schedule keeps 2 days"),
        (8, "the daily schedule keeps 2 days"),
    ]
    assert found.needs_confirmation


def test_what_the_old_configuration_removes_anyway_is_not_the_change():
    after = with_daily(backups={"hours": [7], "keep": {"days": 29}})
    found = change(configuration(BACKED), after, *points(Kind.BACKUP, 40, repository="standard"))
    assert [(NOW - each.taken_at).days for each in found.removed] == [29]


def test_the_base_of_changed_block_tracking_is_not_announced():
    snapshots = points(Kind.SNAPSHOT, 3, snapshot_ids={"vol-1": "snap-1"})[2:] + points(Kind.SNAPSHOT, 2)
    backups = points(Kind.BACKUP, 1, repository="standard", snapshot_ids={"vol-1": "snap-1"})
    after = with_daily(snapshots={"hours": [7], "keep": 1})
    found = change(configuration(BACKED), after, *snapshots, *backups)
    assert [each.taken_at.day for each in found.removed] == [9]


def test_snapshots_of_a_lost_instance_become_obsolete_and_its_backups_stay():
    old = points(Kind.SNAPSHOT, 1) + points(Kind.BACKUP, 1, repository="standard")
    aged = [each.model_copy(update={"taken_at": NOW - 40 * DAY}) for each in old]
    after = configuration(obsolete_snapshots={"mode": "after", "days": 30})
    found = change(configuration(BACKED), after, *aged)
    assert [(each.kind, each.policy, each.moved) for each in found.removed] == [(Kind.SNAPSHOT, "", True)]
    assert "no policy processes the instance" in found.removed[0].reason


def test_backups_of_an_instance_that_left_the_scope_go_on_by_the_policy_that_made_them():
    elsewhere = configuration(BACKED | {"selection": {"tags": [{"key": "gold"}]}})
    aged = points(Kind.BACKUP, 40, repository="standard")
    found = compare(elsewhere, configuration(), [instance()], [OWN], aged, NOW)
    assert found.removed == ()
    found = compare(configuration(), elsewhere, [instance()], [OWN], aged, NOW)
    assert len(found.removed) == 10


def test_snapshots_of_a_disabled_policy_go_on_by_it_and_are_not_obsolete():
    rule = {"mode": "after", "days": 30}
    aged = [each.model_copy(update={"taken_at": NOW - 90 * DAY}) for each in points(Kind.SNAPSHOT, 1)]
    after = configuration(BACKED | {"enabled": False}, obsolete_snapshots=rule)
    found = change(configuration(BACKED, obsolete_snapshots=rule), after, *aged)
    assert ([each.after for each in found.lost], found.removed) == ([""], ())


def test_nothing_of_an_account_that_is_closed_is_removed():
    aged = [each.model_copy(update={"taken_at": NOW - 90 * DAY}) for each in points(Kind.SNAPSHOT, 1)]
    after = configuration(obsolete_snapshots={"mode": "after", "days": 30})
    closed = OWN.model_copy(update={"active": False})
    assert compare(configuration(BACKED), after, [instance()], [closed], aged, NOW).removed == ()


def test_backups_in_the_repository_of_the_new_owner_are_judged_by_it():
    longer = BACKED | {
        "name": "new",
        "priority": 1,
        "daily": DAILY | {"backups": {"hours": [7], "keep": "90 days"}},
    }
    aged = points(Kind.BACKUP, 60, repository="standard")
    found = change(configuration(BACKED), configuration(BACKED, longer), *aged)
    assert found.removed == ()
    shorter = longer | {"daily": DAILY | {"backups": {"hours": [7], "keep": "9 days"}}}
    found = change(configuration(BACKED), configuration(BACKED, shorter), *aged)
    assert {(each.policy, each.moved) for each in found.removed} == {("new", True)}
    assert len(found.removed) == 21


def test_points_of_an_instance_that_is_gone_are_judged_without_an_owner():
    aged = [each.model_copy(update={"taken_at": NOW - 90 * DAY}) for each in points(Kind.SNAPSHOT, 1)]
    after = configuration(BACKED, obsolete_snapshots={"mode": "after", "days": 30})
    found = compare(configuration(BACKED), after, [], [], aged, NOW)
    assert len(found.removed) == 1


def replicating(**target: object) -> Configuration:
    daily = DAILY | {"replicas": {"hours": [7], "keep": 2}}
    mapped = [{"source_region": REGION, "region": "eu-west-1"} | target] if target else []
    other = {"name": "far", "arn": "arn:aws:iam::999999999999:role/HoldfastBackup"}
    made = configuration(BACKED | {"daily": daily, "replication": mapped})
    return made.model_copy(update={"roles": (*made.roles, Role.model_validate(other))})


def test_replicas_that_cannot_be_made_are_named_with_reason_and_remedy():
    key, default = "arn:aws:kms:us-east-1:444455556666:key/own", "arn:aws:kms:us-east-1:444455556666:key/aws"
    (volume,) = instance().volumes
    encrypted = volume.model_copy(update={"encrypted": True, "kms_key_arn": default})
    mine = instance(volumes=(encrypted,))

    def refused(after: Configuration) -> list[str]:
        keys = {(OWN.account, REGION): default}
        return [
            each.reason
            for each in compare(configuration(), after, [mine], [OWN], [], NOW, default_keys=keys).refused
        ]

    assert refused(replicating()) == [f"{REGION} has no replication target"]
    assert refused(replicating(role="far", key_arn=key)) == [
        f"{volume.volume_id} is encrypted with the default key, which cannot be shared"
    ]
    assert refused(replicating(key_arn=key)) == []
    assert refused(configuration(BACKED)) == []


def test_requests_and_what_the_first_backups_read_are_counted():
    found = change(configuration(), configuration(BACKED))
    blocks = 60 * 2048  # 60 of 100 GiB
    assert found.first == {(OWN.account, REGION): pytest.approx(blocks)}
    assert found.after.at_once == {(OWN.account, REGION): pytest.approx(blocks * 0.03)}
    assert found.after.requests["ebs:GetSnapshotBlock"] == pytest.approx(30 * blocks * 0.03, rel=0.01)
    assert (found.before.instances, found.after.instances, found.before.requests) == (0, 1, {})
    assert change(configuration(BACKED), configuration(BACKED)).first == {}
    elsewhere = configuration(BACKED | {"repository": "another"})
    assert change(configuration(BACKED), elsewhere).first != {}  # a new repository begins with a full


SLA = BASIS | {"sla_template": "t", "storage_template": "s"}
TEMPLATE = {
    "name": "t",
    "snapshots": {"daily": {"hours": 12, "keep": "7 days"}, "weekly": {"days": ["mon"], "keep": "28 days"}},
    "backups": {"daily": {"hours": 24, "keep": "30 days"}},
}


def with_sla(**template: object) -> Configuration:
    return configuration(
        sla_templates=[TEMPLATE | template],
        storage_templates=[{"name": "s", "backups": "standard"}],
        sla_policies=[SLA],
    )


def test_an_sla_owner_removes_by_the_age_that_its_template_says():
    found = change(
        configuration(),
        with_sla(),
        *points(Kind.SNAPSHOT, 10),
        *points(Kind.BACKUP, 40, repository="standard"),
    )
    assert [(each.before, each.after) for each in found.moved] == [("", "policy")]
    assert {(each.kind.value, (NOW - each.taken_at).days, each.policy) for each in found.removed} == {
        *(("snapshot", days, "policy") for days in (7, 8, 9)),
        *(("backup", days, "policy") for days in range(30, 40)),
    }


def test_a_shorter_sla_retention_names_the_points_and_needs_confirmation():
    after = with_sla(snapshots={"daily": {"hours": 12, "keep": "2 days"}})
    found = change(with_sla(), after, *points(Kind.SNAPSHOT, 5))
    assert [each.taken_at.day for each in found.removed] == [6, 7, 8]
    assert found.needs_confirmation


def test_temporary_snapshots_of_an_sla_policy_are_not_the_change():
    made = point(NOW - 20 * DAY, "", Kind.SNAPSHOT, policy="policy", temporary=True)
    assert (
        change(with_sla(), with_sla(backups={"daily": {"hours": 24, "keep": "2 days"}}), made).removed == ()
    )


def test_an_sla_policy_is_estimated_by_what_its_sessions_earn():
    made = with_sla()
    (owner,) = made.sla_policies
    found = load(made, owner, REGION, NOW, Assumptions(1.0, 0.1, 0.5))
    # 14 of the last week, and three Mondays more of the four that are kept
    assert len(steady_chain(made, owner, REGION, Kind.SNAPSHOT, NOW)) == 14 + 3
    assert found.stored[Kind.BACKUP] == pytest.approx(1 + 29 * 0.1, rel=0.01)  # a day of 23 hours is in it
    assert (found.backups, found.moved_at_once) == (30, pytest.approx(0.1))
    assert estimate(made, owner, instance(), NOW).total > 0


def test_a_steady_chain_holds_what_retention_keeps():
    made = configuration(BACKED)
    chains = {kind: steady_chain(made, made.policies[0], REGION, kind, NOW, 100 * DAY) for kind in Kind}
    assert [len(chains[kind]) for kind in (Kind.SNAPSHOT, Kind.BACKUP, Kind.ARCHIVE)] == [3, 30, 0]


def test_an_estimate_adds_up_and_follows_the_prices():
    made = configuration(BACKED)
    found = estimate(
        made, made.policies[0], instance(), NOW, Assumptions(used=1.0, daily_change=0.1, stored=0.5)
    )
    assert found.snapshot == pytest.approx(100 * 1.2 * 0.05)
    assert found.backup == pytest.approx(100 * (1 + 29 * 0.1) * 0.5 * 0.023)
    assert (found.replica, found.archive, found.traffic, found.warning) == (0, 0, 0, "")
    blocks = 100 * 2048 * 30 * 0.1
    assert found.transaction == pytest.approx(blocks * 0.003 / 1000, rel=0.2)
    assert found.total == pytest.approx(found.snapshot + found.backup + found.transaction)


def test_another_region_costs_traffic_and_warns():
    made = configuration(
        BACKED
        | {"regions": ["eu-west-1"]}
        | {"daily": DAILY | {"replicas": {"hours": [7], "keep": 2}}}
        | {"replication": [{"source_region": "eu-west-1", "region": REGION}]}
    )
    found = estimate(made, made.policies[0], instance(region="eu-west-1"), NOW)
    assert found.warning == f"backups go to {REGION}, another Region"
    assert found.replica > 0
    assert found.traffic == pytest.approx(2 * 60 * 30 * 0.03 * 0.02)


def test_archives_cost_by_their_storage_class():
    made = configuration(
        BACKED
        | {
            "monthly": {
                "run_on": {"day": 1},
                "time": "07:00",
                "archive": {"months": "all", "keep": "3 months"},
            }
        }
        | {"archive_repository": "archive"}
    )
    found = estimate(made, made.policies[0], instance(), NOW, Assumptions(1.0, 0.1, 0.5))
    assert found.archive == pytest.approx(100 * 3 * 0.5 * 0.0036)


def test_an_instance_without_slots_costs_nothing():
    made = configuration(BASIS)
    assert estimate(made, made.policies[0], instance(), NOW).total == 0


def test_estimates_are_written_as_csv_and_xml():
    found = [Estimate("i-1", '=cmd|"x"\x07', snapshot=1.5, backup=2.0, warning="<far> & away")]
    (row,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert row["name"].startswith("'=cmd")
    assert (row["snapshot"], row["total"], row["warning"]) == ("1.5000", "3.5000", "<far> & away")
    document = minidom.parseString(to_xml(found))  # noqa: S318 -- text of our own
    (element,) = document.getElementsByTagName("instance")
    assert element.getAttribute("name") == '=cmd|"x"'
    assert element.getAttribute("total") == "3.5000"
