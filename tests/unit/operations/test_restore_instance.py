"""Restores of instances: what cannot be launched is refused first, what is launched is as its source was."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import ConfigurationError, PermanentError
from holdfast.model import tags as names
from holdfast.model.restore import InstanceSettings, RestorePlan, RestoreRequest
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.restores.plan_restore import plan_restore
from holdfast.operations.restores.restore_segment import RestoreSegment, restore_segment
from holdfast.operations.restores.restore_volumes import (
    Abandonment,
    abandon_restore,
    complete_restore,
    finish_restore,
    launch_instance,
)
from tests.repository_builders import block
from tests.restore_world import POINT, RestoreWorld, TargetSite
from tests.session_world import ACCOUNT, INSTALLATION, REGION, REPOSITORY

OTHER = "444455556666"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mine"
CONTENT = {"/dev/xvda": {0: block("boot")}, "/dev/sdb": {3: block("data")}}


def source(world: RestoreWorld) -> str:
    """A configured instance of two volumes."""
    instance_id = world.add_instance(
        sizes=(1, 1), name="web", tags={"stage": "live"}, volume_tags={"disk": "d"}
    )
    world.adjust(
        instance_id,
        subnet_id="subnet-1",
        security_group_ids=("sg-1", "sg-2"),
        key_name="admin",
        instance_profile_arn=f"arn:aws:iam::{ACCOUNT}:instance-profile/web",
    )
    return instance_id


def asked(instance_id: str, *, target: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "restore_id": "restore-1",
        "kind": "instance",
        "instance_id": instance_id,
        "point_id": POINT,
        "repository": REPOSITORY,
        "target": {"account": ACCOUNT, "region": REGION, **(target or {})},
        **changes,
    }


def planned(world: RestoreWorld, event: dict[str, Any]) -> RestorePlan:
    return RestorePlan.model_validate(plan_restore(parse(RestoreRequest, event), world))


def filled(world: RestoreWorld, event: dict[str, Any]) -> RestorePlan:
    """A plan whose snapshots are written and sealed."""
    plan = planned(world, event)
    for item in world.work.read(plan.items_key):
        restore_segment(RestoreSegment(**item), world)
    complete_restore(plan, world)
    return plan


def launched(world: RestoreWorld, event: dict[str, Any]) -> RestorePlan:
    return RestorePlan.model_validate(launch_instance(filled(world, event), world))


def site(world: RestoreWorld, account: str = ACCOUNT) -> TargetSite:
    return world.restore_site(account, REGION)


def test_an_instance_boots_from_the_restored_volumes() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = RestorePlan.model_validate(finish_restore(launched(world, asked(instance_id)), world))
    assert plan.finished
    devices = site(world).instances[plan.instance_id]["devices"]
    assert {device: site(world).volumes[volume]["content"] for device, volume in devices.items()} == CONTENT
    assert {volume.source.device: volume.volume_id for volume in plan.volumes} == devices


def test_image_and_temporary_snapshots_are_gone_at_the_end() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    finish_restore(launched(world, asked(instance_id)), world)
    assert (site(world).images, world.home.snapshots) == ({}, {})


def test_without_wishes_the_instance_is_as_its_source_was() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = launched(world, asked(instance_id))
    assert site(world).instances[plan.instance_id]["settings"] == InstanceSettings(
        instance_type="m7g.large",
        subnet_id="subnet-1",
        security_group_ids=("sg-1", "sg-2"),
        key_name="admin",
        instance_profile_arn=f"arn:aws:iam::{ACCOUNT}:instance-profile/web",
    )


def test_the_operators_settings_win() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    wanted = {
        "instance_type": "c7g.large",
        "subnet_id": "subnet-9",
        "key_name": "mine",
        "no_instance_profile": True,
    }
    plan = launched(world, asked(instance_id, instance={**wanted, "name": "copy of web"}))
    made = site(world).instances[plan.instance_id]
    assert made["settings"].model_dump(exclude_defaults=True) == {**wanted, "name": "copy of web"}
    assert made["tags"]["Name"] == "copy of web"


def test_instance_and_volumes_carry_their_own_tags_and_where_they_came_from() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = RestorePlan.model_validate(finish_restore(launched(world, asked(instance_id)), world))
    ours = {names.INSTALLATION: INSTALLATION, names.POINT: POINT, "holdfast:restore": "restore-1"}
    assert site(world).instances[plan.instance_id]["tags"] == {"Name": "web", "stage": "live", **ours}
    assert site(world).volumes[plan.volumes[0].volume_id]["tags"] == {"disk": "d", **ours}


def test_what_exists_only_at_home_is_not_asked_for_in_another_account() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    event = asked(instance_id, target={"account": OTHER}, instance={"subnet_id": "subnet-other"})
    plan = launched(world, event)
    assert site(world, OTHER).instances[plan.instance_id]["settings"] == InstanceSettings(
        instance_type="m7g.large", subnet_id="subnet-other"
    )


def test_another_account_needs_a_subnet_of_its_own() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    with pytest.raises(ConfigurationError, match=f"not in account {OTHER}"):
        planned(world, asked(instance_id, target={"account": OTHER}))
    assert world.restore_spoke(OTHER, REGION).snapshots == {}


def test_an_instance_without_a_name_gets_one() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    instance = world.home.machines[instance_id].instance
    world.adjust(instance_id, instance=instance.model_copy(update={"name": "", "tags": {}}))
    world.back_up(instance_id, CONTENT)
    plan = launched(world, asked(instance_id))
    assert site(world).instances[plan.instance_id]["tags"]["Name"] == f"restored-{instance_id}"


def test_an_instance_with_product_codes_is_refused_before_anything_is_made() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.adjust(instance_id, product_codes=("abc123",))
    world.back_up(instance_id, CONTENT)
    with pytest.raises(PermanentError, match="abc123"):
        planned(world, asked(instance_id))
    assert world.home.snapshots == {}


def test_an_instance_whose_licence_aws_bills_is_refused_before_anything_is_made() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.adjust(
        instance_id, description={"UsageOperation": "RunInstances:0002", "PlatformDetails": "Windows"}
    )
    world.back_up(instance_id, CONTENT)
    with pytest.raises(PermanentError, match="a licence that AWS bills \\(Windows\\)"):
        planned(world, asked(instance_id))
    assert world.home.snapshots == {}


def test_without_its_root_volume_an_instance_is_refused() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    second = world.volumes(instance_id)[1].volume_id
    with pytest.raises(PermanentError, match="root volume"):
        planned(world, asked(instance_id, volume_ids=[second]))


def test_a_pending_image_is_waited_for_and_registered_once() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = filled(world, asked(instance_id))
    site(world).slow = 2
    for _ in range(2):
        plan = RestorePlan.model_validate(launch_instance(plan, world))
        assert not plan.launched
    plan = RestorePlan.model_validate(launch_instance(plan, world))
    assert plan.launched
    assert len(site(world).images) == 1


def test_a_launch_that_is_repeated_launches_once() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = filled(world, asked(instance_id))
    assert launch_instance(plan, world) == launch_instance(plan, world)
    assert len(site(world).instances) == 1


def test_an_instance_is_waited_for() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = launched(world, asked(instance_id))
    site(world).slow = 1
    assert finish_restore(plan, world)["finished"] is False
    assert len(site(world).images) == 1
    assert finish_restore(plan, world)["finished"] is True


def test_an_instance_that_died_at_launch_fails_the_restore() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    plan = launched(world, asked(instance_id))
    site(world).state = "terminated"
    with pytest.raises(PermanentError, match="terminated right after its launch"):
        finish_restore(plan, world)


def test_a_refused_launch_leaves_neither_image_nor_snapshots() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    event = asked(instance_id)
    plan = filled(world, event)
    site(world).faults["run_instance"] = [ConfigurationError("There is no such subnet.")]
    with pytest.raises(ConfigurationError):
        launch_instance(plan, world)
    answer = abandon_restore(Abandonment(request=event, problem={}), world)
    assert len(answer["removed"]) == 3
    assert (site(world).images, world.home.snapshots) == ({}, {})


def test_an_image_that_somebody_took_over_stays() -> None:
    world = RestoreWorld()
    instance_id = source(world)
    world.back_up(instance_id, CONTENT)
    event = asked(instance_id)
    site(world).slow = 1
    launched(world, event)
    (image,) = site(world).images.values()
    image["tags"]["holdfast:restore"] = "kept by hand"
    abandon_restore(Abandonment(request=event, problem={}), world)
    assert len(site(world).images) == 1


@pytest.mark.parametrize("key", [KEY, ""])
def test_volumes_of_an_instance_from_a_snapshot_are_encrypted_anew_when_asked(key: str) -> None:
    world = RestoreWorld()
    instance_id = source(world)
    made = world.home.create_snapshots(
        instance_id, exclude_root=False, exclude_volumes=(), tags={}, copy_tags=False, description=""
    )
    world.catalog.add_point(
        RestorePoint(
            point_id=POINT,
            kind=Kind.SNAPSHOT,
            account=ACCOUNT,
            region=REGION,
            instance_id=instance_id,
            taken_at=world.clock.now(),
            snapshot_ids={one.volume_id: one.snapshot_id for one in made},
        ),
        world.home.machines[instance_id],
    )
    target = {"kms_key_arn": key} if key else {"encrypted": True}
    plan = planned(world, asked(instance_id, repository="", target=target))
    plan = RestorePlan.model_validate(launch_instance(plan, world))
    assert site(world).instances[plan.instance_id]["encryption"] == {"/dev/xvda": key, "/dev/sdb": key}
