"""Retention that does not depend on a session, on the deployed templates in a simulated AWS.

The chains of three instances, day after day: one moves to another policy, one is terminated, and the account
of one loses its role. Nothing goes because something could not be seen, or because nobody confirmed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.model.configuration import Configuration
from holdfast.model.session import Problem, Session, State
from holdfast.operations.retention.retention_in_force import confirm, prefix_of, waiting
from holdfast.settings import Settings
from infra.synth import synthesize
from simulator.world import World as WorldFile
from tests.scenarios.conftest import (
    BACKUP,
    HUB,
    MANAGEMENT,
    OFFICE,
    SENDER,
    SHOP,
    SUNDAY,
    Installation,
    bundle_of,
    configuration,
    deploy,
    opened,
)


def by_tag(name: str, keep: int, priority: int, **more: Any) -> dict[str, Any]:
    """A policy of the shop that takes a snapshot a day of what is tagged with its name."""
    return {
        "name": name,
        "priority": priority,
        "source": {"role": "shop"},
        "regions": [HUB],
        "selection": {"tags": [{"key": "backup", "value": name}]},
        "daily": {"snapshots": {"hours": [7], "keep": keep}},
        "retries": 0,
        **more,
    }


def passes_configuration(**daily: Any) -> Configuration:
    """``daily`` goes on top of the policy of that name."""
    base = configuration().model_dump(
        mode="json", include={"backup_account", "hub_region", "roles", "organizations"}, exclude_defaults=True
    )
    company = {
        "name": "company",
        "source": {"organization": "company"},
        "regions": [HUB],
        "selection": {"all": True},
        "daily": {"snapshots": {"hours": [7], "keep": 2}},
        "retries": 0,
    }
    policies = [by_tag("daily", 3, 1) | daily, by_tag("thrifty", 1, 2), company]
    obsolete = {"mode": "after", "days": 15}
    return Configuration.model_validate({**base, "policies": policies, "obsolete_snapshots": obsolete})


def machine(name: str, account: str = SHOP) -> dict[str, Any]:
    volumes = [{"device": "/dev/xvda", "size_gib": 1}]
    tags = {"backup": "daily"}
    return {"name": name, "account": account, "region": HUB, "tags": tags, "volumes": volumes}


@pytest.fixture(scope="module")
def deployed_passes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    world = {
        "backup_account": BACKUP,
        "regions": [HUB],
        "starts_at": SUNDAY.isoformat(),
        "organization": {"management_account": MANAGEMENT, "units": [{"name": "Workloads"}]},
        "accounts": [
            {"id": BACKUP, "name": "backup"},
            {"id": SHOP, "name": "shop", "member": False},
            {"id": OFFICE, "name": "office", "unit": "Workloads"},
        ],
        "senders": [SENDER],
        "instances": [machine("web"), machine("db"), machine("cache"), machine("desk", OFFICE)],
        "ebs": {"snapshot_seconds": 60},
    }
    folder = tmp_path_factory.mktemp("passes")
    return deploy(passes_configuration(), WorldFile.model_validate(world), folder)


@pytest.fixture
def installation(deployed_passes: tuple[Path, Settings], tmp_path: Path) -> Iterator[Installation]:
    with opened(deployed_passes, tmp_path / "aws") as found:
        yield found


def chains(installation: Installation) -> dict[str, list[int]]:
    """The days (after the first Sunday) of the snapshots of each instance, by its name."""
    found: dict[str, list[int]] = {}
    for account in (SHOP, OFFICE):
        for one in installation.snapshots(account):
            name = one["Tags"]["Name"].split()[0]
            found.setdefault(name, []).append((one["StartTime"] - SUNDAY).days)
    return {name: sorted(days) for name, days in sorted(found.items())}


def newest_pass(installation: Installation) -> Session:
    return max(installation.sessions(""), key=lambda one: one.started_at)


def told(installation: Installation) -> dict[str, Problem]:
    return {one.code: one for one in newest_pass(installation).problems}


def test_chains_follow_their_instances_and_nothing_goes_by_guessing(installation: Installation):
    installation.run_until(24 * 2 + 7)
    assert chains(installation) == {
        "cache": [0, 1, 2],
        "db": [0, 1, 2],
        "desk": [1, 2],
        "web": [0, 1, 2],
    }
    assert newest_pass(installation).state is State.SUCCESS

    web, db = installation.instance_id("web"), installation.instance_id("db")
    installation.ec2().create_tags(Resources=[web], Tags=[{"Key": "backup", "Value": "thrifty"}])
    installation.ec2().terminate_instances(InstanceIds=[db])
    iam = installation.sim.session(OFFICE, HUB).client("iam")
    for name in iam.list_role_policies(RoleName="HoldfastBackup")["PolicyNames"]:
        iam.delete_role_policy(RoleName="HoldfastBackup", PolicyName=name)
    for policy in iam.list_attached_role_policies(RoleName="HoldfastBackup")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="HoldfastBackup", PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName="HoldfastBackup")

    installation.run_until(24 * 3 + 4)
    # The new owner judges the whole chain; the terminated instance and the closed account keep theirs.
    assert chains(installation) == {"cache": [0, 1, 2], "db": [0, 1, 2], "desk": [1, 2], "web": [2]}
    record = newest_pass(installation)
    assert (record.state, record.counts["removed"], record.slot.hour) == (State.WARNING, 2, 4)
    assert [problem.resource for problem in record.problems] == [OFFICE]
    notices = [one.subject for one in installation.sim.topics.published("holdfast-results")]
    assert "[Warning] Retention: 1 issue" in notices

    installation.sim.run_schedules(SUNDAY + timedelta(days=17, hours=4, minutes=30))
    installation.run_until(24 * 17 + 5)
    assert chains(installation)["db"] == [0, 1, 2], "nobody has confirmed the rule for obsolete snapshots"
    assert told(installation)["RetentionShortened"].message == (
        "Retention was shortened for obsolete snapshots: 2 restore points would go."
    )
    for found in waiting("obsolete", installation.catalog):
        confirm(found, "anna", installation.sim.clock.now(), installation.catalog)
    installation.run_until(24 * 18 + 5)
    assert "db" not in chains(installation)
    assert chains(installation)["desk"] == [1, 2], "an account that cannot be read loses nothing"
    assert newest_pass(installation).counts["obsolete"] == 3
    assert not any(point.complete for point in installation.catalog.points(db))


def test_a_disabled_policy_ages_its_points_and_a_shorter_retention_waits_for_a_person(
    installation: Installation, tmp_path: Path
):
    installation.run_until(24 * 2 + 7)
    disabled = passes_configuration(enabled=False, daily={"snapshots": {"hours": [7], "keep": 1}})
    assembly = synthesize(disabled, tmp_path / "cdk.out", bundling=False)
    root = installation.sim.session(MANAGEMENT, HUB).client("organizations").list_roots()["Roots"][0]["Id"]
    installation.sim.deploy(assembly, parameters={"OrganizationalUnitIds": root})
    assert bundle_of(assembly, tmp_path).is_file()

    installation.run_until(24 * 3 + 7)
    assert chains(installation)["web"] == [0, 1, 2], "no session ran, and nothing was confirmed"
    shortened = told(installation)["RetentionShortened"]
    assert shortened.message == "Retention was shortened for policy daily: 6 restore points would go."
    for found in waiting(prefix_of("daily"), installation.catalog):
        confirm(found, "anna", installation.sim.clock.now(), installation.catalog)
    installation.run_until(24 * 4 + 5)
    assert {name: days for name, days in chains(installation).items() if name != "desk"} == {
        "cache": [2],
        "db": [2],
        "web": [2],
    }
    assert newest_pass(installation).state is State.SUCCESS
