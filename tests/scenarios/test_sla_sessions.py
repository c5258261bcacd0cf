"""SLA-based policies over two Regions, on the deployed templates in a simulated AWS.

Windows are local: Frankfurt opens an hour before Dublin. The 22nd of November 2026 is a Sunday, the fourth of
its month.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import State
from holdfast.operations.sla.sla_records import pages
from holdfast.settings import Settings
from simulator.faults import Fault
from simulator.world import World as WorldFile
from tests.scenarios.conftest import (
    BACKUP,
    HUB,
    OPERATORS,
    SENDER,
    SHOP,
    SUNDAY,
    WEST,
    Installation,
    block,
    configuration,
    deploy,
    opened,
)

MORNING = {"start": "08:00", "end": "20:00"}


def sla_configuration() -> Configuration:
    """Gold in two Regions with changed block tracking; plain in one without."""
    base = configuration().model_dump(mode="json", include={"backup_account", "hub_region", "roles"})
    policy = {"source": {"role": "shop"}, "retries": 0, "storage_template": "places"}
    sunday = {"weekly": {"days": ["sun"]}, "monthly": {"run_on": {"ordinal": "fourth", "weekday": "sun"}}}
    return Configuration.model_validate(
        {
            **base,
            "repositories": [
                {"name": "main", "bucket": "holdfast-main", "region": HUB, "encryption": {"kind": "kms"}},
                {"name": "west", "bucket": "holdfast-west", "region": WEST},
            ],
            "sla_policies": [
                {
                    "name": "gold",
                    "regions": [HUB, WEST],
                    "selection": {"tags": [{"key": "sla", "value": "gold"}]},
                    "sla_template": "gold",
                    **policy,
                },
                {
                    "name": "plain",
                    "regions": [HUB],
                    "selection": {"tags": [{"key": "sla", "value": "plain"}]},
                    "sla_template": "plain",
                    "report": {"send_at": "06:00"},
                    **policy,
                },
            ],
            "sla_templates": [
                {
                    "name": "gold",
                    "snapshots": {"daily": {"hours": 4, "keep": {"days": 1}}, **sunday},
                    "snapshot_window": MORNING,
                    "backups": {"daily": {"hours": 6}, "weekly": {"days": ["sun"]}},
                    "backup_window": {"start": "10:00", "end": "20:00"},
                },
                {
                    "name": "plain",
                    "backups": {"daily": {"hours": 6}},
                    "backup_window": {"start": "08:00", "end": "18:00"},
                    "cbt": False,
                },
            ],
            "storage_templates": [{"name": "places", "backups": "main", "backups_by_region": {WEST: "west"}}],
            "notifications": {"sender": SENDER, "recipients": [OPERATORS]},
        }
    )


def machine(name: str, region: str, sla: str) -> dict[str, Any]:
    volumes = [{"device": "/dev/xvda", "size_gib": 1}]
    return {"name": name, "account": SHOP, "region": region, "tags": {"sla": sla}, "volumes": volumes}


@pytest.fixture(scope="module")
def deployed_sla(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    world = WorldFile.model_validate(
        {
            "backup_account": BACKUP,
            "regions": [HUB, WEST],
            "starts_at": SUNDAY.isoformat(),
            "organization": {"management_account": "777777777777"},
            "accounts": [{"id": BACKUP, "name": "backup"}, {"id": SHOP, "name": "shop", "member": False}],
            "senders": [SENDER],
            "instances": [
                machine("web", HUB, "gold"),
                machine("far", WEST, "gold"),
                machine("db", HUB, "plain"),
            ],
            "ebs": {"snapshot_seconds": 60},
        }
    )
    return deploy(sla_configuration(), world, tmp_path_factory.mktemp("sla"))


@pytest.fixture
def installation(deployed_sla: tuple[Path, Settings], tmp_path: Path) -> Iterator[Installation]:
    with opened(deployed_sla, tmp_path / "aws") as found:
        yield found


def points(installation: Installation, name: str, kind: Kind, region: str = HUB) -> list[RestorePoint]:
    return list(installation.catalog.points(installation.instance_id(name, region=region), kind))


def hours(found: list[RestorePoint]) -> dict[int, str]:
    """Flags by the hour (UTC) of the slot."""
    return {int(one.session_id[9:11]): "".join(sorted(one.flags)) for one in found}


def executions_of(installation: Installation, machine: str, policy: str) -> list[Any]:
    return [one for one in installation.executions(f"holdfast-{machine}") if policy in one.execution_arn]


def refuse(installation: Installation) -> None:
    """The shop's role trusts nobody who knows only what was agreed."""
    iam = installation.sim.session(SHOP, HUB).client("iam")
    document = iam.get_role(RoleName="HoldfastBackup")["Role"]["AssumeRolePolicyDocument"]
    for statement in document["Statement"]:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": "another"}}
    iam.update_assume_role_policy(RoleName="HoldfastBackup", PolicyDocument=json.dumps(document))


