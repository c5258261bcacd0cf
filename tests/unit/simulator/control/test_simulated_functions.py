"""Functions run in process, each under its own World, as Lambda would run them."""

from __future__ import annotations

import json
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.deploy import archive
from simulator.faults import Fault
from simulator.lambdas import after_calls
from tests.unit.simulator.control.conftest import call

ANYTHING = {"Action": "*", "Resource": "*"}


ENVIRONMENT = """
    from holdfast.bootstrap import world
    def handler(event, context):
        return {name: world().environment.get(name) for name in event['names']}
"""


def test_a_function_sees_the_variables_of_its_template_and_those_of_aws(stack, functions):
    variables = {"Environment": {"Variables": {"TABLE": "catalog"}}, "MemorySize": 1769}
    stack.function("show", functions(show=ENVIRONMENT), **variables)
    stack.deploy()

    names = ["TABLE", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "PATH"]
    answer, _ = call(stack, "show", {"names": names})

    assert answer == {
        "TABLE": "catalog",
        "AWS_REGION": stack.region,
        "AWS_LAMBDA_FUNCTION_NAME": "show",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "PATH": None,
    }


def layer(stack: Any, name: str, folder: Path) -> None:
    """Add a layer whose content is a folder."""
    bucket = stack.sim.control.deployer.bootstrap(stack.account, stack.region)
    client = stack.sim.control.client("s3", stack.account, stack.region)
    body = archive(folder)
    key = f"{name}-{hash(body)}.zip"
    client.put_object(Bucket=bucket, Key=key, Body=body)
    properties = {"LayerName": name, "Content": {"S3Bucket": bucket, "S3Key": key}}
    stack.resources[name] = {"Type": "AWS::Lambda::LayerVersion", "Properties": properties}


def test_paths_below_opt_lead_into_the_layers_and_follow_a_new_version(stack, functions, tmp_path):
    reads = """
        from pathlib import Path
        from holdfast.bootstrap import world
        def handler(event, context):
            return Path(world().environment['CONFIGURATION']).read_text()
    """
    content = tmp_path / "content"
    content.mkdir()
    (content / "configuration.json").write_text("first")
    layer(stack, "Config", content)
    stack.function(
        "reads",
        functions(reads=reads),
        Layers=[{"Ref": "Config"}],
        Environment={"Variables": {"CONFIGURATION": "/opt/configuration.json"}},
    )
    stack.deploy()
    assert call(stack, "reads")[0] == "first"

    (content / "configuration.json").write_text("second")
    layer(stack, "Config", content)
    stack.deploy()

    assert call(stack, "reads")[0] == "second"


def test_functions_that_run_together_do_not_see_each_other(stack, functions):
    slow = """
        import threading
        from holdfast.bootstrap import world
        together = threading.Barrier(2, timeout=30)
        def handler(event, context):
            before = world().environment['NAME']
            together.wait()
            return [before, world().environment['NAME'], context.function_name]
    """
    asset = functions(slow=slow)
    for name in ("one", "two"):
        stack.function(name, asset, Handler="slow.handler", Environment={"Variables": {"NAME": name}})
    branches = [
        {
            "StartAt": name,
            "States": {
                name: {
                    "Type": "Task",
                    "Resource": "arn:aws:states:::lambda:invoke",
                    "Arguments": {"FunctionName": name},
                    "Output": "{% $states.result.Payload %}",
                    "End": True,
                }
            },
        }
        for name in ("one", "two")
    ]
    parallel = {"Type": "Parallel", "Branches": branches, "End": True}
    stack.machine("Both", {"StartAt": "Both", "States": {"Both": parallel}})
    stack.deploy()

    execution = stack.run("Both")

    assert json.loads(execution.output) == [["one", "one", "one"], ["two", "two", "two"]]


def test_a_function_acts_under_its_role(stack, functions):
    who = """
        from holdfast.bootstrap import world
        def handler(event, context):
            return world().session().client('sts').get_caller_identity()['Arn']
    """
    stack.function("who", functions(who=who))
    stack.deploy()

    answer, _ = call(stack, "who")

    assert answer.startswith(f"arn:aws:sts::{stack.account}:assumed-role/Stack-whoRole-")


def test_an_exception_is_reported_by_its_class_and_kept(stack, functions):
    broken = "class OddError(Exception): pass\ndef handler(event, context):\n    raise OddError('why')\n"
    stack.function("broken", functions(broken=broken))
    stack.deploy()

    answer, failure = call(stack, "broken")

    assert (answer["errorType"], answer["errorMessage"], failure) == ("OddError", "why", "Unhandled")
    assert stack.sim.lambdas.errors["broken"] == [answer]


WRITES = """
    from holdfast.bootstrap import world
    def handler(event, context):
        client = world().session().client('s3')
        for n in range(3):
            client.put_object(Bucket='work', Key=str(n), Body=b'x')
        return 'done'
"""


