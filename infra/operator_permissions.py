"""What people may do: four managed policies, each a superset of the one before or beside it.

None of them can delete a snapshot, an object of a repository or a lock: such rights belong to functions and
spoke roles alone.
"""

from __future__ import annotations

from typing import Final

from holdfast.model.configuration import Configuration
from infra import permissions as may
from infra.constructs.state_machine import MACHINES
from infra.duties import Duty, assumable
from infra.names import Place, Site
from infra.statements import Statement, allow

_LISTINGS: Final = "These listings have no resources to name; they show names and states alone."


def _sites(configuration: Configuration) -> tuple[Site, ...]:
    cells = (Site(configuration, Place.CELL, region) for region in configuration.regions())
    return (Site.hub(configuration), *cells)


def _machines(configuration: Configuration, *names: str) -> list[str]:
    return [
        site.machine_arn(name)
        for site in _sites(configuration)
        for name in names
        if MACHINES[name] is site.place
    ]


def _executions(configuration: Configuration, *names: str) -> list[str]:
    return [
        site.executions(name)
        for site in _sites(configuration)
        for name in names
        if MACHINES[name] is site.place
    ]


def read_only(configuration: Configuration) -> tuple[Statement, ...]:
    """See sessions, restore points, executions, logs and metrics."""
    hub = Site.hub(configuration)
    groups = [
        site.arn("logs", f"log-group:{prefix}{site.installation}-*")
        for site in _sites(configuration)
        for prefix in ("/aws/lambda/", "/aws/vendedlogs/states/")
    ]
    return (
        *may.catalog_read(hub),
        allow(
            "SeeMachines", "states:DescribeStateMachine ListExecutions", *_machines(configuration, *MACHINES)
        ),
        allow(
            "SeeExecutions",
            "states:DescribeExecution GetExecutionHistory ListMapRuns",
            *_executions(configuration, *MACHINES),
            because="Step Functions chooses the ids of executions and map runs when they start.",
        ),
        allow(
            "SeeLogs",
            "logs:FilterLogEvents GetLogEvents StartQuery",
            *dict.fromkeys(groups),
            because="One log group for each function and state machine of this installation.",
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
            hub.function_arn("take_manual_snapshot"),
        ),
        allow(
            "StopExecutions",
            "states:StopExecution",
            *_executions(configuration, *MACHINES),
            because="Step Functions chooses the ids of executions and map runs when they start.",
        ),
        allow("SwitchPolicies", "dynamodb:PutItem UpdateItem", hub.table_arn),
    )


def restore_operator(configuration: Configuration) -> tuple[Statement, ...]:
    """Read-only, and restore: start restores and read repositories and their keys."""
    hub = Site.hub(configuration)
    restores = _machines(configuration, "restore")
    return (
        *read_only(configuration),
        *((allow("StartRestores", "states:StartExecution", *restores),) if restores else ()),
        *may.repository_read(hub),
    )


def administrator(configuration: Configuration) -> tuple[Statement, ...]:
    """Operator and restore operator, and maintenance of repositories, catalog and retention."""
    hub = Site.hub(configuration)
    statements = (
        *operator(configuration),
        *restore_operator(configuration),
        *may.catalog_write(hub),
        *may.repository_write(hub),
        allow("RunMaintenance", "lambda:InvokeFunction", hub.function_arn("expire_backups")),
        *may.assume(hub, "organization", assumable(configuration, Duty.ORGANIZATION, hub.partition)),
    )
    return tuple({statement.sid: statement for statement in statements}.values())


POLICIES: Final = {
    "read-only": read_only,
    "operator": operator,
    "restore-operator": restore_operator,
    "administrator": administrator,
}
