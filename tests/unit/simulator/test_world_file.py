"""World files: what they build, and errors that name the place and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from holdfast.errors import ConfigurationError
from simulator.clock import VirtualClock
from simulator.faults import Effect
from simulator.world import World, load, parse
from tests.worlds import BACKUP, OTHER, PROD, REGION, SECOND_REGION, block, client, instance, opened, world

MANAGEMENT = "999999999999"
ORGANIZATION = {
    "management_account": MANAGEMENT,
    "units": [{"name": "Workloads", "units": [{"name": "Production", "id": "ou-abcd-12345678"}]}],
}
FILE = """
backup_account: "111111111111"
regions: [eu-central-1]
starts_at: 2026-03-01T10:00:00Z
accounts:
  - {id: "222222222222", name: prod}
instances:
  - name: web
    account: "222222222222"
    region: eu-central-1
    volumes:
      - {device: /dev/xvda, size_gib: 1, image: disks/web.raw}
"""


def problem(change: dict[str, Any]) -> str:
    content = {
        "backup_account": BACKUP,
        "regions": [REGION],
        "accounts": [{"id": PROD, "name": "p"}],
        **change,
    }
    with pytest.raises(ConfigurationError) as error:
        parse(content, source=Path("world.yaml"))
    assert error.value.resource == "world.yaml"
    return error.value.message


def test_the_world_of_the_documentation_is_a_world(tmp_path: Path):
    page = Path(__file__).parents[3] / "docs" / "simulator.md"
    (tmp_path / "world.yaml").write_text(page.read_text().split("```yaml\n")[1].split("```")[0])
    loaded = load(tmp_path / "world.yaml")
    assert sum(instance.count for instance in loaded.instances) == 51
    described = {effect for effect in get_args(Effect) if f"`{effect}`" in page.read_text()}
    assert described == set(get_args(Effect))


def test_images_are_relative_to_the_world_file(tmp_path: Path):
    (tmp_path / "disks").mkdir()
    (tmp_path / "disks" / "web.raw").write_bytes(b"x")
    (tmp_path / "world.yaml").write_text(FILE)
    loaded = load(tmp_path / "world.yaml")
    assert loaded.instances[0].volumes[0].image == tmp_path / "disks" / "web.raw"
    assert loaded.starts_at == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_a_missing_image_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "world.yaml").write_text(FILE)
    with pytest.raises(ConfigurationError, match="instance web /dev/xvda: there is no image"):
        load(tmp_path / "world.yaml")


@pytest.mark.parametrize("content", ["a: [", "", "- 1", "\x00"])
def test_a_file_that_is_no_world_is_an_error(tmp_path: Path, content: str):
    (tmp_path / "world.yaml").write_text(content)
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path / "world.yaml")
    assert error.value.resource == str(tmp_path / "world.yaml")


@pytest.mark.parametrize(
    "change,expected",
    [
        ({"regoins": []}, "regoins: Extra inputs are not permitted"),
        ({"backup_account": "12"}, "backup_account:"),
        ({"regions": [REGION, REGION]}, "a Region is listed twice"),
        ({"instances": [instance(region="eu-central-2")]}, "did you mean 'eu-central-1'"),
        ({"instances": [instance(account=OTHER)]}, f"web: there is no account {OTHER}; add it to accounts"),
        ({"instances": [instance(volumes=[])]}, "instances.0.volumes:"),
        ({"instances": [instance(guest="linus")], "guests": {"linux": {}}}, "did you mean 'linux'"),
        (
            {"instances": [instance(volumes=[{"device": "/dev/xvda", "size_gib": 1, "kms_key": "k"}])]},
            "no key has the alias 'k'",
        ),
        (
            {"instances": [instance(volumes=[{"device": "/dev/xvda", "size_gib": 1}] * 2)]},
            "two volumes at /dev/xvda",
        ),
        ({"instances": [instance(id="i-0123456789abcdef0", count=2)]}, "ids cannot be given together with"),
        (
            {"accounts": [{"id": PROD, "name": "a"}, {"id": PROD, "name": "b"}]},
            f"account {PROD} is listed twice",
        ),
        (
            {"organization": ORGANIZATION, "accounts": [{"id": PROD, "name": "p", "unit": "Workload"}]},
            "there is no unit 'Workload'; did you mean 'Workloads'",
        ),
        ({"faults": [{"call": "ec2:*", "effect": "explode"}]}, "faults.0.effect:"),
        ({"guests": {"linux": {"agent": "asleep"}}}, "guests.linux.agent:"),
        ({"instances": [instance(volumes=[{"device": "/dev/xvda", "size_gib": 70_000}])]}, "size_gib:"),
    ],
)
def test_problems_are_told_with_their_place(change: dict[str, Any], expected: str):
    assert expected in problem(change)


def test_an_organization_has_its_units_and_accounts_where_they_belong(tmp_path: Path):
    accounts = [
        {"id": MANAGEMENT, "name": "management"},
        {"id": PROD, "name": "prod", "unit": "Workloads/Production", "tags": {"stage": "prod"}},
        {"id": OTHER, "name": "closed", "status": "SUSPENDED"},
        {"id": "444444444444", "name": "outside", "member": False},
    ]
    with opened(tmp_path, organization=ORGANIZATION, accounts=accounts) as aws:
        organizations = client(aws, "organizations", MANAGEMENT, "us-east-1")
        listed = {entry["Id"]: entry for entry in organizations.list_accounts()["Accounts"]}
        assert {id_: (entry["Name"], entry["Status"]) for id_, entry in listed.items()} == {
            MANAGEMENT: ("management", "ACTIVE"),
            PROD: ("prod", "ACTIVE"),
            OTHER: ("closed", "SUSPENDED"),
        }
        inside = organizations.list_accounts_for_parent(ParentId="ou-abcd-12345678")["Accounts"]
        assert [entry["Id"] for entry in inside] == [PROD]
        tags = organizations.list_tags_for_resource(ResourceId=PROD)["Tags"]
        assert tags == [{"Key": "stage", "Value": "prod"}]


def test_keys_secrets_senders_and_disks_are_made(tmp_path: Path):
    image = tmp_path / "disk.raw"
    image.write_bytes(block(1))
    disks = [
        {
            "device": "/dev/sda1",
            "size_gib": 1,
            "image": str(image),
            "kms_key": "k",
            "id": "vol-0123456789abcdef0",
        },
        {"device": "/dev/sdf", "size_gib": 2, "encrypted": True},
    ]
    with opened(
        tmp_path / "aws",
        keys=[{"alias": "k", "account": PROD, "region": REGION}],
        secrets=[{"name": "password", "account": BACKUP, "region": REGION, "value": "correct horse"}],
        senders=["backup@example.com"],
        instances=[
            instance("win", platform="windows", state="stopped", profile="reader", volumes=disks),
            instance("many", count=2, region=SECOND_REGION),
        ],
    ) as aws:
        secret = client(aws, "secretsmanager", BACKUP).get_secret_value(SecretId="password")
        assert secret["SecretString"] == "correct horse"
        senders = client(aws, "sesv2", BACKUP).list_email_identities()["EmailIdentities"]
        assert [sender["IdentityName"] for sender in senders] == ["backup@example.com"]
        found = client(aws, "ec2").describe_instances()["Reservations"][0]["Instances"][0]
        assert (found["Platform"], found["State"]["Name"]) == ("windows", "stopped")
        assert found["IamInstanceProfile"]["Arn"].endswith(":instance-profile/reader")
        volumes = {volume["VolumeId"]: volume for volume in client(aws, "ec2").describe_volumes()["Volumes"]}
        assert volumes["vol-0123456789abcdef0"]["Encrypted"]
        assert aws.ebs.volume_content("vol-0123456789abcdef0").block(0) == block(1)
        assert all(":key/" in volume["KmsKeyId"] for volume in volumes.values())
        others = client(aws, "ec2", PROD, SECOND_REGION).describe_instances()["Reservations"]
        names = [tag["Value"] for r in others for tag in r["Instances"][0]["Tags"] if tag["Key"] == "Name"]
        assert names == ["many-1", "many-2"]


def test_an_image_larger_than_its_volume_is_refused(tmp_path: Path):
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate((1 << 30) + 1)
    disk = {"device": "/dev/xvda", "size_gib": 1, "image": str(image)}
    with (
        pytest.raises(ValueError, match="has room for"),
        opened(tmp_path / "aws", instances=[instance(volumes=[disk])]),
    ):
        pass


def test_the_clock_stands_still_until_it_is_moved_and_never_goes_back():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock = VirtualClock(start)
    clock.advance(5)
    clock.set(start)
    assert clock.now() == start + timedelta(seconds=5)
    with pytest.raises(ValueError):
        clock.advance(-1)
    with pytest.raises(ValueError):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001 the naive instant is the point


def test_letting_time_pass_asks_the_driver_first_and_ends_at_the_instant():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock, asked = VirtualClock(start), []
    clock.driver = lambda instant: asked.append((clock.now(), instant))
    clock.advance_to(start + timedelta(hours=1))
    assert asked == [(start, start + timedelta(hours=1))]
    assert clock.now() == start + timedelta(hours=1)


def test_everything_in_the_world_is_dated_by_the_virtual_clock(tmp_path: Path):
    with opened(tmp_path, starts_at="2031-05-06T07:08:09Z", instances=[instance()]) as aws:
        launched = client(aws, "ec2").describe_instances()["Reservations"][0]["Instances"][0]["LaunchTime"]
        aws.clock.advance(60)
        role = client(aws, "iam").create_instance_profile(InstanceProfileName="p")["InstanceProfile"]
    assert launched == datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert role["CreateDate"] == datetime(2031, 5, 6, 7, 9, 9, tzinfo=UTC)


def test_accounts_of_a_world_are_in_a_stable_order():
    described = world(organization=ORGANIZATION)
    assert isinstance(described, World)
    assert described.account_ids() == (BACKUP, PROD, OTHER, MANAGEMENT)
