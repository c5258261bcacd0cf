"""What people may do: four managed policies, each a superset of the one before or beside it.

None of them can delete a snapshot, an object of a repository or a lock: such rights belong to functions and
spoke roles alone.
"""

from __future__ import annotations

from typing import Final

from holdfast.model.configuration import Configuration
from infra import permissions as may
from infra.constructs.state_machine import MACHINES
from infra.names import Place, Site
from infra.statements import Statement, allow

_REGIONS: Final = "The same state machine in the cell of every protected Region."
_EXECUTIONS: Final = f"{_REGIONS} Step Functions chooses the ids of executions and map runs when they start."
_LISTINGS: Final = "These listings have no resources to name; they show names and states alone."


def _machines(hub: Site, *names: str) -> list[str]:
    return [hub.machine_arn(name, region=_region(hub, name)) for name in names]


def _executions(hub: Site, *names: str) -> list[str]:
    return [hub.executions(name, region=_region(hub, name)) for name in names]


def _region(hub: Site, machine: str) -> str:
    """Machines of cells are meant in every Region."""
    return hub.region if MACHINES[machine] is Place.HUB else "*"


def read_only(configuration: Configuration) -> tuple[Statement, ...]:
    """See sessions, restore points, the deployed configuration, executions, logs and metrics."""
    hub = Site.hub(configuration)
    groups = [
        hub.arn("logs", f"log-group:{prefix}{hub.installation}-*", region="*")
        for prefix in ("/aws/lambda/", "/aws/vendedlogs/states/")
    ]
    return (
        *may.catalog_read(hub),
        allow("SeeConfiguration", "lambda:InvokeFunction", hub.function_arn("show_configuration")),
        allow(
            "SeeMachines",
            "states:DescribeStateMachine ListExecutions",
            *_machines(hub, *MACHINES),
            because=_REGIONS,
        ),
        allow(
            "SeeExecutions",
            "states:DescribeExecution GetExecutionHistory ListMapRuns",
            *_executions(hub, *MACHINES),
            because=_EXECUTIONS,
        ),
        allow(
            "SeeLogs",
            "logs:FilterLogEvents GetLogEvents StartQuery",
            *groups,
            because="One log group for each function and state machine of the installation, in every Region.",
        ),
        allow(
            "SeeMetrics",
            "cloudwatch:GetMetricData ListMetrics DescribeAlarms GetDashboard ListDashboards"
            " states:ListStateMachines logs:GetQueryResults DescribeLogGroups",
            "*",
            because=_LISTINGS,
        ),
    )


def operator(configuration: Configuration) -> tuple[Statement, ...]:
    """Read-only, and run and stop sessions, take manual snapshots, switch policies off and on."""
    hub = Site.hub(configuration)
    return (
        *read_only(configuration),
        allow(
            "RunByHand",
            "lambda:InvokeFunction",
            hub.function_arn("start_session"),
            hub.function_arn("stop_session"),
            hub.function_arn("take_manual_snapshot"),
            hub.function_arn("record_coverage"),
        ),
        allow(
            "StopExecutions",
            "states:StopExecution",
            *_executions(hub, *MACHINES),
            because=_EXECUTIONS,
        ),
        allow(
            "SwitchPolicies",
            "dynamodb:PutItem",
            hub.table_arn,
            when={
                "ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["POLICY#"]},
                "Null": {"dynamodb:LeadingKeys": "false"},  # ForAllValues alone is true without keys.
            },
        ),
    )


def restore_operator(configuration: Configuration) -> tuple[Statement, ...]:
    """Read-only, and restore: start restores and read repositories and their keys."""
    hub = Site.hub(configuration)
    return (
        *read_only(configuration),
        allow("StartRestores", "states:StartExecution", *_machines(hub, "restore"), because=_REGIONS),
        *may.repository_read(hub),
    )


def administrator(configuration: Configuration) -> tuple[Statement, ...]:
    """Operator and restore operator, and maintenance of repositories, catalog and retention."""
    hub = Site.hub(configuration)
    statements = (  # of two with one name, the later one allows more
        *operator(configuration),
        *restore_operator(configuration),
        *may.catalog_remove(hub),
        *may.repository_create(hub),
        allow(
            "RunMaintenance",
            "lambda:InvokeFunction",
            hub.function_arn("expire_backups"),
            hub.function_arn("remove_points"),
        ),
    )
    return tuple({statement.sid: statement for statement in statements}.values())


POLICIES: Final = {
    "read-only": read_only,
    "operator": operator,
    "restore-operator": restore_operator,
    "administrator": administrator,
}
