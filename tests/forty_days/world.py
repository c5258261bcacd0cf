"""The company of the forty days: an Organization of three levels, twelve accounts, three Regions.

The configuration is the document that an operator would write, as plain values: the product reads it through
its models, the independent model reads the same document by itself. Ids are given, so that neither has to ask
the other for one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

BACKUP, MANAGEMENT, PARTNER = "999999999999", "777777777777", "200000000001"
WEB, SHOP, DATA, LAB = "100000000001", "100000000002", "100000000003", "100000000004"
LEGACY, SECRET, SANDBOX, FRAGILE = "100000000005", "100000000006", "100000000007", "100000000008"
MOVER, NEWCOMER = "100000000009", "100000000010"

SYDNEY, FRANKFURT, VIRGINIA = "ap-southeast-2", "eu-central-1", "us-east-1"
REGIONS = (SYDNEY, FRANKFURT, VIRGINIA)
STARTS_AT = datetime(2026, 9, 30, 11, 0, tzinfo=UTC)
DAYS = 40

UNITS = {
    "Workloads": "ou-fort-workloads",
    "Workloads/Production": "ou-fort-production",
    "Workloads/Production/Web": "ou-fort-webshops",
    "Workloads/Production/Data": "ou-fort-datahouse",
    "Workloads/Staging": "ou-fort-stagings",
    "Workloads/Staging/Legacy": "ou-fort-legacies",
    "Sandbox": "ou-fort-sandboxes",
}
PLACES = {
    WEB: "Workloads/Production/Web",
    SHOP: "Workloads/Production/Web",
    FRAGILE: "Workloads/Production/Web",
    DATA: "Workloads/Production/Data",
    SECRET: "Workloads/Production/Data",
    LAB: "Workloads/Staging",
    MOVER: "Workloads/Staging",
    LEGACY: "Workloads/Staging/Legacy",
    SANDBOX: "Sandbox",
}
"""Unit of each account of the Organization on the first day."""

INSTANCES: dict[str, tuple[str, str, dict[str, str]]] = {
    "web": (WEB, FRANKFURT, {"tier": "gold"}),
    "web-us": (WEB, VIRGINIA, {"tier": "gold"}),
    "web-promise": (WEB, SYDNEY, {"sla": "yes"}),
    "shop": (SHOP, FRANKFURT, {"tier": "gold"}),
    "shop-promise": (SHOP, VIRGINIA, {"sla": "yes"}),
    "data": (DATA, FRANKFURT, {"vault": "yes", "tier": "gold"}),
    "data-promise": (DATA, FRANKFURT, {"sla": "yes", "tier": "gold"}),
    "secret": (SECRET, FRANKFURT, {"tier": "gold", "vault": "yes"}),
    "lab": (LAB, SYDNEY, {"site": "harbour"}),
    "lab-plain": (LAB, FRANKFURT, {}),
    "mover": (MOVER, FRANKFURT, {"tier": "gold"}),
    "legacy": (LEGACY, FRANKFURT, {"tier": "gold"}),
    "legacy-harbour": (LEGACY, SYDNEY, {"site": "harbour"}),
    "sandbox": (SANDBOX, FRANKFURT, {"vault": "yes"}),
    "apart": (SANDBOX, FRANKFURT, {"sla": "apart"}),
    "fragile": (FRAGILE, FRANKFURT, {"tier": "gold"}),
    "partner": (PARTNER, FRANKFURT, {}),
}
"""Account, Region and tags of each instance of the first day, by name."""

_COMPANY = {"organization": "company"}
_MEMBERS = {**_COMPANY, "exclude_accounts": [MANAGEMENT, BACKUP]}
CONFIGURATION: dict[str, Any] = {
    "backup_account": BACKUP,
    "hub_region": FRANKFURT,
    "service_time_zone": "Europe/Berlin",
    "roles": [
        {
            "name": "partner",
            "arn": f"arn:aws:iam::{PARTNER}:role/HoldfastBackup",
            "external_id": "agreed-with-the-partner",
        }
    ],
    "organizations": [
        {
            "name": "company",
            "management_role": f"arn:aws:iam::{MANAGEMENT}:role/HoldfastOrganization",
            "external_id": "agreed-with-the-company",
        }
    ],
    "repositories": [{"name": "main", "bucket": "holdfast-forty", "region": FRANKFURT}],
    "policies": [
        {
            "name": "vault",
            "priority": 10,
            "source": {**_COMPANY, "exclude_accounts": [MANAGEMENT, BACKUP, SECRET]},
            "regions": [FRANKFURT],
            "selection": {"tags": [{"key": "vault", "value": "yes"}]},
            "time_zone": "Europe/Berlin",
            "daily": {
                "snapshots": {"hours": [2, 20], "keep": 1},
                "backups": {"hours": [2], "keep": {"days": 5}},
            },
            "weekly": {
                "time": "02:00",
                "snapshots": {"days": ["sun"], "keep": 2},
                "backups": {"days": ["sun"], "keep": {"days": 14}},
            },
            "repository": "main",
            "retries": 0,
        },
        {
            "name": "gold",
            "priority": 20,
            "source": {
                **_COMPANY,
                "units": [UNITS["Workloads"]],
                "exclude_units": [UNITS["Workloads/Staging/Legacy"]],
                "exclude_accounts": [SECRET],
            },
            "regions": [FRANKFURT, VIRGINIA],
            "selection": {
                "tags": [{"key": "tier", "value": "gold"}],
                "exclude_tags": [{"key": "backup", "value": "never"}],
            },
            "time_zone": "Europe/Berlin",
            "daily": {"snapshots": {"hours": [2], "keep": 3}},
            "weekly": {"time": "02:00", "snapshots": {"days": ["sun"], "keep": 2}},
            "monthly": {
                "run_on": {"ordinal": "first", "weekday": "sun"},
                "time": "02:00",
                "snapshots": {"months": "all", "keep": 1},
            },
            "retries": 0,
        },
        {
            "name": "harbour",
            "priority": 30,
            "source": {
                **_MEMBERS,
                "exclude_units": [UNITS["Sandbox"], UNITS["Workloads/Production"]],
            },
            "regions": [SYDNEY],
            "selection": {"tags": [{"key": "site", "value": "harbour"}]},
            "time_zone": "Australia/Sydney",
            "daily": {"snapshots": {"hours": [2], "keep": 4}},
            "weekly": {"time": "02:00", "snapshots": {"days": ["sun"], "keep": 3}},
            "retries": 1,
        },
        {
            "name": "partner",
            "priority": 40,
            "source": {"role": "partner"},
            "regions": [FRANKFURT],
            "selection": {"all": True},
            "time_zone": "UTC",
            "daily": {"days": "weekdays", "snapshots": {"hours": [9], "keep": 2}},
            "retries": 0,
        },
    ],
    "obsolete_snapshots": {"mode": "after", "days": 15},
    "sla_templates": [
        {
            "name": "hourly",
            "snapshots": {
                "daily": {"hours": 1, "keep": {"days": 2}},
                "weekly": {"days": ["sun"], "keep": {"days": 10}},
                "monthly": {"run_on": {"day": 1}, "keep": {"days": 25}},
            },
            "backups": {"weekly": {"days": ["mon", "thu"], "keep": {"days": 8}}},
            "snapshot_window": {"start": "01:00", "end": "03:00"},
            "backup_window": {"start": "02:00", "end": "04:00"},
        },
        {
            "name": "apart",
            "snapshots": {"daily": {"hours": 24, "keep": {"days": 3}}},
            "backups": {"daily": {"hours": 24, "keep": {"days": 2}}},
            "snapshot_window": {"start": "05:00", "end": "06:00"},
            "backup_window": {"start": "20:00", "end": "21:00"},
        },
    ],
    "storage_templates": [{"name": "everywhere", "backups": "main"}],
    "sla_policies": [
        {
            "name": "promise",
            "source": {**_COMPANY, "units": [UNITS["Workloads/Production"]]},
            "regions": list(REGIONS),
            "selection": {"tags": [{"key": "sla", "value": "yes"}]},
            "sla_template": "hourly",
            "storage_template": "everywhere",
            "retries": 0,
        },
        {
            "name": "apart",
            "source": {**_COMPANY, "units": [UNITS["Sandbox"]]},
            "regions": [FRANKFURT],
            "selection": {"tags": [{"key": "sla", "value": "apart"}]},
            "sla_template": "apart",
            "storage_template": "everywhere",
            "retries": 0,
        },
    ],
}


def world_document(starts_at: datetime = STARTS_AT) -> dict[str, Any]:
    """What the simulator builds before the first day."""
    return {
        "backup_account": BACKUP,
        "regions": list(REGIONS),
        "starts_at": starts_at.isoformat(),
        "organization": {"management_account": MANAGEMENT, "units": _units("")},
        "accounts": [
            {"id": BACKUP, "name": "backup"},
            {"id": PARTNER, "name": "partner", "member": False},
            *(
                {"id": account, "name": f"account {account[-2:]}", "unit": PLACES[account]}
                for account in PLACES
            ),
        ],
        "instances": [instance_document(name, *place) for name, place in INSTANCES.items()],
        "ebs": {"snapshot_seconds": 5},
    }


def _units(above: str) -> list[dict[str, Any]]:
    """The units directly below a path."""
    return [
        {"name": path.rpartition("/")[2], "id": UNITS[path], "units": _units(path)}
        for path in UNITS
        if path.rpartition("/")[0] == above
    ]


def instance_document(name: str, account: str, region: str, tags: dict[str, str]) -> dict[str, Any]:
    """One instance with one small volume, as a world file has it."""
    return {
        "name": name,
        "account": account,
        "region": region,
        "tags": tags,
        "volumes": [{"device": "/dev/xvda", "size_gib": 1}],
    }
