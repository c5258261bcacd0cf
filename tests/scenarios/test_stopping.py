"""A session is stopped while its image-level backups run, on the deployed templates in a simulated AWS."""

from __future__ import annotations

import json
from typing import Any

from holdfast.model.restore_point import Kind
from holdfast.model.session import State
from simulator.calls import Call
from tests.scenarios.conftest import BACKUP, HUB, OPERATORS, WEST, Installation, block


def write_guests(installation: Installation, seed: str, *indexes: int) -> None:
    for name, region in (("web", HUB), ("db", HUB), ("far", WEST)):
        for volume_id in installation.volumes(name, region=region).values():
            for index in indexes:
                installation.sim.ebs.write_blocks(volume_id, index, block(f"{seed} {volume_id} {index}"))


def stop_at_the_first_block(installation: Installation) -> list[dict[str, Any]]:
    """Call the function as an operator does, while the first worker reads; its answers."""
    answers: list[dict[str, Any]] = []
    started: list[Call] = []

    def stop(call: Call) -> None:
        if call.name == "ebs:GetSnapshotBlock" and not started:
            started.append(call)
            told = (
                installation.sim.session(BACKUP, HUB)
                .client("lambda")
                .invoke(
                    FunctionName="holdfast-stop-session",
                    Payload=json.dumps({"policy": "daily", "by": "arn:aws:iam::999999999999:user/anna"}),
                )
            )
            answers.append(json.loads(told["Payload"].read()))

    installation.sim.guards.append(stop)
    return answers


def test_a_stopped_session_leaves_no_half_backup_and_the_next_one_is_whole(installation: Installation):
    write_guests(installation, "first", 0, 1, 100)
    installation.run_until(7)
    before = {one: len(installation.manifests(one)) for one in ("web", "db")}
    write_guests(installation, "second", 1, 300)
    answers = stop_at_the_first_block(installation)
    installation.run_until(17)

    stopped = installation.sessions()[-1]
    assert answers == [{"stopping": [stopped.session_id]}]
    assert (stopped.state, stopped.attempt, stopped.problems[0].code) == (State.STOPPED, 0, "Stopped")
    assert "user/anna stopped the session" in stopped.problems[0].message
    outcomes = installation.outcomes(stopped)
    assert {one.state for one in outcomes.values()} == {State.STOPPED}
    assert {one.kinds for one in outcomes.values()} == {("snapshot",)}
    assert {one: len(installation.manifests(one)) for one in ("web", "db")} == before
    newest = {point.session_id for point in installation.catalog.points(installation.instance_id("db"))}
    assert stopped.session_id in newest
    assert [one["SnapshotId"] for one in installation.snapshots() if "holdfast:in-use" in one["Tags"]] == []
    mail = installation.sim.mail.to(OPERATORS)[-1]
    assert mail.subject.startswith("[Stopped] daily (3 instances)")
    assert "user/anna stopped the session" in mail.html

    installation.sim.guards.clear()
    write_guests(installation, "third", 300, 2047)
    requests = installation.sim.requests["ebs:GetSnapshotBlock"]
    installation.run_until(24 + 7)
    last = installation.sessions()[-1]
    assert (last.state, last.counts["stopped"]) == (State.SUCCESS, 0)
    for name in ("web", "db"):
        newest_backup = installation.manifests(name)[-1]
        assert newest_backup.full is False
        assert installation.in_repository(newest_backup) == installation.on_volumes(name)
    changed_on_four_volumes = 3 * 4
    assert installation.sim.requests["ebs:GetSnapshotBlock"] - requests == changed_on_four_volumes
    assert len(list(installation.catalog.points(installation.instance_id("db"), Kind.BACKUP))) == 2
