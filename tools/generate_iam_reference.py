"""Writes docs/iam-permissions.md from the tables that the stacks are rendered from.

The tables are the only source: run this after changing a permission; a test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "layers/core/python")]

from holdfast.model.configuration import Configuration  # noqa: E402
from infra import permissions as may  # noqa: E402
from infra.constructs.state_machine import MACHINES, statements_of  # noqa: E402
from infra.duties import Duty, SpokeRole  # noqa: E402
from infra.function_table import ROWS, SCHEDULED, Row, assumers  # noqa: E402
from infra.names import Site  # noqa: E402
from infra.operator_permissions import POLICIES  # noqa: E402
from infra.spoke_permissions import PIECES, Spoke, trust  # noqa: E402
from infra.statements import Statement  # noqa: E402

TARGET = ROOT / "docs" / "iam-permissions.md"
PROTECTED = "999900001111"
VAULT = "999922223333"

EXAMPLE = Configuration.model_validate(
    {
        "backup_account": "111122223333",
        "hub_region": "eu-central-1",
        "roles": [
            {"name": "one", "arn": f"arn:aws:iam::{PROTECTED}:role/HoldfastBackup", "external_id": "X"},
            {"name": "vault", "arn": f"arn:aws:iam::{VAULT}:role/HoldfastBackup", "external_id": "X"},
        ],
        "organizations": [
            {
                "name": "company",
                "management_role": "arn:aws:iam::777788889999:role/HoldfastOrganization",
                "external_id": "X",
            }
        ],
        "repositories": [
            {
                "name": "main",
                "bucket": "repository-bucket",
                "region": "eu-central-1",
                "encryption": {"kind": "kms"},
            }
        ],
        "policies": [
            {
                "name": "daily",
                "source": {"organization": "company"},
                "regions": ["eu-west-1"],
                "selection": {"all": True},
                "daily": {"snapshots": {"hours": [1]}},
            },
            {
                "name": "replicated",
                "source": {"role": "one"},
                "regions": ["eu-west-1"],
                "selection": {"all": True},
                "daily": {"replicas": {"hours": [1]}},
                "replication": [{"source_region": "eu-west-1", "region": "eu-west-1", "role": "vault"}],
            },
        ],
        "notifications": {"sender": "holdfast@example.com", "recipients": ["operators@example.com"]},
    }
)
"""What the reference shows: roles, an Organization, a repository with a key, a Region beside the hub's.

Replicas go from one of the accounts to the other.
"""

SHOWN = {
    "111122223333": "BACKUP",
    PROTECTED: "PROTECTED",
    VAULT: "VAULT",
    "777788889999": "MANAGEMENT",
    "eu-central-1": "HUB-REGION",
    "eu-west-1": "REGION",
}

HEAD = """# IAM permissions

Generated from the tables in `infra/` by `tools/generate_iam_reference.py`; do not edit.

Three kinds of identities work together. **Functions** and state machines run in the backup account, each with
a role of its own. They reach a protected account only by assuming one of its **spoke roles**, which trust
exactly the functions that need them and ask for an external id. **People** get one of four managed policies
in the backup account and need nothing in protected accounts.

In this page `BACKUP`, `PROTECTED` and `MANAGEMENT` stand for account ids, `HUB-REGION` and `REGION` for
Regions, and the installation is called `holdfast`. A condition is written as *key* *operator* *value*. Every
`*` has its reason beside it; a statement with a `*` and no reason cannot be synthesized.

A change of a trust policy can take up to five minutes to act.

## What nobody has

