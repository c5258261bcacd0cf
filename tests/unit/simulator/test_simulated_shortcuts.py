"""What the simulator keeps or looks up instead of working it out: the answers stay those of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.populate import add_account, add_instance
from simulator.world import Account, Instance
from tests.worlds import client, instance, new_client, opened


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """A table with numbers as sort keys and an index, and two partitions in it."""
    with opened(tmp_path) as aws:
        dynamodb = client(aws, "dynamodb")
        names = (("pk", "S"), ("sk", "N"), ("place", "S"))
        dynamodb.create_table(
            TableName="things",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in names],
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-place",
                    "KeySchema": [
                        {"AttributeName": "place", "KeyType": "HASH"},
                        {"AttributeName": "sk", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        for name, number in (("b", 1), ("a", 10), ("a", 9), ("b", 2), ("a", -1)):
            item = {"pk": {"S": name}, "sk": {"N": str(number)}, "place": {"S": "here"}}
            dynamodb.put_item(TableName="things", Item=item)
        yield dynamodb


def query(dynamodb: Any, key: str, value: str, **more: Any) -> list[tuple[str, int]]:
    found = dynamodb.query(
        TableName="things",
        KeyConditionExpression=f"{key} = :it",
        ExpressionAttributeValues={":it": {"S": value}},
        **more,
    )["Items"]
    return [(item["pk"]["S"], int(item["sk"]["N"])) for item in found]


def test_a_query_answers_one_partition_in_the_order_of_its_numbers(table: Any):
    assert query(table, "pk", "a") == [("a", -1), ("a", 9), ("a", 10)]
    assert query(table, "pk", "a", ScanIndexForward=False, Limit=1) == [("a", 10)]
    assert query(table, "pk", "nobody") == []


def test_an_index_and_a_scan_see_every_partition(table: Any):
    assert query(table, "place", "here", IndexName="by-place") == [
        ("a", -1),
        ("b", 1),
        ("b", 2),
        ("a", 9),
        ("a", 10),
    ]
    assert table.scan(TableName="things")["Count"] == 5


def test_clients_of_one_service_share_what_it_is_made_of_and_nothing_else(tmp_path: Path):
    with opened(tmp_path) as aws:
        first, second = new_client(aws, "ec2"), new_client(aws, "ec2")
        assert first.meta.service_model is second.meta.service_model
        heard: list[str] = []
        first.meta.events.register("before-call.ec2.*", lambda **_: heard.append("first"))
        second.describe_regions()
        assert heard == []
        first.describe_regions()
        assert heard == ["first"]


def test_accounts_and_instances_may_appear_in_a_world_that_is_there(tmp_path: Path):
    organization = {
        "management_account": "777777777777",
        "units": [{"name": "Workloads", "units": [{"name": "Web"}]}, {"name": "Web"}],
    }
    with opened(tmp_path, organization=organization) as aws:
        add_account(aws, Account(id="888888888888", name="newcomer", unit="Workloads/Web"))
        described = instance(account="888888888888")
        add_instance(aws, Instance.model_validate(described))
        organizations = client(aws, "organizations", account="777777777777")
        (parent,) = organizations.list_parents(ChildId="888888888888")["Parents"]
        (above,) = organizations.list_parents(ChildId=parent["Id"])["Parents"]
        unit = organizations.describe_organizational_unit(OrganizationalUnitId=above["Id"])
        assert unit["OrganizationalUnit"]["Name"] == "Workloads"
        found = client(aws, "ec2", account="888888888888").describe_instances()["Reservations"]
        assert len(found) == 1
