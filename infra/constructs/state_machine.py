"""State machines from their ASL files, with every substitution resolved at synthesis.

The definition is deployed as it is read: a placeholder without a value is an error here, never at run time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from holdfast.errors import ConfigurationError
from infra import permissions
from infra.constructs.function import LOG_RETENTION, service_role
from infra.function_table import ROWS
from infra.names import Place, Site, pascal
from infra.statements import Statement, acknowledge_wildcards, policy_document

DIRECTORY: Final = Path(__file__).parent.parent / "state_machines"
MACHINES: Final = {
    "session": Place.HUB,
    "manual_snapshot": Place.HUB,
    "close_window": Place.HUB,
    "retention": Place.HUB,
    "cell": Place.CELL,
    "restore": Place.CELL,
}
_PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z0-9]+)\}")
_NOTE: Final = re.compile(r"'(\w+)/'[^\"]*'/problem\.json'")
"""The key of a note, beginning with its folder in the work bucket."""


def source(machine: str) -> Path:
    """The file that defines a state machine."""
    return DIRECTORY / f"{machine}.asl.json"


def substitutions(site: Site) -> dict[str, str]:
    """What placeholders in a definition stand for at this site."""
    functions = {
        f"{pascal(row.verb)}FunctionArn": site.function_arn(row.verb)
        for row in ROWS
        if row.place is site.place
    }
    machines = {
        f"{pascal(machine)}MachineArn": site.machine_arn(machine)
        for machine, place in MACHINES.items()
        if place is site.place
    }
    return {
        **functions,
        **machines,
        "WorkBucket": site.work_bucket,
        "TableName": site.table_name,
        "Installation": site.installation,
    }


def placeholders(text: str) -> list[str]:
    """Names of the placeholders of a definition, in order of appearance, each once."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def resolve(text: str, values: Mapping[str, str], name: str) -> str:
    """A definition with its placeholders replaced. Raises ConfigurationError naming the unknown ones."""
    unknown = [placeholder for placeholder in placeholders(text) if placeholder not in values]
    if unknown:
        raise ConfigurationError(
            f"The definition refers to {', '.join(unknown)}, which nothing here is called.",
            resource=name,
            remedy="Give the function a row in infra/function_table.py, or correct the placeholder.",
        )
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def called_functions(text: str) -> tuple[str, ...]:
    """Verbs of the functions that a definition calls."""
    used = set(placeholders(text))
    return tuple(row.verb for row in ROWS if f"{pascal(row.verb)}FunctionArn" in used)


def statements_of(machine: str, site: Site) -> tuple[Statement, ...]:
    """What a state machine may do, from what its definition does."""
    text = source(machine).read_text(encoding="utf-8")
    note = _NOTE.search(text)
    return permissions.machine_role(
        site,
        machine,
        called_functions(text),
        maps='"DISTRIBUTED"' in text,
        notes=note.group(1) if note else "",
    )


def deploy_machine(scope: Construct, machine: str, site: Site) -> stepfunctions.CfnStateMachine:
    """The state machine at a site, with its role and log group."""
    text = source(machine).read_text(encoding="utf-8")
    definition = json.loads(resolve(text, substitutions(site), source(machine).name))
    home = Construct(scope, f"{pascal(machine)}Machine")
    statements = statements_of(machine, site)
    role = service_role(
        home,
        "Role",
        role_name=site.role_name(f"{machine}_machine"),
        service="states.amazonaws.com",
        document=policy_document(statements, machine),
        conditions={"StringEquals": {"aws:SourceAccount": site.account}},
    )
    acknowledge_wildcards(role, statements)
    group = logs.LogGroup(
        home,
        "Logs",
        # The prefix spares the account's resource policy, which grows with every other name.
        log_group_name=f"/aws/vendedlogs/states/{site.named(machine)}",
        retention=LOG_RETENTION,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    return stepfunctions.CfnStateMachine(
        home,
        "StateMachine",
        state_machine_name=site.named(machine),
        state_machine_type="STANDARD",
        role_arn=role.role_arn,
        definition_string=json.dumps(definition, indent=1),
        logging_configuration=stepfunctions.CfnStateMachine.LoggingConfigurationProperty(
            level="ALL",
            # Events may carry names and user data of protected machines: they stay out of the logs.
            include_execution_data=False,
            destinations=[
                stepfunctions.CfnStateMachine.LogDestinationProperty(
                    cloud_watch_logs_log_group=stepfunctions.CfnStateMachine.CloudWatchLogsLogGroupProperty(
                        log_group_arn=group.log_group_arn
                    )
                )
            ],
        ),
        tracing_configuration=stepfunctions.CfnStateMachine.TracingConfigurationProperty(enabled=True),
    )
