"""Entry point: global options, error reporting, exit codes, and the table of commands.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done in part, 4 not found, 130 interrupted. Keep them: scripts
depend on them.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from holdfast import __version__
from holdfast.cli import (
    config,
    coverage,
    explain,
    plan,
    points,
    policy,
    removal,
    repository,
    restore,
    session,
    simulate,
    snapshot,
)
from holdfast.cli.context import CommandContext
from holdfast.cli.output import Format, check_query, printable
from holdfast.errors import HoldfastError, NotFoundError

app = typer.Typer(
    name="holdfast",
    help="Serverless backup for Amazon EC2: restore points in your own S3, proven end to end.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(config.app, name="config", help="Check the configuration and describe its format.")
app.add_typer(policy.app, name="policy", help="Start, stop, switch and edit policies.")
app.add_typer(session.app, name="session", help="What ran, and how it ended.")
app.add_typer(points.app, name="points", help="Restore points.")
app.add_typer(restore.app, name="restore", help="Restore a volume, an instance, or a disk image.")
app.add_typer(removal.app, name="data", help="Remove restore points of instances by hand.")
app.add_typer(repository.app, name="repository", help="Check a repository, rebuild the catalog, change keys.")
app.add_typer(simulate.app, name="simulate", help="A simulated AWS in a directory.")
app.command("snapshot")(snapshot.snapshot)
app.command("coverage")(coverage.coverage)
app.command("explain")(explain.explain)
policy.app.command("plan")(plan.plan)
policy.app.command("cost")(plan.cost)

_VALUED = {"--profile", "--region", "--output", "--query", "--simulate", "--config", "--installation"}
_SWITCHES = {"--verbose", "--debug", "--quiet", "--no-cli-pager"}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"holdfast {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    profile: Annotated[str, typer.Option(help="Named profile of the AWS CLI configuration.")] = "",
    region: Annotated[str, typer.Option(help="AWS Region; the hub Region where it matters.")] = "",
    output: Annotated[Format, typer.Option(help="Format of the result.")] = Format.JSON,
    query: Annotated[str, typer.Option(help="JMESPath expression applied to the result.")] = "",
    simulate: Annotated[str, typer.Option(metavar="DIR", help="Run against the simulated AWS in DIR.")] = "",
    config: Annotated[str, typer.Option(metavar="DIR", help="The operator's configuration.")] = "config",
    installation: Annotated[
        str, typer.Option(help="Name of the installation; default: from the configuration.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what is called.")] = False,
    no_cli_pager: Annotated[
        bool, typer.Option("--no-cli-pager", help="Accepted for AWS CLI habits; never pages.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    check_query(query)
    context.obj = context.with_resource(
        CommandContext(
            profile=profile,
            region_option=region,
            output=output,
            query=query,
            simulate=simulate,
            configuration_directory=config,
            installation_option=installation,
            quiet=quiet,
            verbose=verbose or debug,
        )
    )


def hoist(arguments: list[str]) -> list[str]:
    """Global options first: like the AWS CLI, they may stand anywhere on the line (before ``--``).

    Raises typer.BadParameter for one that lacks its value.
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _SWITCHES or ("=" in word and word.split("=", 1)[0] in _VALUED):
            front.append(word)
        elif word in _VALUED:
            value = next(words, None)
            if value is None:
                raise typer.BadParameter(f"Option '{word}' requires an argument.")
            front += [word, value]
        else:
            rest.append(word)
    return front + rest


def _show(error: typer.TyperException) -> int:
    show = getattr(error, "show", None)
    if show is not None:
        show(file=sys.stderr)
    else:
        print(f"holdfast: {printable(error.format_message())}", file=sys.stderr)
    return error.exit_code


def _report(error: Exception) -> int:
    """One line for what is foreseen; a defect keeps its traceback."""
    if isinstance(error, OSError):
        print(f"holdfast: {printable(error)}", file=sys.stderr)
        return 1
    told: HoldfastError | None
    if isinstance(error, HoldfastError):
        told = error
    else:
        from holdfast.aws.faults import from_boto

        told = from_boto(error, action="the AWS call")
    if told is None:
        raise error
    print(f"holdfast: {printable(told)}", file=sys.stderr)
    return 4 if isinstance(told, NotFoundError) else 1


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = app(hoist(arguments), prog_name="holdfast", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:
        return _show(error)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _report(error)


def main() -> None:
    """Console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
