"""Sessions from the schedule to the mail, on the deployed templates in a simulated AWS.

Handlers, state machines, roles and their permissions are the real ones; a call that a deployed role would not
allow fails the scenario.
"""

from __future__ import annotations

import json

from moto.ec2.models import ec2_backends

from holdfast.model.restore_point import Kind
from holdfast.model.session import State
from simulator.calls import Call
from simulator.faults import Fault
from tests.scenarios.conftest import HUB, OFFICE, OPERATORS, SHOP, WEST, Installation, block


def write_guests(installation: Installation) -> None:
    """Something on every volume of the shop."""
    for name, region in (("web", HUB), ("db", HUB), ("far", WEST)):
        for volume_id in installation.volumes(name, region=region).values():
            for index in (0, 1, 100, 2047):
                installation.sim.ebs.write_blocks(volume_id, index, block(f"{volume_id} {index}"))


def test_a_schedule_becomes_snapshots_backups_and_a_mail_in_every_region(installation: Installation):
    write_guests(installation)
    volumes = installation.volumes("web")
    before = {one: installation.sim.ebs.volume_content(one).sha256() for one in volumes.values()}
    installation.run_until(7)

    (session,) = installation.sessions()
    assert (session.state, session.counts["success"], session.counts["regions"]) == (State.SUCCESS, 3, 2)
    (full,) = installation.manifests("web")
    assert {one: installation.stored_sha256(full, one) for one in volumes.values()} == before
    assert full.full is True
    assert full.configuration.user_data == "#!/bin/sh\necho hello\n"
    tags = [one["Tags"] for one in installation.snapshots()]
    assert {one["protected"] for one in tags} == {"yes"}
    assert "orders" in {one.get("data") for one in tags}
    mail = installation.sim.mail.to(OPERATORS)[-1]
    assert mail.subject == "[Success] daily (3 instances)"
    assert "web" in mail.html

    for index in (5, 1, 3_000):
        installation.sim.ebs.write_blocks(volumes["/dev/sdb"], index, block(f"changed {index}"))
    after = installation.on_volumes("web")
    reads = installation.sim.requests["ebs:GetSnapshotBlock"]
    installation.run_until(17)

    first, second = installation.manifests("web")
    assert second.full is False
    assert installation.sim.requests["ebs:GetSnapshotBlock"] - reads == 3
    assert installation.in_repository(second) == after
    assert installation.in_repository(first) != after
    kept = sorted({f"{one['StartTime']:%H}" for one in installation.snapshots()})
    assert kept == ["12", "17"]
    assert installation.repository.check(read_data=True).damages == ()


def test_an_organization_is_protected_through_its_member_roles(installation: Installation):
    installation.run_until(3)
    (session,) = installation.sessions("company")
    assert session.problems == ()
    assert (session.state, list(installation.outcomes(session))) == (State.SUCCESS, ["desk"])
    assert len(installation.snapshots(OFFICE)) == 1


def test_a_duplicate_event_of_the_scheduler_is_one_session(installation: Installation):
    installation.sim.faults.add(Fault(call="scheduler:*", effect="duplicate", times=1))
    installation.run_until(7)
    client = installation.sim.session("999999999999", HUB).client("lambda")
    answer = client.invoke(
        FunctionName="holdfast-start-session",
        Payload=b'{"policy": "daily", "scheduled_at": "2026-11-22T07:00:00Z"}',
    )
    assert b'"started": false' in answer["Payload"].read()
    assert len(installation.executions("holdfast-session")) == 2  # one of them is the company's
    assert len({one["Tags"]["holdfast:restore-point"] for one in installation.snapshots()}) == 2


def test_a_wrong_external_id_is_a_warning_that_names_the_account(installation: Installation):
    iam = installation.sim.session(SHOP, HUB).client("iam")
    document = iam.get_role(RoleName="HoldfastBackup")["Role"]["AssumeRolePolicyDocument"]
    for statement in document["Statement"]:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": "another"}}

    iam.update_assume_role_policy(RoleName="HoldfastBackup", PolicyDocument=json.dumps(document))
    installation.run_until(7)
    (session,) = installation.sessions()
    assert session.state is State.WARNING
    (problem,) = session.problems
    assert SHOP in problem.message
    assert (problem.code, problem.resource) == ("AccessDenied", SHOP)
    assert installation.sim.mail.to(OPERATORS)[-1].subject == "[Warning] daily (0 instances) 1 issue"