def test_a_crash_in_the_middle_loses_the_sandbox_and_a_retry_gets_a_new_one(stack, functions):
    stack.function("writes", functions(writes=WRITES), ANYTHING)
    stack.add(Work={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "work"}})
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": "writes"},
        "Retry": [{"ErrorEquals": ["Runtime.ExitError"], "IntervalSeconds": 1}],
        "Output": "{% $states.result.Payload %}",
        "End": True,
    }
    stack.machine("Machine", {"StartAt": "Write", "States": {"Write": task}})
    stack.deploy()
    stack.sim.faults.add(Fault(call="s3:PutObject", effect="crash", nth=2))

    execution = stack.run("Machine")

    assert json.loads(execution.output) == "done"
    assert stack.sim.lambdas.counts["writes"] == 2
    assert [error["errorType"] for error in stack.sim.lambdas.errors["writes"]] == ["Runtime.ExitError"]


def test_time_runs_out_after_so_many_questions(stack, functions):
    counts = """
        def handler(event, context):
            done = 0
            while context.get_remaining_time_in_millis() > 10_000:
                done += 1
            return done
    """
    stack.function("counts", functions(counts=counts))
    stack.deploy()
    stack.sim.lambdas.time_limit = lambda name: after_calls(5) if name == "counts" else None

    assert call(stack, "counts")[0] == 5


def test_remaining_time_begins_with_the_timeout_of_the_template(stack, functions):
    left = "def handler(event, context):\n    return context.get_remaining_time_in_millis()\n"
    stack.function("left", functions(left=left), Timeout=900)
    stack.deploy()

    assert 0 < call(stack, "left")[0] <= 900_000


def test_a_handler_that_the_asset_does_not_hold_cannot_be_imported(stack, functions):
    asset = functions(here="def handler(event, context):\n    return 1\n")
    stack.function("gone", asset)
    (asset / "gone.py").write_text("def handler(event, context):\n    return 1\n")
    stack.deploy()

    answer, _ = call(stack, "gone")

    assert answer["errorType"] == "Runtime.ImportModuleError"


@pytest.mark.parametrize(
    "source, error",
    [
        ("return 'x' * (7 * 1024 * 1024)", "Function.ResponseSizeTooLarge"),
        ("return {1, 2}", "Runtime.MarshalError"),
    ],
)
def test_an_answer_that_lambda_cannot_deliver_is_an_error(stack, functions, source, error):
    stack.function("odd", functions(odd=f"def handler(event, context):\n    {source}\n"))
    stack.deploy()

    assert call(stack, "odd")[0]["errorType"] == error


def test_an_asynchronous_event_is_tried_three_times_and_then_sent_to_its_destination(stack, functions):
    stack.function("fails", functions(fails="def handler(event, context):\n    raise ValueError('no')\n"))
    destination = {"OnFailure": {"Destination": {"Fn::GetAtt": ["Queue", "Arn"]}}}
    stack.add(
        Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "undelivered"}},
        Invoked={
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {
                "FunctionName": {"Ref": "fails"},
                "Qualifier": "$LATEST",
                "MaximumRetryAttempts": 2,
                "DestinationConfig": destination,
            },
        },
    )
    stack.deploy()
    began = stack.sim.clock.now()

    call(stack, "fails", {"n": 1}, InvocationType="Event")
    stack.sim.engine.settle()

    assert stack.sim.lambdas.counts["fails"] == 3
    assert stack.sim.clock.now() - began == timedelta(minutes=3)
    sqs = stack.sim.control.client("sqs", stack.account, stack.region)
    url = sqs.get_queue_url(QueueName="undelivered")["QueueUrl"]
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"])["requestPayload"] == {"n": 1}


def test_reserved_concurrency_throttles(stack, functions):
    waits = """
        import threading
        inside, leave = threading.Event(), threading.Event()
        def handler(event, context):
            inside.set()
            leave.wait(30)
            return 'done'
    """
    release = """
        import scripted.waits
        def handler(event, context):
            scripted.waits.leave.set()
            return 'refused'
    """
    asset = functions(waits=waits, release=release)
    stack.function("waits", asset, ReservedConcurrentExecutions=1)
    stack.function("release", asset)
    invoke = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    caught = [{"ErrorEquals": ["Lambda.TooManyRequestsException"], "Next": "Release"}]
    states = {
        "Try": {**invoke, "Arguments": {"FunctionName": "waits"}, "Catch": caught},
        "Release": {
            **invoke,
            "Arguments": {"FunctionName": "release"},
            "Output": "{% $states.result.Payload %}",
        },
    }
    stack.machine("Machine", {"StartAt": "Try", "States": states})
    stack.deploy()
    first: list[Any] = []
    running = threading.Thread(target=lambda: first.append(call(stack, "waits")[0]))
    running.start()
    while "scripted.waits" not in sys.modules:
        running.join(0.01)
    sys.modules["scripted.waits"].inside.wait(30)

    execution = stack.run("Machine")

    running.join(30)
    assert json.loads(execution.output) == "refused"
    assert first == ["done"]
