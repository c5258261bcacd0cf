"""EBS in a world with settings of its own: empty pages and request quotas."""

from __future__ import annotations

from pathlib import Path

from botocore.exceptions import ClientError

import simulator
from tests.worlds import block, client, instance, loopback, opened, take_snapshot, volume_ids


def test_empty_pages_come_with_a_token_and_lose_nothing(tmp_path: Path):
    with opened(tmp_path, instances=[instance()], ebs={"empty_page_every": 2}) as aws:
        volume = volume_ids(aws)[0]
        aws.ebs.write_blocks(volume, 0, block(1) * 250)
        snapshot = take_snapshot(aws, volume)
        pages, token = [], None
        while True:
            more = {"NextToken": token} if token else {}
            page = client(aws, "ebs").list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, **more)
            pages.append([entry["BlockIndex"] for entry in page["Blocks"]])
            if not (token := page.get("NextToken")):
                break
    assert [] in pages
    assert [index for page in pages for index in page] == list(range(250))


def test_a_quota_throttles_one_account_and_not_another(tmp_path: Path):
    with opened(tmp_path, instances=[instance()], ebs={"requests_per_second": {"StartSnapshot": 3}}) as aws:
        ebs, codes = loopback(aws, "ebs"), []
        for _ in range(10):
            try:
                ebs.start_snapshot(VolumeSize=1)
            except ClientError as error:
                codes.append((error.response["Error"]["Code"], error.response["Reason"]))
        assert set(codes) == {("RequestThrottledException", "ACCOUNT_THROTTLED")}
        client(aws, "ebs", "333333333333").start_snapshot(VolumeSize=1)


def test_deleting_the_last_holder_of_blocks_frees_their_space_on_closing(tmp_path: Path):
    written = tmp_path / "blocks" / "written.blocks"
    with opened(tmp_path, instances=[instance()]) as aws:
        volume = client(aws, "ec2").create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
        aws.ebs.write_blocks(volume, 0, block(1) * 8)
        snapshot = take_snapshot(aws, volume)
        client(aws, "ec2").delete_volume(VolumeId=volume)
    assert written.stat().st_blocks * 512 >= 8 * len(block(1))
    with simulator.open(tmp_path) as aws:
        assert aws.ebs.snapshot_content(snapshot).block(7) == block(1)
        client(aws, "ec2").delete_snapshot(SnapshotId=snapshot)
    assert written.stat().st_blocks == 0


def test_a_snapshot_becomes_complete_after_its_time_and_shows_progress(tmp_path: Path):
    with opened(tmp_path, instances=[instance()], ebs={"snapshot_seconds": 100}) as aws:
        ec2 = client(aws, "ec2")
        snapshot = ec2.create_snapshot(VolumeId=volume_ids(aws)[0])["SnapshotId"]
        seen = []
        for seconds in (0, 50, 49, 1):
            aws.clock.advance(seconds)
            described = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
            seen.append((described["State"], described["Progress"]))
    assert seen == [("pending", "0%"), ("pending", "50%"), ("pending", "99%"), ("completed", "100%")]


def test_a_snapshot_can_be_made_to_fail(tmp_path: Path):
    with opened(tmp_path, instances=[instance()]) as aws:
        snapshot = take_snapshot(aws, volume_ids(aws)[0])
        aws.ebs.fail_snapshot(snapshot)
        described = client(aws, "ec2").describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert described["State"] == "error"