def test_throttling_is_waited_out(installation: Installation):
    installation.sim.faults.add(
        Fault(call="ec2:CreateSnapshots", effect="throttle", times=7),
        Fault(call="ebs:GetSnapshotBlock", effect="throttle", every=3, times=5),
        Fault(call="dynamodb:PutItem", effect="throttle", every=5, times=4),
    )
    write_guests(installation)
    installation.run_until(7)
    (session,) = installation.sessions()
    assert session.state is State.SUCCESS
    assert len(installation.snapshots()) == 3


def test_missing_permission_fails_one_account_call_and_is_named(installation: Installation):
    installation.sim.faults.add(
        Fault(
            call="ec2:CreateSnapshots",
            effect="error",
            code="UnauthorizedOperation",
            status=403,
            resource=installation.instance_id("db"),
        )
    )
    installation.run_until(7)
    (session,) = installation.sessions()
    outcomes = installation.outcomes(session)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "web": State.SUCCESS,
        "db": State.FAILED,
        "far": State.SUCCESS,
    }
    assert outcomes["db"].problems[0].code == "AccessDenied"
    assert "CreateSnapshots" in outcomes["db"].problems[0].message
    assert session.attempt == 1
    mail = installation.sim.mail.to(OPERATORS)[-1]
    assert mail.subject.startswith("[Failed] daily (3 instances) 1 issue")


def test_a_terminated_instance_fails_alone_and_its_points_stay(installation: Installation):
    installation.run_until(7)
    gone = installation.instance_id("db")
    installation.ec2().terminate_instances(InstanceIds=[gone])
    installation.run_until(17)
    last = installation.sessions()[-1]
    assert (last.state, sorted(installation.outcomes(last))) == (State.SUCCESS, ["far", "web"])
    assert len(list(installation.catalog.points(gone, Kind.BACKUP))) == 1


def test_sandboxes_that_die_and_answers_that_are_lost_change_nothing(installation: Installation):
    write_guests(installation)
    expected = installation.on_volumes("web")
    installation.sim.faults.add(
        Fault(call="ec2:CreateSnapshots", effect="lost", nth=1),
        Fault(call="ec2:CreateTags", effect="crash", nth=2),
        Fault(call="dynamodb:PutItem", effect="crash", every=9, times=4),
        Fault(call="ebs:GetSnapshotBlock", effect="reset", nth=2),
        Fault(call="s3:PutObject", effect="lost", every=4, times=3),
    )
    installation.run_until(7)
    (session,) = installation.sessions()
    assert installation.outcomes(session)["web"].problems == ()
    (manifest,) = installation.manifests("web")
    assert session.state is State.SUCCESS
    assert installation.in_repository(manifest) == expected
    assert len(installation.snapshots()) == 3


def test_a_corrupted_block_is_read_again(installation: Installation):
    write_guests(installation)
    installation.sim.faults.add(Fault(call="ebs:GetSnapshotBlock", effect="corrupt", nth=3))
    installation.run_until(7)
    (manifest,) = installation.manifests("web")
    assert installation.sessions()[0].state is State.SUCCESS
    assert installation.in_repository(manifest) == installation.on_volumes("web")


def test_a_snapshot_that_ends_in_error_is_never_offered_and_the_next_session_is_whole(
    installation: Installation,
):
    installation.sim.faults.add(
        Fault(
            call="ec2:CreateSnapshots",
            effect="error",
            code="InternalError",
            status=500,
            resource=installation.instance_id("db"),
            times=200,
        )
    )
    installation.run_until(7)
    first = installation.outcomes(installation.sessions()[0])
    assert (first["db"].state, first["web"].state) == (State.FAILED, State.SUCCESS)
    assert list(installation.catalog.points(installation.instance_id("db"))) == []
    installation.sim.faults.clear()
    installation.run_until(17)
    assert {outcome.state for outcome in installation.outcomes(installation.sessions()[-1]).values()} == {
        State.SUCCESS
    }


def test_a_region_that_is_down_stops_no_other(installation: Installation):
    installation.sim.faults.add(Fault(call="ec2:*", effect="unavailable", region=WEST))
    installation.run_until(7)
    (session,) = installation.sessions()
    outcomes = installation.outcomes(session)
    assert (outcomes["web"].state, outcomes["db"].state) == (State.SUCCESS, State.SUCCESS)
    assert session.state is State.WARNING
    assert WEST in session.problems[0].message


