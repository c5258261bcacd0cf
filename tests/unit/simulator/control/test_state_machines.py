"""State machines run as Step Functions runs them, in virtual time."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

import simulator
from tests.state_machine_parts import DOUBLE, FRAGILE, invoke, one_state


def test_a_function_answers_a_task(stack, functions):
    stack.function("double", functions(double=DOUBLE))
    stack.machine("Machine", one_state(invoke("double")))
    stack.deploy()

    execution = stack.run("Machine", {"n": 21})

    assert json.loads(execution.output) == {"twice": 42}


def test_a_retry_by_class_name_waits_in_virtual_time(stack, functions):
    stack.function("fragile", functions(fragile=FRAGILE))
    retry = {"ErrorEquals": ["TransientError"], "IntervalSeconds": 10, "BackoffRate": 2, "MaxAttempts": 5}
    stack.machine("Machine", one_state(invoke("fragile", Retry=[retry])))
    stack.deploy()

    execution = stack.run("Machine", {"failures": 3})

    assert json.loads(execution.output) == {"calls": 4}
    assert execution.stop_date - execution.start_date == timedelta(seconds=10 + 20 + 40)


def test_max_delay_bounds_the_backoff_and_full_jitter_never_exceeds_it(stack, functions):
    stack.function("fragile", functions(fragile=FRAGILE))
    retry = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10, "BackoffRate": 10, "MaxDelaySeconds": 30}
    stack.machine("Bounded", one_state(invoke("fragile", Retry=[retry | {"JitterStrategy": "FULL"}])))
    stack.deploy()

    execution = stack.run("Bounded", {"failures": 2})

    assert timedelta() < execution.stop_date - execution.start_date <= timedelta(seconds=10 + 30)


def test_an_error_that_no_retrier_names_is_caught_with_its_cause(stack, functions):
    stack.function("fragile", functions(fragile=FRAGILE))
    caught = {
        "ErrorEquals": ["PermanentError"],
        "Next": "Tell",
        "Assign": {"reason": "{% $parse($states.errorOutput.Cause).errorMessage %}"},
    }
    retry = {"ErrorEquals": ["TransientError"]}
    tell = {
        "Type": "Pass",
        "Output": {"because": "{% $reason %}", "error": "{% $states.input.Error %}"},
        "End": True,
    }
    stack.machine(
        "Machine",
        {"StartAt": "Try", "States": {"Try": invoke("fragile", Retry=[retry], Catch=[caught]), "Tell": tell}},
    )
    stack.deploy()

    execution = stack.run("Machine", {"broken": True})

    assert json.loads(execution.output) == {"because": "no use", "error": "PermanentError"}


def test_an_uncaught_error_fails_the_execution_under_its_name(stack, functions):
    stack.function("fragile", functions(fragile=FRAGILE))
    stack.machine("Machine", one_state(invoke("fragile")))
    stack.deploy()

    execution = stack.run("Machine", {"broken": True})

    assert (execution.status, execution.error) == ("FAILED", "PermanentError")
    assert json.loads(execution.cause)["errorMessage"] == "no use"


def test_a_parallel_state_joins_its_branches(stack):
    branches = [one_state({"Type": "Pass", "Output": {"branch": n}, "End": True}) for n in range(2)]
    stack.machine("Machine", one_state({"Type": "Parallel", "Branches": branches, "End": True}))
    stack.deploy()

    assert json.loads(stack.run("Machine").output) == [{"branch": 0}, {"branch": 1}]


def test_an_expression_that_yields_nothing_is_an_error(stack):
    stack.machine(
        "Machine", one_state({"Type": "Pass", "Output": {"a": "{% $states.input.b %}"}, "End": True})
    )
    stack.deploy()

    assert stack.run("Machine", {"b": None}).output == '{"a": null}'
    assert stack.run("Machine", {}).error == "States.QueryEvaluationError"


def test_output_beyond_the_quota_is_refused(stack):
    stack.machine(
        "Machine", one_state({"Type": "Pass", "Output": "{% $pad('', 300000, 'x') %}", "End": True})
    )
    stack.deploy()

    assert stack.run("Machine").error == "States.DataLimitExceeded"


def test_a_task_that_takes_too_long_times_out(stack):
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Arguments": {"QueueUrl": "{% $states.input %}", "MessageBody": "{% $states.context.Task.Token %}"},
        "TimeoutSeconds": 300,
        "End": True,
    }
    stack.add(Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "queue"}})
    stack.machine("Machine", one_state(state), {"Action": "sqs:SendMessage", "Resource": "*"})
    stack.deploy()
    sqs = stack.sim.control.client("sqs", stack.account, stack.region)
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]

    execution = stack.run("Machine", url)

    assert execution.error == "States.Timeout"
    assert execution.stop_date - execution.start_date == timedelta(seconds=300)
    token = sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]
    states = stack.sim.control.client("stepfunctions", stack.account, stack.region)
    with pytest.raises(ClientError, match="TaskTimedOut"):
        states.send_task_success(taskToken=token, output="{}")


WAIT_FOR_CELL = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
    "Arguments": {"FunctionName": "start", "Payload": {"token": "{% $states.context.Task.Token %}"}},
    "Catch": [{"ErrorEquals": ["CellFailed"], "Next": "Failed", "Output": "{% $states.errorOutput %}"}],
    "End": True,
}
START = """
    import json
    from holdfast.bootstrap import world
    def handler(event, context):
        client = world().session().client('stepfunctions', region_name='eu-west-1')
        arn = 'arn:aws:states:eu-west-1:111111111111:stateMachine:Cell'
        client.start_execution(stateMachineArn=arn, input=json.dumps(event))
        return {}
