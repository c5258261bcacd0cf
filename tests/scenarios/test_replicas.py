"""Replicas on the deployed templates: into another Region of the account, and into another account.

The keys of the world are known by aliases. A copy takes the minute that snapshots take here, and AWS takes
twenty copies into one Region of an account at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Outcome, State
from holdfast.settings import Settings
from simulator.faults import Fault
from simulator.world import World as WorldFile
from tests.disks import fingerprint, noise
from tests.scenarios.conftest import (
    BACKUP,
    HUB,
    SHOP,
    VAULT,
    WEST,
    Installation,
    configuration,
    deploy,
    opened,
    world_file,
)

SHOP_KEY, TRANSFER_KEY = (f"arn:aws:kms:{HUB}:{SHOP}:alias/{name}" for name in ("shop", "transfer"))
VAULT_KEY = f"arn:aws:kms:{WEST}:{VAULT}:alias/vault"
TO_VAULT = {"source_region": HUB, "region": WEST, "role": "vault"}


def policy(name: str, hours: list[int], replication: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"role": "shop"},
        "regions": [target["source_region"] for target in replication],
        "selection": {"tags": [{"key": "replica", "value": name}]},
        "daily": {"snapshots": {"hours": hours, "keep": 1}, "replicas": {"hours": hours, "keep": 2}},
        "retries": 1,
        "replication": replication,
        **changes,
    }


def replicating() -> Configuration:
    """Plain and encrypted volumes into the vault or another Region, and one policy that lacks the key."""
    base = configuration().model_dump(mode="json", include={"backup_account", "hub_region", "roles"})
    keys = {"key_arn": VAULT_KEY, "transfer_key_arn": TRANSFER_KEY}
    daily = {
        "snapshots": {"hours": [7, 8, 9], "keep": 1},
        "replicas": {"hours": [7, 8, 9], "keep": 2},
        "backups": {"hours": [7], "keep": {"days": 7}},
    }
    return Configuration.model_validate(
        {
            **base,
            "repositories": [{"name": "main", "bucket": "holdfast-main", "region": HUB}],
            "policies": [
                policy(
                    "vaulted",
                    [],
                    [TO_VAULT | keys, {"source_region": WEST, "region": HUB}],
                    daily=daily,
                    repository="main",
                    tags={"copy_from_volumes": True, "custom": {"protected": "yes"}},
                ),
                policy("sealed", [7], [TO_VAULT | {"key_arn": VAULT_KEY, "encrypt": "all"}]),
                policy("keyless", [7], [TO_VAULT]),
                policy("wide", [23], [TO_VAULT]),
            ],
            "sla_templates": [
                {
                    "name": "gold",
                    "snapshots": {"daily": {"hours": 2, "keep": {"days": 3}}},
                    "snapshot_window": {"start": "08:00", "end": "12:00"},
                    "replicas": {"every": "day", "keep": {"days": 3}},
                }
            ],
            "sla_policies": [
                {
                    "name": "gold",
                    "source": {"role": "shop"},
                    "regions": [HUB],
                    "selection": {"tags": [{"key": "replica", "value": "gold"}]},
                    "sla_template": "gold",
                    "replication": [TO_VAULT],
                }
            ],
        }
    )


def machine(name: str, replica: str, keys: list[str], region: str = HUB, **volume: Any) -> dict[str, Any]:
    """An instance with a volume for each key (``-``: not encrypted, ``aws/ebs``: the default key)."""
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    volumes = [
        {
            "device": f"/dev/xvd{next(letters)}",
            "size_gib": 1,
            **({} if key == "-" else {"encrypted": True} if key == "aws/ebs" else {"kms_key": key}),
            **volume,
        }
        for key in keys
    ]
    return {
        "name": name,
        "account": SHOP,
        "region": region,
        "tags": {"replica": replica},
        "volumes": volumes,
    }


def replicated_world() -> WorldFile:
    base = world_file().model_dump(mode="json", exclude={"instances"})
    return WorldFile.model_validate(
        {
            **base,
            "keys": [
                {"alias": "shop", "account": SHOP, "region": HUB, "shared_with": [VAULT]},
                {"alias": "transfer", "account": SHOP, "region": HUB, "shared_with": [VAULT]},
                {"alias": "vault", "account": VAULT, "region": WEST},
            ],
            "instances": [
                machine("web", "vaulted", ["-", "shop", "aws/ebs"], tags={"data": "orders"}),
                machine("far", "vaulted", ["-"], WEST),
                machine("plain", "sealed", ["-"]),
                machine("secret", "keyless", ["shop"]),
                machine("wide", "wide", ["-"] * 22),
                machine("promised", "gold", ["-"]),
            ],
        }
    )


@pytest.fixture(scope="module")
def deployed_replicas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    return deploy(replicating(), replicated_world(), tmp_path_factory.mktemp("replicas"))


@pytest.fixture
def replicas(deployed_replicas: tuple[Path, Settings], tmp_path: Path) -> Iterator[Installation]:
    """A fresh installation; nothing is done in it that its roles do not allow, and nothing stays behind."""
    with opened(deployed_replicas, tmp_path / "aws") as installation:
        yield installation
        assert installation.sim.recorder.violations() == []
        for one in installation.snapshots():
            told = installation.ec2().describe_snapshot_attribute(
                SnapshotId=one["SnapshotId"], Attribute="createVolumePermission"
            )
            assert told["CreateVolumePermissions"] == []
            assert one["Tags"]["holdfast:kind"] != "transfer"
            assert "holdfast:copying" not in one["Tags"]


def points(installation: Installation, name: str, region: str = HUB) -> list[RestorePoint]:
    return list(installation.catalog.points(installation.instance_id(name, region=region), Kind.REPLICA))


def outcome(installation: Installation, name: str, of: str = "vaulted", number: int = 0) -> Outcome:
    return installation.outcomes(installation.sessions(of)[number])[name]


def contents(installation: Installation, snapshots: dict[str, str]) -> dict[str, str]:
    return {one: fingerprint(installation.sim.ebs.snapshot_content(made)) for one, made in snapshots.items()}


def write(installation: Installation, name: str, region: str = HUB) -> dict[str, str]:
    """Something on every volume of an instance; what they hold, by volume."""
    volumes = installation.volumes(name, region=region).values()
    for volume_id in volumes:
        for index in (0, 9, 2047):
            installation.sim.ebs.write_blocks(volume_id, index, noise(f"{volume_id} {index}"))
    return {one: fingerprint(installation.sim.ebs.volume_content(one)) for one in volumes}


def keys_of(installation: Installation, name: str) -> dict[str, str]:
    """The alias of the key of each copy in the vault, by device of the source; ``-``: not encrypted."""
    (point,) = points(installation, name)
    held = {one["SnapshotId"]: one for one in installation.snapshots(VAULT, WEST)}
    kms = installation.sim.session(VAULT, WEST).client("kms")
    found = {}
    for snapshot_id in point.snapshot_ids.values():
        copy = held[snapshot_id]
        key = copy.get("KmsKeyId")
        aliases = kms.list_aliases(KeyId=key)["Aliases"] if key else []
        found[copy["Tags"]["holdfast:device"]] = aliases[0]["AliasName"] if aliases else "-"
    return found


def restored(installation: Installation, point: RestorePoint) -> dict[str, str]:
    """What the volumes of an instance restored from a replica hold, there where it lies; by source volume."""
    ec2 = installation.ec2(VAULT, WEST)
    event = {
        "restore_id": "restore-1",
        "kind": "instance",
        "instance_id": point.instance_id,
        "point_id": point.point_id,
        "target": {"account": VAULT, "region": WEST},
        "instance": {
            "subnet_id": ec2.describe_subnets()["Subnets"][0]["SubnetId"],
            "security_group_ids": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        },
    }
    client = installation.sim.session(BACKUP, HUB).client("stepfunctions", region_name=WEST)
    started = client.start_execution(
        stateMachineArn=f"arn:aws:states:{WEST}:{BACKUP}:stateMachine:holdfast-restore",
        name="restore-1",
        input=json.dumps(event),
    )
    ended = installation.sim.executions.wait(started["executionArn"])
    assert ended.status == "SUCCEEDED", f"{ended.error}: {ended.cause}"
    return {
        one["source"]["volume_id"]: fingerprint(installation.sim.ebs.volume_content(one["volume_id"]))
        for one in json.loads(ended.output)["volumes"]
    }


def test_replicas_elsewhere_hold_what_the_volumes_held_and_can_be_restored(replicas: Installation) -> None:
    web, far = write(replicas, "web"), write(replicas, "far", WEST)
    replicas.run_until(7)
    ended = outcome(replicas, "web")
    assert (ended.state, ended.kinds) == (State.SUCCESS, ("snapshot", "replica", "backup"))
    (point,) = points(replicas, "web")
    assert (point.account, point.region) == (VAULT, WEST)
    assert contents(replicas, point.snapshot_ids) == web
    (copy,) = points(replicas, "far", WEST)
    assert (copy.account, copy.region) == (SHOP, HUB)
    assert contents(replicas, copy.snapshot_ids) == far
    assert keys_of(replicas, "web") == {
        "/dev/xvda": "-",
        "/dev/xvdb": "alias/vault",
        "/dev/xvdc": "alias/vault",
    }
    assert keys_of(replicas, "plain") == {"/dev/xvda": "alias/vault"}
    for one in replicas.snapshots(VAULT, WEST):
        if one["Tags"]["holdfast:policy"] == "vaulted":
            assert (one["Tags"]["data"], one["Tags"]["protected"]) == ("orders", "yes")
    assert restored(replicas, point) == web
    lacking = outcome(replicas, "secret", "keyless")
    assert (lacking.state, lacking.kinds) == (State.WARNING, ("snapshot",))
    assert [problem.code for problem in lacking.problems] == ["NotReplicated"]
    assert points(replicas, "secret") == []


def test_twenty_copies_at_a_time_and_the_others_wait_in_a_queue(replicas: Installation) -> None:
    client = replicas.sim.session(BACKUP, HUB).client("lambda")
    event = json.dumps({"policy": "wide", "manual": True})
    client.invoke(FunctionName="holdfast-start-session", Payload=event.encode())
    replicas.run_until(0)
    ended = outcome(replicas, "wide", "wide")
    assert (ended.state, ended.kinds) == (State.SUCCESS, ("snapshot", "replica"))
    (point,) = points(replicas, "wide")
    held = {one["SnapshotId"]: one["StartTime"] for one in replicas.snapshots(VAULT, WEST)}
    assert held.keys() == set(point.snapshot_ids.values())
    first = min(held.values())
    assert sum(started - first < timedelta(seconds=60) for started in held.values()) == 20
    assert len(held) == 22


def test_the_newest_replicas_stay_whole_whatever_happens_to_calls_on_the_way(replicas: Installation) -> None:
    """A sandbox dies after asking for a copy, an answer gets lost, and a key is refused for a while."""
    web = write(replicas, "web")
    mishaps: list[dict[str, Any]] = [
        {"effect": "crash", "nth": 2},
        {"effect": "lost", "nth": 4},
        {"effect": "error", "code": "KMSKeyNotAccessibleFault", "nth": 7},
    ]
    for mishap in mishaps:
        replicas.sim.faults.add(Fault(call="ec2:CopySnapshot", account=VAULT, **mishap))
    replicas.run_until(9)
    assert max(session.attempt for session in replicas.sessions("vaulted")) == 1
    assert {session.state for session in replicas.sessions("vaulted")} == {State.SUCCESS}
    found = points(replicas, "web")
    assert [point.taken_at.hour for point in found] == [8, 9]
    assert all(contents(replicas, point.snapshot_ids) == web for point in found)
    (promised,) = points(replicas, "promised")  # of the first session of the day, of two
    assert (promised.taken_at.hour, promised.flags) == (7, {Flag.DAILY})
    assert [session.state for session in replicas.sessions("gold")] == [State.SUCCESS] * 2
    everything = (*found, *points(replicas, "plain"), promised)
    kept = {one for point in everything for one in point.snapshot_ids.values()}
    assert {one["SnapshotId"] for one in replicas.snapshots(VAULT, WEST)} == kept
