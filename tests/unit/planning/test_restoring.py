"""Rules of restores: encryption, tags, roles of the accounts concerned."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.model import tags as names
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import AttachedVolume
from holdfast.model.restore import RestoreRequest, Target
from holdfast.planning.prices import request_cost
from holdfast.planning.restoring import Encryption, created_tags, encryption
from holdfast.planning.roles import Purpose, role_for

HOME, OTHER = "111122223333", "444455556666"
SOURCE = f"arn:aws:kms:eu-central-1:{HOME}:key/source"
MINE = f"arn:aws:kms:eu-central-1:{HOME}:key/mine"


@pytest.mark.parametrize(
    "source_key,target,expected",
    [
        # Without a wish: as the source was, under its own key where that exists.
        (None, {}, Encryption(False)),
        ("", {}, Encryption(True)),
        (SOURCE, {}, Encryption(True, SOURCE)),
        (SOURCE, {"region": "eu-west-1"}, Encryption(True)),
        (SOURCE, {"account": OTHER}, Encryption(True)),
        # A wish wins.
        (None, {"encrypted": True}, Encryption(True)),
        (None, {"kms_key_arn": MINE}, Encryption(True, MINE)),
        (SOURCE, {"encrypted": True}, Encryption(True)),
        (SOURCE, {"kms_key_arn": MINE}, Encryption(True, MINE)),
        (SOURCE, {"encrypted": True, "kms_key_arn": MINE, "account": OTHER}, Encryption(True, MINE)),
        (SOURCE, {"encrypted": False}, Encryption(False)),
    ],
)
def test_restored_volumes_are_encrypted_by_these_rules(
    source_key: str | None, target: dict[str, Any], expected: Encryption
) -> None:
    volume = AttachedVolume(
        volume_id="vol-1",
        device="/dev/xvda",
        size_bytes=1,
        encrypted=source_key is not None,
        kms_key_arn=source_key or "",
    )
    wanted = Target(**{"account": HOME, "region": "eu-central-1", **target})
    assert encryption(volume, wanted) == expected


def request(**target: Any) -> RestoreRequest:
    return RestoreRequest.model_validate(
        {
            "restore_id": "restore-1",
            "kind": "instance",
            "instance_id": "i-0123456789abcdef0",
            "point_id": "p1",
            "target": {"account": HOME, "region": "eu-central-1", **target},
        }
    )


def test_tags_of_the_source_give_way_when_there_are_more_than_fifty() -> None:
    source = {f"source-{number:02}": "x" for number in range(50)}
    tags = created_tags("holdfast", request(tags={"case": "7"}), source, name="web")
    assert len(tags) == 50
    assert {"case": "7", "Name": "web", names.POINT: "p1"}.items() <= tags.items()
    assert "source-44" in tags
    assert "source-45" not in tags


def test_tags_that_say_who_made_the_source_are_not_carried_over() -> None:
    source = {"aws:autoscaling:groupName": "asg", names.POLICY: "daily", "Name": "old", "owner": "web"}
    tags = created_tags("holdfast", request(), source)
    assert {key for key in tags if key.startswith("aws:")} == set()
    assert names.POLICY not in tags
    assert (tags["Name"], tags["owner"]) == ("old", "web")


def configuration() -> Configuration:
    return Configuration.model_validate(
        {
            "backup_account": "999999999999",
            "hub_region": "eu-central-1",
            "roles": [
                {
                    "name": "production",
                    "arn": f"arn:aws:iam::{HOME}:role/Own",
                    "external_id": "own-external-id",
                }
            ],
            "organizations": [
                {
                    "name": "company",
                    "management_role": "arn:aws:iam::888888888888:role/HoldfastOrganization",
                    "external_id": "company-external-id",
                }
            ],
        }
    )


def test_an_accounts_own_role_comes_before_its_organizations() -> None:
    found = role_for(configuration(), HOME, Purpose.BACKUP)
    assert found == (f"arn:aws:iam::{HOME}:role/Own", "own-external-id")


@pytest.mark.parametrize(
    "purpose,role", [(Purpose.BACKUP, "HoldfastBackup"), (Purpose.RESTORE, "HoldfastRestore")]
)
def test_an_organizations_role_depends_on_the_purpose(purpose: Purpose, role: str) -> None:
    found = role_for(configuration(), OTHER, purpose)
    assert found == (f"arn:aws:iam::{OTHER}:role/{role}", "company-external-id")
    assert role_for(configuration(), OTHER, purpose, "company") == found


@pytest.mark.parametrize("account,name", [(OTHER, "production"), (HOME, "nobody")])
def test_a_named_role_of_another_account_is_refused(account: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no role {name} for account {account}"):
        role_for(configuration(), account, Purpose.BACKUP, name)


def test_an_account_without_any_role_is_refused() -> None:
    nobody = configuration().model_copy(update={"organizations": ()})
    with pytest.raises(ConfigurationError, match=f"no role for account {OTHER}"):
        role_for(nobody, OTHER, Purpose.RESTORE)


def test_requests_cost_their_list_price_and_free_ones_nothing() -> None:
    assert request_cost({"ebs:GetSnapshotBlock": 1_000_000, "ec2:DescribeInstances": 5}) == pytest.approx(3.0)
    assert request_cost({}) == 0
