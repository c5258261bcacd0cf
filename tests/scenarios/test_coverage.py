"""Every instance of an Organization stands in exactly one place, and what nobody could look at is named.

On the deployed templates: the ledger is written by its schedule, under the roles that the stacks made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simulator
from holdfast.cli.main import run
from holdfast.model.configuration import Configuration
from holdfast.model.session import State
from holdfast.settings import Settings
from infra.synth import synthesize
from simulator.faults import Fault
from simulator.simulator import Simulator
from simulator.world import World as WorldFile
from tests.scenarios.conftest import (
    BACKUP,
    HUB,
    MANAGEMENT,
    OFFICE,
    SENDER,
    SHOP,
    SUNDAY,
    VAULT,
    Installation,
    bundle_of,
)

LAB = "555555555555"
FIRST_LEDGER, NEXT_LEDGER = 4, 28
"""Hours after the midnight of Sunday at which the ledgers of Saturday and Sunday are written."""


def configuration(**daily: Any) -> Configuration:
    """One policy for the whole Organization but the vault; instances without a wish for backups stay out."""
    return Configuration.model_validate(
        {
            "backup_account": BACKUP,
            "hub_region": HUB,
            "organizations": [
                {
                    "name": "company",
                    "management_role": f"arn:aws:iam::{MANAGEMENT}:role/HoldfastOrganization",
                    "external_id": "agreed-with-the-company",
                }
            ],
            "policies": [
                {
                    "name": "everything",
                    "source": {"organization": "company", "exclude_accounts": [VAULT]},
                    "regions": [HUB],
                    "selection": {"all": True, "exclude_tags": [{"key": "backup", "value": "no"}]},
                    "daily": {"snapshots": {"hours": [3, 5], "keep": 3}} | daily,
                    "retries": 0,
                }
            ],
            "notifications": {"sender": SENDER},
        }
    )


def world_file() -> WorldFile:
    def instance(name: str, account: str, **tags: str) -> dict[str, Any]:
        volumes = [{"device": "/dev/xvda", "size_gib": 8}]
        return {"name": name, "account": account, "region": HUB, "tags": tags, "volumes": volumes}

    return WorldFile.model_validate(
        {
            "backup_account": BACKUP,
            "regions": [HUB],
            "starts_at": SUNDAY.isoformat(),
            "organization": {
                "management_account": MANAGEMENT,
                "units": [{"name": "Workloads"}, {"name": "Labs"}],
            },
            "accounts": [
                {"id": BACKUP, "name": "backup", "unit": "Workloads"},
                {"id": SHOP, "name": "shop", "unit": "Workloads"},
                {"id": OFFICE, "name": "office", "unit": "Workloads"},
                {"id": VAULT, "name": "vault", "unit": "Workloads"},
                {"id": LAB, "name": "lab", "unit": "Labs"},
            ],
            "senders": [SENDER],
            "instances": [
                instance("desk", OFFICE),
                instance("broken", OFFICE),
                instance("spare", OFFICE, backup="no"),
                instance("till", SHOP),
                instance("bench", LAB),
                instance("safe", VAULT),
            ],
            "ebs": {"snapshot_seconds": 60},
        }
    )


def unit(sim: Simulator, name: str) -> str:
    organizations = sim.session(MANAGEMENT, HUB).client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    units = organizations.list_organizational_units_for_parent(ParentId=root)["OrganizationalUnits"]
    return str(next(one["Id"] for one in units if one["Name"] == name))


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """The installation, with roles in the accounts of one unit only."""
    folder = tmp_path_factory.mktemp("company")
    made = configuration()
    assembly = synthesize(made, folder / "cdk.out", bundling=False)
    with simulator.open(folder / "aws", world_file()) as sim:
        sim.deploy(assembly, parameters={"OrganizationalUnitIds": unit(sim, "Workloads")})
        lambdas = sim.session(BACKUP, HUB).client("lambda")
        function = lambdas.get_function(FunctionName="holdfast-record-coverage")
        environment = function["Configuration"]["Environment"]["Variables"]
    (folder / "configuration.json").write_text(made.model_dump_json(exclude_defaults=True))
    settings = Settings.parse(environment | {"HOLDFAST_CONFIGURATION": str(bundle_of(assembly, folder))})
    return folder / "aws", settings


@pytest.fixture(scope="module")
def two_days(company: tuple[Path, Settings]) -> tuple[Path, dict[str, str]]:
    """The installation on Monday morning, and ids by name."""
    return company[0], let_two_days_pass(*company)


@pytest.fixture
def ids(two_days: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """Ids of instances, and of the account that joined, by name."""
    return two_days[1]


@pytest.fixture
def directory(two_days: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of it, with a configuration beside it."""
    shutil.copytree(two_days[0], tmp_path / "aws", symlinks=True)
    write_configuration(tmp_path / "config", configuration())
    return tmp_path