"""
REPORT = """
    import json
    from holdfast.bootstrap import world
    def handler(event, context):
        client = world().session().client('stepfunctions', region_name='eu-central-1')
        if event.get('fails'):
            client.send_task_failure(taskToken=event['token'], error='CellFailed', cause='storm')
        else:
            client.send_task_success(taskToken=event['token'], output=json.dumps({'cell': 'done'}))
        return {}
"""


@pytest.mark.parametrize(
    "fails, expected", [(False, {"cell": "done"}), (True, {"Error": "CellFailed", "Cause": "storm"})]
)
def test_a_cell_in_another_region_answers_the_token_of_the_hub(stack, new_stack, functions, fails, expected):
    asset = functions(start=START, report=REPORT)
    stack.function("start", asset, {"Action": "states:StartExecution", "Resource": "*"})
    failed = {"Type": "Pass", "End": True}
    stack.machine("Hub", {"StartAt": "Cell", "States": {"Cell": WAIT_FOR_CELL, "Failed": failed}})
    stack.deploy()
    cell = new_stack(region="eu-west-1", name="Cell")
    tokens = {"Action": ["states:SendTaskSuccess", "states:SendTaskFailure"], "Resource": "*"}
    cell.function("report", asset, tokens)
    wait = {"Type": "Wait", "Seconds": 600, "Output": {"token": "{% $states.input.token %}", "fails": fails}}
    cell.machine(
        "Cell", {"StartAt": "Work", "States": {"Work": wait | {"Next": "Report"}, "Report": invoke("report")}}
    )
    cell.deploy()

    execution = stack.run("Hub")

    assert json.loads(execution.output) == expected
    assert execution.stop_date - execution.start_date == timedelta(seconds=600)


def test_a_token_is_not_known_in_another_region(stack, sim):
    states = sim.control.client("stepfunctions", stack.account, "eu-west-1")
    with pytest.raises(ClientError, match="InvalidToken"):
        states.send_task_success(taskToken="x" * 40, output="{}")


def test_a_nested_execution_is_waited_for(stack):
    stack.machine(
        "Child",
        one_state({"Type": "Wait", "Seconds": 30, "Output": {"n": "{% $states.input.n + 1 %}"}, "End": True}),
    )
    nested = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {
            "StateMachineArn": "arn:aws:states:eu-central-1:111111111111:stateMachine:Child",
            "Input": "{% $states.input %}",
        },
        "Output": "{% $states.result.Output %}",
        "End": True,
    }
    stack.machine("Parent", one_state(nested), {"Action": "states:*", "Resource": "*"})
    stack.deploy()

    execution = stack.run("Parent", {"n": 1})

    assert json.loads(execution.output) == {"n": 2}
    assert execution.stop_date - execution.start_date == timedelta(seconds=30)


def test_a_failed_nested_execution_fails_the_task(stack):
    stack.machine("Child", one_state({"Type": "Fail", "Error": "Broken", "Cause": "why"}))
    nested = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": "arn:aws:states:eu-central-1:111111111111:stateMachine:Child"},
        "End": True,
    }
    stack.machine("Parent", one_state(nested), {"Action": "states:*", "Resource": "*"})
    stack.deploy()

    execution = stack.run("Parent")

    assert execution.error == "States.TaskFailed"
    assert json.loads(execution.cause)["Error"] == "Broken"


def test_an_api_error_has_the_name_of_the_sdk(stack):
    table = {
        "TableName": "table",
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    }
    stack.add(Table={"Type": "AWS::DynamoDB::Table", "Properties": table})
    put = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:putItem",
        "Arguments": {
            "TableName": "table",
            "Item": {"pk": {"S": "a"}},
            "ConditionExpression": "attribute_not_exists(pk)",
        },
        "Catch": [{"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "Next": "There"}],
        "Next": "New",
    }
    described = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:dynamodb:describeTable",
        "Arguments": {"TableName": "table"},
        "Output": {"status": "{% $states.result.Table.TableStatus %}"},
        "End": True,
    }
    there = {"Type": "Pass", "Output": "there", "End": True}
    stack.machine("Machine", {"StartAt": "Put", "States": {"Put": put, "New": described, "There": there}}, {
        "Action": "dynamodb:*", "Resource": "*",
    })  # fmt: skip
    stack.deploy()

    assert json.loads(stack.run("Machine").output) == {"status": "ACTIVE"}
    assert json.loads(stack.run("Machine").output) == "there"


def test_stopping_an_execution_ends_it_at_once(stack, sim):
    stack.machine("Machine", one_state({"Type": "Wait", "Seconds": 86_400, "End": True}))
    stack.deploy()
    sim.engine.flows = False
    client = sim.control.client("stepfunctions", stack.account, stack.region)
    arn = f"arn:aws:states:{stack.region}:{stack.account}:stateMachine:Machine"
    started = client.start_execution(stateMachineArn=arn, name="long", input="{}")
    sim.clock.advance_to(sim.clock.now() + timedelta(hours=1))

    client.stop_execution(executionArn=started["executionArn"], error="Stopped", cause="by a person")

    described = client.describe_execution(executionArn=started["executionArn"])
    assert (described["status"], described["cause"]) == ("ABORTED", "by a person")
    assert described["stopDate"] - described["startDate"] == timedelta(hours=1)


def test_an_execution_name_is_used_once(stack, sim):
    stack.machine("Machine", one_state({"Type": "Succeed"}))
    stack.deploy()
    client = sim.control.client("stepfunctions", stack.account, stack.region)
    arn = f"arn:aws:states:{stack.region}:{stack.account}:stateMachine:Machine"
    sim.executions.wait(client.start_execution(stateMachineArn=arn, name="one", input="{}")["executionArn"])

    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        client.start_execution(stateMachineArn=arn, name="one", input="{}")


def test_time_stands_still_between_steps_when_it_does_not_flow(stack, sim):
    stack.machine("Machine", one_state({"Type": "Wait", "Seconds": 60, "End": True}))
    stack.deploy()
    sim.engine.flows = False
    client = sim.control.client("stepfunctions", stack.account, stack.region)
    arn = f"arn:aws:states:{stack.region}:{stack.account}:stateMachine:Machine"
    started = client.start_execution(stateMachineArn=arn, input="{}")["executionArn"]

    sim.clock.advance_to(sim.clock.now() + timedelta(seconds=59))
    assert sim.executions.find(started).status == "RUNNING"
    with pytest.raises(TimeoutError, match="does not flow"):
        sim.executions.wait(started)
    sim.clock.advance_to(sim.clock.now() + timedelta(seconds=1))
    assert sim.executions.find(started).status == "SUCCEEDED"


def test_the_history_tells_each_state_with_its_input_and_output(stack):
    states = {
        "First": {"Type": "Pass", "Output": {"n": "{% $states.input.n + 1 %}"}, "Next": "Second"},
        "Second": {"Type": "Wait", "Seconds": 5, "End": True},
    }
    stack.machine("Machine", {"StartAt": "First", "States": states})
    stack.deploy()

    execution = stack.run("Machine", {"n": 1})

    client = stack.sim.control.client("stepfunctions", stack.account, stack.region)
    events = client.get_execution_history(executionArn=execution.execution_arn)["events"]
    assert [event["type"] for event in events] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "WaitStateEntered",
        "WaitStateExited",
        "ExecutionSucceeded",
    ]
    assert events[3]["stateEnteredEventDetails"] == {"name": "Second", "input": '{"n": 2}'}
    assert events[4]["timestamp"] - events[3]["timestamp"] == timedelta(seconds=5)


def test_a_task_without_a_sign_of_life_fails_and_one_with_heartbeats_does_not(stack, sim):
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Arguments": {"QueueUrl": "{% $states.input %}", "MessageBody": "{% $states.context.Task.Token %}"},
        "HeartbeatSeconds": 60,
        "End": True,
    }
    stack.add(Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "queue"}})
    stack.machine("Machine", one_state(state), {"Action": "sqs:SendMessage", "Resource": "*"})
    stack.deploy()
    sqs = sim.control.client("sqs", stack.account, stack.region)
    states = sim.control.client("stepfunctions", stack.account, stack.region)
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    assert stack.run("Machine", url).error == "States.HeartbeatTimeout"
    sqs.receive_message(QueueUrl=url)

    sim.engine.flows = False
    machine = f"arn:aws:states:{stack.region}:{stack.account}:stateMachine:Machine"
    started = states.start_execution(stateMachineArn=machine, input=json.dumps(url))["executionArn"]
    sim.engine.settle()
    token = sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]
    for _ in range(3):
        sim.clock.advance_to(sim.clock.now() + timedelta(seconds=50))
        states.send_task_heartbeat(taskToken=token)
    states.send_task_success(taskToken=token, output='"alive"')
    sim.engine.settle()

    assert sim.executions.find(started).output == '"alive"'


def test_an_execution_that_ran_when_the_world_was_closed_is_aborted_when_it_opens(stack, sim):
    stack.machine("Machine", one_state({"Type": "Wait", "Seconds": 3_600, "End": True}))
    stack.deploy()
    sim.engine.flows = False
    client = sim.control.client("stepfunctions", stack.account, stack.region)
    machine = f"arn:aws:states:{stack.region}:{stack.account}:stateMachine:Machine"
    started = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    sim.engine.settle()
    sim.close()

    with simulator.open(sim.directory) as reopened:
        found = reopened.executions.wait(started)
        assert (found.status, found.cause) == ("ABORTED", "the simulation was closed")


@pytest.mark.parametrize(
    "definition, complaint",
    [
        ({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}}, "no state 'B'"),
        ({"StartAt": "A", "States": {"A": {"Type": "Pass", "InputPath": "$", "End": True}}}, "InputPath"),
        ({"StartAt": "A", "States": {"A": {"Type": "Pass", "Output": "{% $$( %}", "End": True}}}, "A"),
        ({"StartAt": "A", "QueryLanguage": "JSONPath", "States": {"A": {"Type": "Succeed"}}}, "JSONata"),
        (
            {
                "StartAt": "A",
                "States": {"A": {"Type": "Task", "Resource": "arn:aws:states:::glue:x", "End": True}},
            },
            "glue",
        ),
    ],
)
def test_a_definition_that_cannot_run_is_refused(stack, definition, complaint):
    stack.machine("Machine", definition)

    with pytest.raises(ClientError, match=complaint):
        stack.deploy()