def test_a_day_of_snapshots_and_backups_in_two_windows(installation: Installation):
    web = installation.volumes("web")["/dev/xvda"]
    installation.sim.ebs.write_blocks(web, 7, block("first"))
    failing = Fault(
        call="ec2:CreateSnapshots",
        effect="error",
        code="UnauthorizedOperation",
        status=403,
        resource=installation.instance_id("web"),
    )
    installation.sim.faults.add(failing)
    installation.run_until(8)  # Frankfurt has had its slot of 08:00 an hour ago, Dublin now.
    assert points(installation, "web", Kind.SNAPSHOT) == []
    assert hours(points(installation, "far", Kind.SNAPSHOT, WEST)) == {8: "DMW"}
    installation.sim.faults.clear()

    installation.run_until(10)  # 11:00 in Frankfurt: its first backup has a snapshot of its own.
    (temporary,) = points(installation, "web", Kind.SNAPSHOT)
    assert (temporary.temporary, temporary.flags) == (True, frozenset())
    assert hours(points(installation, "web", Kind.BACKUP)) == {9: "DW"}
    installation.sim.ebs.write_blocks(web, 8, block("second"))
    installation.run_until(12)
    # The snapshot that failed leaves its weekly and monthly flags to the next one; the base survives it.
    assert hours(points(installation, "web", Kind.SNAPSHOT)) == {9: "", 11: "DMW"}
    assert hours(points(installation, "far", Kind.SNAPSHOT, WEST)) == {8: "DMW", 10: "", 12: "D"}

    reads = installation.sim.requests["ebs:GetSnapshotBlock"]
    installation.run_until(15, 30)  # 16:00 in Frankfurt: one snapshot for both.
    assert installation.sim.requests["ebs:GetSnapshotBlock"] - reads == 1
    assert hours(points(installation, "web", Kind.BACKUP)) == {9: "DW", 15: "D"}
    assert hours(points(installation, "web", Kind.SNAPSHOT)) == {11: "DMW", 15: "D"}
    first, second = installation.manifests("web")
    assert (first.full, second.full) == (True, False)
    assert installation.in_repository(second) == installation.on_volumes("web")
    (base,) = [one for one in installation.snapshots() if "holdfast:cbt-base" in one["Tags"]]
    assert base["Tags"]["holdfast:restore-point"] == points(installation, "web", Kind.SNAPSHOT)[-1].point_id

    installation.run_until(20, 30)  # Both windows have closed: Dublin's at 20:00.
    ledger = {page.entry.kind: page.entry for page in pages("gold", installation.catalog)}
    assert {kind: (entry.on.isoformat(), len(entry.shares)) for kind, entry in ledger.items()} == {
        Kind.SNAPSHOT: ("2026-11-22", 2),
        Kind.BACKUP: ("2026-11-22", 2),
    }
    made = {share.instance_id: (share.made, share.expected) for share in ledger[Kind.SNAPSHOT].shares}
    assert made == {
        installation.instance_id("web"): (2, 3),
        installation.instance_id("far", region=WEST): (3, 3),
    }
    (closing,) = executions_of(installation, "close-window", "gold")
    (retention,) = executions_of(installation, "retention", "gold")
    assert {closing.status, retention.status} == {"SUCCEEDED"}
    (mail,) = [one for one in installation.sim.mail.to(OPERATORS) if "gold" in one.subject]
    assert mail.subject == "[SLA Missed] gold 2026-11-22: backup 100 %, snapshot 83.3 %"
    assert "Missed SLA (66.6%, 2/3)" in mail.text
    assert "CreateSnapshots" in mail.text

    west = points(installation, "far", Kind.BACKUP, WEST)
    assert {one.repository for one in west} == {"west"}
    assert {one.repository for one in points(installation, "web", Kind.BACKUP)} == {"main"}
    assert {session.state for session in installation.sessions("gold")} == {State.SUCCESS, State.FAILED}

    refuse(installation)
    installation.run_until(24 + 20, 30)
    # Nobody could look at the account all day: what it owed is owed.
    monday = {page.entry.kind: page.entry for page in pages("gold", installation.catalog, "2026-11-23")}
    for kind, due in ((Kind.SNAPSHOT, 3), (Kind.BACKUP, 2)):
        assert [(one.made, one.expected) for one in monday[kind].shares] == [(0, due)] * 2
    mail = [one for one in installation.sim.mail.to(OPERATORS) if "gold" in one.subject][-1]
    assert mail.subject == "[SLA Missed] gold 2026-11-23: backup 0 %, snapshot 0 %"
    assert f"Account {SHOP} could not be looked at" in mail.text
    assert {
        page.entry.kind: page.entry for page in pages("gold", installation.catalog, "2026-11-22")
    } == ledger


def test_without_tracking_a_temporary_snapshot_goes_when_its_backup_ends(installation: Installation):
    volume = installation.volumes("db")["/dev/xvda"]
    for index in (1, 2, 3):
        installation.sim.ebs.write_blocks(volume, index, block(f"{index}"))
    installation.run_until(8)
    assert hours(points(installation, "db", Kind.BACKUP)) == {7: "D"}
    assert points(installation, "db", Kind.SNAPSHOT) == []
    assert [one for one in installation.snapshots() if one["Tags"]["holdfast:policy"] == "plain"] == []
    installation.run_until(13)
    last = installation.sessions("plain")[-1]
    outcome = installation.outcomes(last)["db"]
    assert outcome.blocks_read == 3
    assert (
        outcome.bytes_stored < 100_000
    )  # Everything is read, and what the repository has is not stored again.
    installation.sim.faults.add(Fault(call="scheduler:*", effect="duplicate"))
    installation.run_until(17, 30)  # The window has closed at 18:00 in Frankfurt, and both events say so.
    (closing,) = executions_of(installation, "close-window", "plain")
    assert closing.status == "SUCCEEDED"
    (page,) = pages("plain", installation.catalog)
    assert [(one.made, one.expected) for one in page.entry.shares] == [(2, 2)]
    assert len([one for one in installation.sim.mail.to(OPERATORS) if "plain" in one.subject]) == 1
    report = installation.catalog.read_part("sla/plain", "report/2026-11-22")
    assert report is not None
    assert report["told_at"].startswith("2026-11-23T06:00")  # The policy names the time.
    _, second = installation.manifests("db")
    assert installation.in_repository(second) == installation.on_volumes("db")
