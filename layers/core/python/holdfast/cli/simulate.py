"""``holdfast simulate``: make and drive a simulated AWS whose state lives in a directory.

The other commands work on it with ``--simulate DIR``. The simulator is a development tool and comes with the
source tree; an installation that lacks it says so.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.context import CommandContext
from holdfast.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Directory to create.")],
    world: Annotated[Path, typer.Option("--world", help="World file: accounts, instances, disks, mishaps.")],
) -> None:
    """Create a simulated AWS from a world file."""
    from simulator.simulator import Simulator
    from simulator.world import load

    cli: CommandContext = context.obj
    with Simulator(directory, load(world)) as made:
        cli.emit(
            {
                "directory": str(directory),
                "now": made.clock.now().isoformat(),
                "accounts": list(made.world.account_ids()),
                "instances": sum(instance.count for instance in made.world.instances),
            }
        )


@app.command()
def deploy(context: typer.Context) -> None:
    """Synthesize the CDK app with --config and deploy its stacks."""
    from simulator.operator import deploy_configuration

    cli: CommandContext = context.obj
    simulated = cli.require_simulator()
    cli.emit(deploy_configuration(simulated, cli.configuration_directory, say=cli.progress.say))


@app.command()
def write(
    context: typer.Context,
    volume: Annotated[str, typer.Argument(help="Volume id.")],
    image: Annotated[Path, typer.Argument(help="Raw image that the volume holds from now on.")],
) -> None:
    """Let the guest write: every block of the volume that differs from the image becomes the image's."""
    cli: CommandContext = context.obj
    cli.emit({"volume": volume, "blocks_written": cli.require_simulator().ebs.write_image(volume, image)})


def parse_until(text: str, now: datetime) -> datetime:
    """An instant in ISO 8601 (UTC without an offset), or ``+3h``, ``+2d``, ``+90m`` from now.

    Raises ConfigurationError.
    """
    units = {"m": "minutes", "h": "hours", "d": "days"}
    try:
        if text.startswith("+"):
            return now + timedelta(**{units[text[-1]]: float(text[1:-1])})
        until = datetime.fromisoformat(text)
    except (KeyError, ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"--until {text!r} is no instant.", remedy="Write 2026-11-22T07:00:00, or +3h, +2d, +90m."
        ) from error
    return until if until.tzinfo else until.replace(tzinfo=UTC)


@app.command()
def clock(
    context: typer.Context,
    until: Annotated[str, typer.Option("--until", help="ISO 8601 instant, or +3h, +2d, +90m.")] = "",
) -> None:
    """Tell the time; with --until, let it pass: schedules fire, sessions run to their end."""
    from simulator.operator import pass_time

    cli: CommandContext = context.obj
    simulated = cli.require_simulator()
    if until:
        pass_time(simulated, parse_until(until, simulated.clock.now()), say=cli.progress.update)
    cli.emit({"now": simulated.clock.now().isoformat()})


@app.command()
def mail(
    context: typer.Context,
    html: Annotated[bool, typer.Option("--html", help="The HTML part instead of the text.")] = False,
) -> None:
    """Show the mails that were sent, oldest first."""
    cli: CommandContext = context.obj
    cli.emit(
        [
            {
                "from": sent.sender,
                "to": list(sent.recipients),
                "subject": sent.subject,
                "body": sent.html if html else sent.text,
            }
            for sent in cli.require_simulator().mail.all()
        ]
    )


@app.command()
def volumes(
    context: typer.Context,
    digest: Annotated[
        list[str],
        typer.Option("--digest", metavar="VOLUME", help="Tell the SHA-256 of its content; repeatable."),
    ] = [],  # noqa: B006
) -> None:
    """List every volume with its instance."""
    from simulator.operator import describe_volumes

    cli: CommandContext = context.obj
    cli.emit(describe_volumes(cli.require_simulator(), digest))


@app.command()
def requests(context: typer.Context) -> None:
    """Count the requests that were made so far, by API, and what AWS would charge for them."""
    from holdfast.planning.prices import request_cost

    cli: CommandContext = context.obj
    counted = dict(sorted(cli.require_simulator().requests.items()))
    cli.emit({"requests": counted, "cost_usd": round(request_cost(counted), 6)})
