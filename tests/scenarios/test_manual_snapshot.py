"""Manual snapshots on the deployed templates: taken once, copied elsewhere, gone when their days are over."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from holdfast.cli.context import remote_error
from holdfast.errors import HoldfastError
from holdfast.model.restore_point import Kind
from simulator.faults import Fault
from tests.disks import fingerprint, noise
from tests.scenarios.conftest import BACKUP, HUB, OPERATORS, SHOP, SUNDAY, VAULT, WEST, Installation


def written(installation: Installation) -> dict[str, str]:
    """Something on the volumes of `web`; what they hold, by volume."""
    volumes = installation.volumes("web").values()
    for volume_id in volumes:
        for index in (0, 9, 2047):
            installation.sim.ebs.write_blocks(volume_id, index, noise(f"{volume_id} {index}"))
    return {one: fingerprint(installation.sim.ebs.volume_content(one)) for one in volumes}


def take(installation: Installation, name: str = "web", **changes: Any) -> dict[str, Any]:
    """Invoke the function as a person does from the console. Raises HoldfastError."""
    event = {"instance_id": installation.instance_id(name), "region": HUB, "role": "shop", **changes}
    client = installation.sim.session(BACKUP, HUB).client("lambda")
    answer = client.invoke(FunctionName="holdfast-take-manual-snapshot", Payload=json.dumps(event).encode())
    told = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise remote_error(told["errorType"], told["errorMessage"])
    return dict(told)


def followed(installation: Installation, answer: dict[str, Any]) -> Any:
    """The execution that waits for a snapshot and copies it, ended."""
    return installation.sim.executions.wait(answer["execution"])


def copies(installation: Installation, answer: dict[str, Any]) -> dict[str, str]:
    ended = followed(installation, answer)
    assert ended.status == "SUCCEEDED", f"{ended.error}: {ended.cause}"
    made: dict[str, str] = json.loads(ended.output)["copies"]
    return made


def refused(installation: Installation, answer: dict[str, Any]) -> HoldfastError:
    ended = followed(installation, answer)
    assert ended.status == "FAILED"
    return remote_error(ended.error, ended.cause)


def contents(installation: Installation, snapshots: dict[str, str]) -> dict[str, str]:
    return {one: fingerprint(installation.sim.ebs.snapshot_content(made)) for one, made in snapshots.items()}


def shared_with(installation: Installation, answer: dict[str, Any]) -> list[Any]:
    """Who may read the snapshots besides their owner."""
    ec2 = installation.ec2()
    return [
        permission
        for snapshot_id in answer["snapshots"].values()
        for permission in ec2.describe_snapshot_attribute(
            SnapshotId=snapshot_id, Attribute="createVolumePermission"
        )["CreateVolumePermissions"]
    ]


@pytest.fixture(autouse=True)
def _within_its_rights(installation: Installation) -> Any:
    yield
    assert installation.sim.recorder.violations() == []


def test_a_snapshot_holds_every_volume_of_one_moment(installation: Installation) -> None:
    before = written(installation)
    answer = take(installation, tags={"reason": "upgrade"})
    for volume_id in before:
        installation.sim.ebs.write_blocks(volume_id, 0, noise("written later"))
    assert contents(installation, answer["snapshots"]) == before
    assert {one["Tags"]["reason"] for one in installation.snapshots()} == {"upgrade"}
    (point,) = installation.catalog.points(installation.instance_id("web"))
    assert (point.point_id, point.manual, point.complete) == (answer["point_id"], True, False)
    assert copies(installation, answer) == {}
    (point,) = installation.catalog.points(installation.instance_id("web"))
    assert point.complete


def test_a_snapshot_that_ebs_fails_is_never_listed_as_complete_and_is_told(
    installation: Installation,
) -> None:
    answer = take(installation)
    broken = min(answer["snapshots"].values())
    installation.sim.ebs.fail_snapshot(broken)
    error = refused(installation, answer)
    assert (error.code, error.resource) == ("Permanent", broken)
    (point,) = installation.catalog.points(installation.instance_id("web"))
    assert not point.complete
    (mail,) = installation.sim.mail.to(OPERATORS)
    assert mail.subject.startswith("[Failed] manual snapshot of web")
    assert f"{broken}: EBS could not take the snapshot" in mail.text


def test_one_request_takes_one_snapshot_whatever_happens_to_its_answer(installation: Installation) -> None:
    installation.sim.faults.add(Fault(call="ec2:CreateTags", effect="crash", nth=1))
    with pytest.raises(HoldfastError):
        take(installation, request_id="upgrade-7")
    installation.sim.advance_to(installation.sim.clock.now() + timedelta(minutes=3))
    answer = take(installation, request_id="upgrade-7")
    assert take(installation, request_id="upgrade-7") == answer
    assert {one["SnapshotId"] for one in installation.snapshots()} == set(answer["snapshots"].values())


def test_a_copy_in_another_region_holds_the_same(installation: Installation) -> None:
    before = written(installation)
    answer = take(installation, copy_to={"region": WEST})
    made = copies(installation, answer)
    assert contents(installation, made) == before
    assert {one["SnapshotId"] for one in installation.snapshots(SHOP, WEST)} == set(made.values())
    (point,) = installation.catalog.points(installation.instance_id("web"), Kind.REPLICA)
    assert (point.region, point.snapshot_ids) == (WEST, made)


def test_a_copy_in_another_account_belongs_to_that_and_nothing_stays_shared(
    installation: Installation,
) -> None:
    before = written(installation)
    answer = take(installation, copy_to={"account": VAULT, "region": WEST})
    made = copies(installation, answer)
    assert contents(installation, made) == before
    assert {one["SnapshotId"] for one in installation.snapshots(VAULT, WEST)} == set(made.values())
    assert shared_with(installation, answer) == []


def test_a_copy_is_made_once_when_its_function_crashes(installation: Installation) -> None:
    installation.sim.faults.add(Fault(call="ec2:CopySnapshot", effect="crash", nth=2))
    made = copies(installation, take(installation, copy_to={"account": VAULT}))
    assert {one["SnapshotId"] for one in installation.snapshots(VAULT)} == set(made.values())


def test_a_snapshot_under_the_default_key_cannot_go_to_another_account(installation: Installation) -> None:
    ec2 = installation.ec2()
    volume = ec2.create_volume(Size=1, AvailabilityZone=f"{HUB}a", Encrypted=True)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=installation.instance_id("web"), Device="/dev/sdz")
    answer = take(installation, copy_to={"account": VAULT})
    error = refused(installation, answer)
    assert (error.code, "default key" in str(error)) == ("Permanent", True)
    assert shared_with(installation, answer) == []
    assert len(installation.snapshots()) == 3


def test_a_disabled_key_for_the_copy_is_told(installation: Installation) -> None:
    kms = installation.sim.session(VAULT, HUB).client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=key)
    answer = take(installation, copy_to={"account": VAULT, "kms_key_arn": key})
    assert refused(installation, answer).code == "KeyUnavailable"
    assert shared_with(installation, answer) == []
    assert installation.snapshots(VAULT) == []


def test_a_copy_that_aws_keeps_refusing_is_given_up_and_unshared(
    installation: Installation,
) -> None:
    installation.sim.faults.add(Fault(call="ec2:CopySnapshot", effect="error", code="UnauthorizedOperation"))
    answer = take(installation, copy_to={"account": VAULT})
    assert refused(installation, answer).code == "AccessDenied"
    assert shared_with(installation, answer) == []


def test_a_snapshot_and_its_copy_go_when_their_days_are_over(installation: Installation) -> None:
    scheduler = installation.sim.session(BACKUP, HUB).client("scheduler")
    for schedule in scheduler.list_schedules()["Schedules"]:
        if schedule["Name"] != "expire-manual-snapshots":
            scheduler.delete_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])
    kept = take(installation)
    copies(installation, take(installation, keep_days=1, copy_to={"region": WEST}))
    installation.sim.run_schedules(SUNDAY + timedelta(hours=23))
    assert len(installation.snapshots(SHOP, WEST)) == 2
    installation.sim.run_schedules(SUNDAY + timedelta(days=1, hours=6))
    assert {one["SnapshotId"] for one in installation.snapshots()} == set(kept["snapshots"].values())
    assert installation.snapshots(SHOP, WEST) == []


@pytest.mark.parametrize(
    "changes,code",
    [
        ({"instance_id": "i-0123456789abcdef0"}, "SourceGone"),
        ({"role": "nobody"}, "Configuration"),
        ({"copy_to": {"region": HUB}}, "Configuration"),
        ({"tags": {"aws:x": "y"}}, "Configuration"),
    ],
)
def test_what_cannot_be_done_is_told_and_takes_nothing(
    installation: Installation, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(HoldfastError) as error:
        take(installation, **changes)
    assert error.value.code == code
    assert installation.snapshots() == []