def write_configuration(folder: Path, made: Configuration) -> Path:
    folder.mkdir()
    (folder / "all.yaml").write_text(made.model_dump_json(exclude_defaults=True))
    return folder


def refuse(sim: Simulator, account: str) -> None:
    """Somebody changed the trust policy of the role in this account."""
    iam = sim.session(account, HUB).client("iam")
    document = iam.get_role(RoleName="HoldfastBackup")["Role"]["AssumeRolePolicyDocument"]
    for statement in document["Statement"]:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": "another"}}
    iam.update_assume_role_policy(RoleName="HoldfastBackup", PolicyDocument=json.dumps(document))


def join(sim: Simulator) -> str:
    """A new account in the unit that has roles; its id."""
    organizations = sim.session(MANAGEMENT, HUB).client("organizations")
    status = organizations.create_account(Email="new@example.com", AccountName="branch")
    account = str(status["CreateAccountStatus"]["AccountId"])
    root = organizations.list_roots()["Roots"][0]["Id"]
    target = unit(sim, "Workloads")
    organizations.move_account(AccountId=account, SourceParentId=root, DestinationParentId=target)
    return account


def let_two_days_pass(aws: Path, settings: Settings) -> dict[str, str]:
    """A failure on Sunday; a role that is refused, and an account that joins, after the first ledger."""
    with simulator.open(aws) as sim:
        installation = Installation(sim, settings)
        ids = {"desk": OFFICE, "broken": OFFICE, "spare": OFFICE, "till": SHOP, "bench": LAB, "safe": VAULT}
        found = {name: installation.instance_id(name, account) for name, account in ids.items()}
        sim.faults.add(
            Fault(
                call="ec2:CreateSnapshots",
                effect="error",
                code="UnauthorizedOperation",
                status=403,
                resource=found["broken"],
            )
        )
        installation.run_until(FIRST_LEDGER)
        (session,) = installation.sessions("everything")
        assert session.state is State.FAILED  # of the broken instance; the lab alone would be a warning
        (problem,) = session.problems
        assert (problem.severity, problem.resource, "lab" in problem.message) == (State.WARNING, LAB, True)
        refuse(sim, SHOP)
        found["branch"] = join(sim)
        installation.run_until(NEXT_LEDGER)
        return found