def test_a_worker_whose_time_runs_out_goes_on_from_its_cursor(installation: Installation):
    volume_id = installation.volumes("db")["/dev/xvda"]
    for index in range(0, 400, 2):
        installation.sim.ebs.write_blocks(volume_id, index, block(f"{index}"))
    expected = installation.on_volumes("db")
    installation.sim.faults.add(
        Fault(call="ebs:GetSnapshotBlock", effect="delay", nth=120, seconds=845, account=SHOP)
    )
    installation.run_until(7)
    (session,) = installation.sessions()
    outcome = installation.outcomes(session)["db"]
    assert (outcome.state, outcome.problems) == (State.SUCCESS, ())
    assert installation.in_repository(installation.manifests("db")[-1]) == expected
    assert outcome.blocks_read == 200
    assert installation.sim.requests["lambda:Invoke"] > 0


def test_tokens_that_expire_are_renewed(installation: Installation):
    write_guests(installation)
    expected = installation.on_volumes("web")
    installation.sim.faults.add(
        Fault(call="ec2:DescribeSnapshots", effect="expired", every=2, times=3),
        Fault(call="ebs:GetSnapshotBlock", effect="expired", nth=3),
        Fault(call="s3:PutObject", effect="expired", nth=4),
    )
    installation.run_until(7)
    assert installation.sessions()[0].state is State.SUCCESS
    assert installation.in_repository(installation.manifests("web")[-1]) == expected


def test_a_disabled_key_of_the_repository_fails_backups_by_its_name_and_keeps_snapshots(
    installation: Installation,
):
    write_guests(installation)
    kms = installation.sim.session("999999999999", HUB).client("kms")
    (alias,) = [one for one in kms.list_aliases()["Aliases"] if "holdfast-repository" in one["AliasName"]]
    installation.run_until(7)
    kms.disable_key(KeyId=alias["TargetKeyId"])
    installation.run_until(17)
    failed = installation.outcomes(installation.sessions()[-1])
    assert {outcome.state for outcome in failed.values()} == {State.FAILED}
    assert {outcome.problems[0].code for outcome in failed.values()} == {"KeyUnavailable"}
    assert {outcome.kinds for outcome in failed.values()} == {("snapshot",)}
    kms.enable_key(KeyId=alias["TargetKeyId"])
    expected = installation.on_volumes("web")
    installation.run_until(24 + 7)
    again = installation.sessions()[-1]
    assert again.state is State.SUCCESS
    assert installation.in_repository(installation.manifests("web")[-1]) == expected


def test_why_a_block_cannot_be_read_is_told_with_resource_and_remedy(installation: Installation):
    write_guests(installation)
    installation.sim.faults.add(
        Fault(call="ebs:GetSnapshotBlock", effect="error", code="AccessDeniedException", status=403)
    )
    installation.run_until(7)
    outcome = installation.outcomes(installation.sessions()[0])["web"]
    problem = outcome.problems[0]
    assert (outcome.state, outcome.kinds, problem.code) == (State.FAILED, ("snapshot",), "AccessDenied")
    assert "GetSnapshotBlock" in problem.message
    assert problem.resource == f"arn:aws:iam::{SHOP}:role/HoldfastBackup"
    assert problem.remedy


def test_a_snapshot_that_ebs_fails_takes_its_set_with_it_and_no_other(installation: Installation):
    write_guests(installation)
    doomed = installation.volumes("web")["/dev/sdb"]
    failing: list[str] = []

    def fail_once(call: Call) -> None:
        if call.name == "ec2:DescribeSnapshots" and call.account == SHOP and not failing:
            for one in ec2_backends[SHOP][HUB].snapshots.values():
                if one.volume.id == doomed and any(
                    tag["key"] == "holdfast:session" for tag in one.get_tags()
                ):
                    failing.append(one.id)
                    installation.sim.ebs.fail_snapshot(one.id, "the key was disabled meanwhile")

    installation.sim.guards.append(fail_once)
    installation.run_until(7)
    (session,) = installation.sessions()
    outcomes = installation.outcomes(session)
    assert len(failing) == 1
    assert (session.attempt, outcomes["web"].state) == (1, State.SUCCESS)
    assert failing[0] not in {one["SnapshotId"] for one in installation.snapshots()}
    assert len(installation.snapshots()) == 3
    assert installation.in_repository(installation.manifests("web")[-1]) == installation.on_volumes("web")
