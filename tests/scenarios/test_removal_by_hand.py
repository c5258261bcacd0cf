"""A policy is switched off and data removed by hand, on the deployed templates in a simulated AWS."""

from __future__ import annotations

import json
from typing import Any

from holdfast.model.session import State
from holdfast.planning.removing import key_of
from tests.scenarios.conftest import BACKUP, HUB, Installation, block


def call(installation: Installation, function: str, event: dict[str, Any]) -> dict[str, Any]:
    client = installation.sim.session(BACKUP, HUB).client("lambda")
    told = client.invoke(FunctionName=f"holdfast-{function}", Payload=json.dumps(event).encode())
    answer: dict[str, Any] = json.loads(told["Payload"].read())
    assert "errorMessage" not in answer, answer
    return answer


def of_instance(installation: Installation, instance_id: str) -> set[str]:
    found = installation.snapshots()
    return {one["SnapshotId"] for one in found if one["Tags"]["holdfast:instance"] == instance_id}


def test_of_a_policy_that_is_switched_off_data_goes_by_hand_and_a_person_still_starts_it(
    installation: Installation,
):
    volume_id = installation.volumes("db")["/dev/xvda"]
    installation.sim.ebs.write_blocks(volume_id, 7, block("orders"))
    installation.run_until(7)
    db, web = installation.instance_id("db"), installation.instance_id("web")
    for policy in ("daily", "company"):
        installation.catalog.switch_policy(policy, off=True, by="anna", at=installation.sim.clock.now())
    kept = of_instance(installation, web)
    points = [key_of(point) for point in installation.catalog.points(db)]
    event = {"instance_id": db, "scope": "everything", "points": points, "by": "anna"}
    answer = call(installation, "remove-points", event)
    assert (len(answer["removed"]), len(answer["noted"]), answer["left"]) == (1, 1, {})
    assert (of_instance(installation, db), of_instance(installation, web)) == (set(), kept)

    installation.run_until(24 + 5)
    assert len(installation.manifests("db")) == 1, "a mark is not a day old yet"
    installation.run_until(48 + 5)
    assert (installation.manifests("db"), len(installation.manifests("web"))) == ([], 1)
    assert list(installation.catalog.points(db)) == []
    assert [len(installation.sessions(policy)) for policy in ("daily", "company")] == [1, 1]

    call(installation, "start-session", {"policy": "daily", "manual": True})
    installation.run_until(48 + 6)
    by_hand = installation.sessions()[-1]
    assert (by_hand.manual, by_hand.state) == (True, State.SUCCESS)
    assert [manifest.full for manifest in installation.manifests("db")] == [True]
    assert installation.in_repository(installation.manifests("db")[-1]) == installation.on_volumes("db")
