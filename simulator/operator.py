"""What the operator of a simulated AWS does: deploy a configuration, let time pass, look at disks and bills.

The command line and the demonstration share it; everything goes through what is deployed, nothing is called
behind its back.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from holdfast.configuration import load
from simulator.ebs import disk
from simulator.simulator import Simulator

Say = Callable[[str], None]

_SHOWN = (
    ("sts:AssumeRole", "roles assumed"),
    ("ec2:CreateSnapshots", "snapshot sets"),
    ("ebs:GetSnapshotBlock", "blocks read"),
    ("s3:PutObject", "objects written"),
    ("ebs:PutSnapshotBlock", "blocks restored"),
)


def deploy_configuration(simulator: Simulator, directory: Path, *, say: Say) -> dict[str, Any]:
    """Synthesize the CDK app for the YAML in ``directory`` and deploy every stack; returns their outputs.

    The configuration is kept with the simulation, so that later commands need not name it again.
    """
    configuration = load(directory)
    kept = simulator.directory / "config"
    if directory.resolve() != kept:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(directory, kept)
    from infra.synth import synthesize

    say("Synthesizing the CDK app")
    assembly = synthesize(configuration, simulator.directory / "cdk.out", bundling=False)
    say("Deploying its stacks")
    return dict(simulator.deploy(assembly, parameters=_parameters(simulator)))


def _parameters(simulator: Simulator) -> dict[str, str]:
    """What an operator is asked for: the units that get the roles. Here the whole Organization does."""
    organization = simulator.world.organization
    if organization is None:
        return {}
    client = simulator.session(organization.management_account, simulator.world.regions[0]).client(
        "organizations"
    )
    return {"OrganizationalUnitIds": client.list_roots()["Roots"][0]["Id"]}


@contextmanager
def progress(simulator: Simulator, say: Say, *, every: float = 0.5) -> Iterator[None]:
    """While the block runs, say what is being done: virtual time, running executions, requests so far."""
    before, stop = simulator.requests.copy(), threading.Event()

    def tell() -> None:
        counted = [
            f"{simulator.requests[name] - before[name]} {what}"
            for name, what in _SHOWN
            if simulator.requests[name] > before[name]
        ]
        say(", ".join([f"{simulator.clock.now():%Y-%m-%d %H:%M:%S} UTC", *counted]))

    def watch() -> None:
        while not stop.wait(every):
            tell()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        tell()


def pass_time(simulator: Simulator, until: datetime, *, say: Say) -> None:
    """Let virtual time pass; what is due on the way runs to its end."""
    with progress(simulator, say):
        simulator.advance_to(until)


def describe_volumes(simulator: Simulator, hashed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Every volume that exists, with its instance; those of ``hashed`` with the SHA-256 of their content."""
    from moto.ec2.models import ec2_backends

    return [
        _described(account, region, volume) | _digest(simulator, volume.id, hashed)
        for account in simulator.world.account_ids()
        for region in simulator.world.regions
        for volume in ec2_backends[account][region].volumes.values()
    ]


def _described(account: str, region: str, volume: Any) -> dict[str, Any]:
    attachment = volume.attachment
    return {
        "volume_id": volume.id,
        "account": account,
        "region": region,
        "instance_id": attachment.instance.id if attachment else None,
        "name": _name(attachment.instance) if attachment else None,
        "device": attachment.device if attachment else None,
        "size_bytes": volume.size << 30,
        "blocks": sum(1 for _ in disk(volume).blocks.allocated()),
    }


def _digest(simulator: Simulator, volume_id: str, hashed: Collection[str]) -> dict[str, str]:
    return {"sha256": simulator.ebs.volume_content(volume_id).sha256()} if volume_id in hashed else {}


def _name(instance: Any) -> str:
    return next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), "")