No role may by-pass or shorten an Object Lock, change a bucket's lock, policy or lifecycle, delete object
versions, disable or delete a key, terminate instances, delete volumes, or change IAM. Snapshots are deleted,
and their content is read, only where they carry the tag `holdfast:installation` of this installation. Tests
hold all of this against the synthesized templates.
"""


def shown(text: str) -> str:
    """Text with placeholders for what differs between installations."""
    for value, name in SHOWN.items():
        text = text.replace(value, name)
    return text


def conditions(statement: Statement) -> str:
    def values(found: str | list[str]) -> str:
        return ", ".join(f"`{one}`" for one in (found if isinstance(found, list) else [found]))

    return "<br>".join(
        f"`{key}` {operator} {values(found)}"
        for operator, pairs in statement.when.items()
        for key, found in pairs.items()
    )


def cell(words: Iterable[str]) -> str:
    return "<br>".join(f"`{word}`" for word in words)


def table(statements: Iterable[Statement]) -> Iterator[str]:
    """A table of statements."""
    yield "| actions | resources | only when | why `*` |"
    yield "|---|---|---|---|"
    for statement in statements:
        columns = (
            cell(sorted(statement.actions)),
            cell(sorted(statement.resources)),
            conditions(statement),
            statement.because,
        )
        yield shown(f"| {' | '.join(columns)} |")
    yield ""


def described(verb: str) -> str:
    """The first line of a function's docstring."""
    text = (ROOT / "functions" / f"{verb}.py").read_text(encoding="utf-8")
    return text.split('"""')[1].splitlines()[0]


def spoke_sections() -> Iterator[str]:
    yield "## Roles in protected accounts\n"
    yield (
        "The spoke stack makes them in single accounts, a StackSet in the accounts of an Organization. An "
        "account that is configured by one role gives that role both duties, backup and restore.\n"
    )
    titles = {
        Duty.BACKUP: "Backup (`HoldfastBackup`)",
        Duty.RESTORE: "Restore (`HoldfastRestore`)",
        Duty.ORGANIZATION: "Organization (in the management or a delegated administrator account)",
    }
    for duty, title in titles.items():
        piece = PIECES[duty]
        yield f"### {title}\n\n{(piece.__doc__ or '').strip()}\n"
        yield f"Assumed by: {', '.join(f'`{verb}`' for verb in assumers(duty))}.\n"
        yield from table(piece(Spoke(EXAMPLE, PROTECTED)))
        if duty is Duty.BACKUP:
            yield (
                "Only in an account from which a policy replicates into another one: `kms:DescribeKey`. Only "
                "with a second account in the configuration: sharing, and copying what is shared. In an "
                "account that replicas come into, and where no policy protects anything, the role has this "
                "alone:\n"
            )
            yield from table(piece(Spoke(EXAMPLE, VAULT)))
    example = SpokeRole(PROTECTED, "/", "HoldfastRestore", (Duty.RESTORE,), ("EXTERNAL-ID",), True)
    policy = trust(EXAMPLE, example, "o-...")
    yield "### Trust policy\n\nOf the restore role, as an example:\n"
    yield f"```json\n{shown(json.dumps(policy, indent=2))}\n```\n"


def own_statements(row: Row, site: Site) -> list[Statement]:
    """What a function may do besides logs and traces."""
    usual = {statement.sid for statement in (*may.logs(site, row.verb), *may.traces(site))}
    return [statement for statement in row.statements(site) if statement.sid not in usual]


def function_sections() -> Iterator[str]:
    yield "## Functions\n"
    yield "Every function may write to its own log group; all but the workers that move blocks send traces:\n"
    site = Site.hub(EXAMPLE)
    yield from table((*may.logs(site, "start_session"), *may.traces(site)))
    for row in ROWS:
        site = Site(EXAMPLE, row.place, "eu-central-1" if row.place == "hub" else "eu-west-1")
        yield f"### {row.verb}\n\n{described(row.verb)} Runs in the {row.place}.\n"
        statements = own_statements(row, site)
        if statements:
            yield from table(statements)
        else:
            yield "Nothing else.\n"


def service_sections() -> Iterator[str]:
    yield "## State machines and schedules\n"
    for machine, place in MACHINES.items():
        site = Site(EXAMPLE, place, "eu-central-1" if place == "hub" else "eu-west-1")
        yield f"### State machine {machine}\n"
        yield from table(statements_of(machine, site))
    yield "### Scheduler\n"
    yield from table(may.scheduler_role(Site.hub(EXAMPLE), SCHEDULED))


def people_sections() -> Iterator[str]:
    yield "## People\n"
    for name, piece in POLICIES.items():
        yield f"### holdfast-{name}\n\n{(piece.__doc__ or '').strip()}\n"
        yield from table(piece(EXAMPLE))


def reference() -> str:
    """The whole page."""
    parts = (HEAD, *spoke_sections(), *function_sections(), *service_sections(), *people_sections())
    return "\n".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)} written")