@pytest.fixture
def holdfast(directory: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command on the simulated AWS; its JSON, or its text when that is asked for."""

    def command(*words: str, code: int = 0) -> Any:
        common = ("--simulate", str(directory / "aws"), "--config", str(directory / "config"), "--quiet")
        ended = run([*common, *words])
        shown = capsys.readouterr()
        assert ended == code, shown.err
        return shown.out if "text" in words or "table" in words else json.loads(shown.out)

    return command


def test_an_organization_adds_up_and_what_is_out_of_reach_is_named(
    ids: dict[str, str], directory: Path, holdfast: Callable[..., Any]
) -> None:
    told = holdfast("coverage", "--date", str(SUNDAY.date()))
    stands = {line["name"]: line["standing"] for line in told["lines"]}
    assert stands == {
        "desk": "protected",
        "broken": "failed",
        "spare": "excluded",
        "till": "unreachable",
        "safe": "not selected",
    }
    assert told["instances"] == {
        "protected": 1,
        "failed": 1,
        "excluded": 1,
        "not selected": 1,
        "unreachable": 1,
        "total": 5,
    }
    accounts = {one["account"]: one for one in told["accounts"]}
    assert [one for one, line in accounts.items() if not line["reachable"]] == [SHOP, LAB]
    assert [one for one, line in accounts.items() if line["new"]] == [ids["branch"]]
    assert accounts[ids["branch"]]["reachable"] is True
    assert "AccessDenied" in accounts[LAB]["reason"]

    with simulator.open(directory / "aws") as sim:
        messages = [one for one in sim.topics.published() if "[Coverage] 2026-11-22" in one.subject]
        assert len(messages) == 1
        assert f"account {LAB} (lab) is unreachable" in messages[0].message
        log = sim.lambdas.log("holdfast-record-coverage")
        metrics = [json.loads(line) for line in log.splitlines() if "CloudWatchMetrics" in line][-1]
        assert (metrics["AccountsOutOfReach"], metrics["AccountsNew"]) == ([2], [1])
        assert (metrics["InstancesUnprotected"], metrics["InstancesProtected"]) == ([1], [1])
        alarms = sim.session(BACKUP, HUB).client("cloudwatch").describe_alarms()["MetricAlarms"]
        watched = {one["MetricName"] for one in alarms if one.get("Namespace") == "Holdfast"}
        assert {"AccountsOutOfReach", "AccountsNew", "InstancesUnprotected", "LedgersRecorded"} <= watched
        sim.session(OFFICE, HUB).client("ec2").create_tags(
            Resources=[ids["broken"]], Tags=[{"Key": "backup", "Value": "no"}]
        )

    assert holdfast("coverage", "--check", "--account", SHOP, code=3)["instances"]["total"] == 1
    now = holdfast("coverage", "--live", "--check", "--account", OFFICE)
    assert {line["name"]: line["standing"] for line in now["lines"]} == {
        "desk": "protected",
        "broken": "excluded",
        "spare": "excluded",
    }


def test_an_instance_is_explained_and_a_change_is_planned_before_it_is_deployed(
    ids: dict[str, str], directory: Path, holdfast: Callable[..., Any]
) -> None:
    desk = holdfast("explain", ids["desk"])
    assert (desk["owner"], desk["ledger"]["standing"], len(desk["slots"])) == ("everything", "protected", 10)
    assert desk["slots"][0] == {
        "at": "2026-11-23T05:00:00+00:00",
        "flags": {"snapshot": "D"},
        "temporary": [],
    }
    assert desk["removals"][0]["reason"] == "the daily schedule keeps the newest 3"
    till = holdfast("explain", ids["till"], "--output", "text")
    assert "the account could not be looked at: AccessDenied" in till
    assert "-> everything: protected: all instances are selected" in till
    bench = holdfast("explain", ids["safe"])
    assert (bench["owner"], bench["policies"][0]["reason"]) == (
        None,
        f"the policy does not enter the account {VAULT}",
    )

    same = holdfast("policy", "plan")
    assert (same["gained"], same["lost"], same["removed_points"], same["usd_a_month_delta"]) == (
        [],
        [],
        [],
        0,
    )
    changed = configuration(snapshots={"hours": [3], "keep": 1}).model_dump(
        mode="json", exclude_defaults=True
    )
    changed["policies"][0]["selection"] = {"all": True}
    folder = write_configuration(directory / "changed", Configuration.model_validate(changed))
    told = holdfast("policy", "plan", "--config", str(folder), code=3)
    assert [one["instance_id"] for one in told["gained"]] == [ids["spare"]]
    assert {one["instance_id"] for one in told["removed_points"]} == {ids["desk"]}
    assert told["confirm_with"] == ["holdfast policy confirm everything"]
    assert told["policies"]["changed"] == ["everything"]
    rows = holdfast("policy", "cost", "everything")
    assert {row["instance_id"] for row in rows} == {ids["desk"], ids["broken"], ids["till"]}
    assert all(row["total"] > 0 for row in rows)
