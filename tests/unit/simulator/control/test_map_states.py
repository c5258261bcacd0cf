"""Map states, inline and distributed, as Step Functions runs them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.state_machine_parts import DOUBLE, OBJECTS, invoke, one_state


def distributed(name: str, **fields: Any) -> dict[str, Any]:
    """A distributed Map over a function."""
    return {
        "Type": "Map",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Work",
            "States": {"Work": invoke(name)},
        },
        "End": True,
        **fields,
    }


def test_a_distributed_map_reads_jsonl_batches_items_and_writes_results(stack, functions):
    asset = functions(
        total="""
        def handler(event, context):
            return {'sum': sum(item['n'] for item in event['Items']), 'scale': event['BatchInput']['scale']}
        """
    )
    stack.function("total", asset)
    stack.add(Work={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "work"}})
    state = distributed(
        "total",
        ItemReader={
            "Resource": "arn:aws:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Arguments": {"Bucket": "work", "Key": "{% $states.input.key %}"},
        },
        ItemSelector={"n": "{% $states.context.Map.Item.Value.number * $states.input.factor %}"},
        ItemBatcher={"MaxItemsPerBatch": 3, "BatchInput": {"scale": "{% $states.input.factor %}"}},
        ResultWriter={
            "Resource": "arn:aws:states:::s3:putObject",
            "Arguments": {"Bucket": "work", "Prefix": "results"},
        },
        MaxConcurrency=2,
    )
    stack.machine("Machine", one_state(state), OBJECTS)
    stack.deploy()
    s3 = stack.sim.control.client("s3", stack.account, stack.region)
    s3.put_object(
        Bucket="work", Key="items.jsonl", Body="\n".join(json.dumps({"number": n}) for n in range(7))
    )

    execution = stack.run("Machine", {"key": "items.jsonl", "factor": 10})

    assert execution.status == "SUCCEEDED", (execution.error, execution.cause)
    written = json.loads(execution.output)["ResultWriterDetails"]
    manifest = json.loads(s3.get_object(Bucket="work", Key=written["Key"])["Body"].read())
    [listed] = manifest["ResultFiles"]["SUCCEEDED"]
    rows = json.loads(s3.get_object(Bucket="work", Key=listed["Key"])["Body"].read())
    assert [json.loads(row["Output"]) for row in rows] == [
        {"sum": 30, "scale": 10},
        {"sum": 120, "scale": 10},
        {"sum": 60, "scale": 10},
    ]
    assert manifest["ResultFiles"]["FAILED"] == []


def test_a_missing_item_file_has_the_service_error_name(stack, functions):
    stack.function("double", functions(double=DOUBLE))
    stack.add(Work={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "work"}})
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Arguments": {"Bucket": "work", "Key": "nowhere.json"},
    }
    stack.machine("Machine", one_state(distributed("double", ItemReader=reader)), OBJECTS)
    stack.deploy()

    assert stack.run("Machine").error == "States.ItemReaderFailed"


@pytest.mark.parametrize(
    "rule, failures, status",
    [
        ({}, 0, "SUCCEEDED"),
        ({}, 1, "FAILED"),
        ({"ToleratedFailurePercentage": 20}, 2, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 20}, 3, "FAILED"),
        ({"ToleratedFailurePercentage": 100}, 10, "SUCCEEDED"),
        ({"ToleratedFailureCount": 1}, 1, "SUCCEEDED"),
        ({"ToleratedFailureCount": 1}, 2, "FAILED"),
        ({"ToleratedFailureCount": 5, "ToleratedFailurePercentage": 10}, 2, "FAILED"),
    ],
)
def test_failures_beyond_the_tolerated_ones_fail_a_distributed_map(stack, functions, rule, failures, status):
    picky = "def handler(event, context):\n    if event['fails']: raise ValueError('no')\n    return event\n"
    stack.function("picky", functions(picky=picky))
    stack.machine("Machine", one_state(distributed("picky", Items="{% $states.input %}", **rule)))
    stack.deploy()

    execution = stack.run("Machine", [{"fails": n < failures} for n in range(10)])

    assert execution.status == status
    if status == "FAILED":
        assert execution.error == "States.ExceedToleratedFailureThreshold"
        assert execution.cause == "The specified tolerated failure threshold was exceeded"


def test_failed_children_are_listed_with_their_errors(stack, functions):
    picky = "def handler(event, context):\n    if event['fails']: raise ValueError('no')\n    return event\n"
    stack.function("picky", functions(picky=picky))
    stack.add(Work={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "work"}})
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Arguments": {"Bucket": "work", "Prefix": "out"}}
    state = distributed(
        "picky", Items="{% $states.input %}", ToleratedFailurePercentage=100, ResultWriter=writer
    )
    stack.machine("Machine", one_state(state), OBJECTS)
    stack.deploy()

    execution = stack.run("Machine", [{"fails": n == 1} for n in range(3)])

    s3 = stack.sim.control.client("s3", stack.account, stack.region)
    manifest_key = json.loads(execution.output)["ResultWriterDetails"]["Key"]
    files = json.loads(s3.get_object(Bucket="work", Key=manifest_key)["Body"].read())["ResultFiles"]
    [row] = json.loads(s3.get_object(Bucket="work", Key=files["FAILED"][0]["Key"])["Body"].read())
    assert (row["Status"], row["Error"], json.loads(row["Input"])) == (
        "FAILED",
        "ValueError",
        {"fails": True},
    )


def test_children_of_a_distributed_map_do_not_see_the_variables_of_their_parent(stack, functions):
    stack.function("double", functions(double=DOUBLE))
    state = distributed("double", Items="{% $states.input %}")
    state["ItemProcessor"]["States"] = {"Work": {"Type": "Pass", "Output": "{% $secret %}", "End": True}}
    stack.machine(
        "Machine",
        {
            "StartAt": "Know",
            "States": {"Know": {"Type": "Pass", "Assign": {"secret": 1}, "Next": "Fan"}, "Fan": state},
        },
    )
    stack.deploy()

    execution = stack.run("Machine", [1])

    assert execution.error == "States.ExceedToleratedFailureThreshold"


def test_a_distributed_map_needs_the_right_to_run_its_children(stack, functions):
    stack.function("double", functions(double=DOUBLE))
    stack.machine("Machine", one_state(distributed("double", Items="{% $states.input %}")))
    policy = stack.resources["MachineRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    policy["Statement"][0]["Action"] = ["lambda:InvokeFunction", "states:StartExecution"]
    stack.deploy()

    execution = stack.run("Machine", [{"n": 1}])

    assert execution.error == "States.Permissions"
    assert "states:DescribeExecution" in execution.cause


def test_an_inline_map_sees_outer_variables_and_fails_with_the_error_of_its_item(stack):
    inner = {
        "StartAt": "Check",
        "States": {
            "Check": {
                "Type": "Choice",
                "Choices": [{"Condition": "{% $states.input > $limit %}", "Next": "Big"}],
                "Default": "Fine",
            },
            "Big": {"Type": "Fail", "Error": "TooBig", "Cause": "{% 'is ' & $states.input %}"},
            "Fine": {"Type": "Succeed", "Output": "{% $states.input + 1 %}"},
        },
    }
    states = {
        "Know": {"Type": "Pass", "Assign": {"limit": 5}, "Next": "Each"},
        "Each": {"Type": "Map", "Items": "{% $states.input %}", "ItemProcessor": inner, "End": True},
    }
    stack.machine("Machine", {"StartAt": "Know", "States": states})
    stack.deploy()

    assert json.loads(stack.run("Machine", [1, 2, 3]).output) == [2, 3, 4]
    failed = stack.run("Machine", [1, 7])
    assert (failed.error, failed.cause) == ("TooBig", "is 7")


def test_concurrent_waits_overlap(stack):
    item = one_state({"Type": "Wait", "Seconds": "{% $states.input %}", "End": True})
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **item}
    stack.machine(
        "Machine",
        one_state({"Type": "Map", "Items": "{% $states.input %}", "ItemProcessor": processor, "End": True}),
    )
    stack.deploy()

    execution = stack.run("Machine", [60] * 500)

    assert execution.stop_date - execution.start_date == timedelta(seconds=60)


def test_max_concurrency_makes_waits_queue(stack):
    item = one_state({"Type": "Wait", "Seconds": 60, "End": True})
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **item}
    state = {"Type": "Map", "Items": "{% $states.input %}", "ItemProcessor": processor, "End": True}
    stack.machine("Machine", one_state(state | {"MaxConcurrency": 2}))
    stack.deploy()

    execution = stack.run("Machine", list(range(6)))

    assert execution.stop_date - execution.start_date == timedelta(seconds=180)


def test_a_map_run_tells_its_counts(stack, functions):
    picky = "def handler(event, context):\n    if event['fails']: raise ValueError('no')\n    return event\n"
    stack.function("picky", functions(picky=picky))
    state = distributed("picky", Items="{% $states.input %}", ToleratedFailureCount=2, Label="Fan")
    stack.machine("Machine", one_state(state))
    stack.deploy()

    execution = stack.run("Machine", [{"fails": n == 0} for n in range(5)])

    client = stack.sim.control.client("stepfunctions", stack.account, stack.region)
    [run] = client.list_map_runs(executionArn=execution.execution_arn)["mapRuns"]
    described = client.describe_map_run(mapRunArn=run["mapRunArn"])
    assert (described["status"], described["toleratedFailureCount"]) == ("SUCCEEDED", 2)
    counts = described["itemCounts"]
    assert (counts["total"], counts["succeeded"], counts["failed"]) == (5, 4, 1)


@pytest.mark.parametrize(
    "fields, complaint",
    [
        (
            {
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "CSV"},
                }
            },
            "CSV",
        ),
        (
            {"ResultWriter": {"WriterConfig": {"OutputType": "JSON", "Transformation": "NONE"}}},
            "ResultWriter",
        ),
    ],
)
def test_a_map_that_reads_or_writes_what_is_not_known_here_is_refused(stack, fields, complaint):
    stack.machine("Machine", one_state(distributed("nobody", **fields)))

    with pytest.raises(ClientError, match=complaint):
        stack.deploy()
