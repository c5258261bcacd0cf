"""Functions in processes of their own, on the real runtime client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.faults import Fault
from tests.unit.simulator.control.conftest import call

ANYTHING = {"Action": "*", "Resource": "*"}


@pytest.fixture
def isolated(stack: Any) -> Any:
    """A stack whose functions run in processes."""
    stack.sim.lambdas.isolate()
    return stack


def test_a_process_runs_the_deployed_archive_under_its_role_and_stays_warm(isolated, functions):
    who = """
        import os
        import boto3
        calls = []
        def handler(event, context):
            calls.append(event)
            print('called', context.function_name)
            arn = boto3.client('sts').get_caller_identity()['Arn']
            return [len(calls), os.environ['NAME'], arn.split('/')[1].split('-')[1], os.getpid()]
    """
    isolated.function("who", functions(who=who), Environment={"Variables": {"NAME": "x"}}, MemorySize=512)
    isolated.deploy()

    first, second = call(isolated, "who")[0], call(isolated, "who")[0]

    assert first[:3] == [1, "x", "whoRole"]
    assert second == [2, *first[1:]]
    assert "called who" in isolated.sim.lambdas.log("who")


LIMITS = """
    import os, time
    class OddError(Exception): pass
    def handler(event, context):
        if event.get('sleep'): time.sleep(event['sleep'])
        if event.get('exit'): os._exit(event['exit'])
        if event.get('mib'):
            filled = bytearray(b'x') * (event['mib'] << 20)
            time.sleep(20)
        if event.get('odd'): raise OddError('why')
        return 'done'
"""


@pytest.mark.parametrize(
    "event, error",
    [
        ({"sleep": 30}, "Sandbox.Timedout"),
        ({"exit": 1}, "Runtime.ExitError"),
        ({"mib": 400}, "Runtime.OutOfMemory"),
        ({"odd": True}, "OddError"),
    ],
)
def test_a_process_that_ends_badly_is_reported_and_replaced(isolated, functions, event, error):
    timeout = 3 if "sleep" in event else 60
    isolated.function("limits", functions(limits=LIMITS), Timeout=timeout, MemorySize=256)
    isolated.deploy()

    answer, failure = call(isolated, "limits", event)

    assert (answer["errorType"], failure) == (error, "Unhandled")
    assert call(isolated, "limits") == ("done", "")


def test_a_handler_that_cannot_be_imported_is_an_error(isolated, functions):
    isolated.function("broken", functions(broken="import nothing_like_this\n"), MemorySize=256)
    isolated.deploy()

    answer, _ = call(isolated, "broken")

    assert answer["errorType"] == "Runtime.ImportModuleError"


def test_a_crash_in_the_middle_of_a_call_kills_the_process(isolated, functions):
    writes = """
        import boto3
        def handler(event, context):
            client = boto3.client('s3')
            for n in range(3):
                client.put_object(Bucket='work', Key=str(n), Body=b'x')
            return 'done'
    """
    isolated.function("writes", functions(writes=writes), ANYTHING, MemorySize=512)
    isolated.add(Work={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "work"}})
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": "writes"},
        "Retry": [{"ErrorEquals": ["Runtime.ExitError"], "IntervalSeconds": 1}],
        "Output": "{% $states.result.Payload %}",
        "End": True,
    }
    isolated.machine("Machine", {"StartAt": "Write", "States": {"Write": task}})
    isolated.deploy()
    isolated.sim.faults.add(Fault(call="s3:PutObject", effect="crash", nth=2))

    execution = isolated.run("Machine")

    assert json.loads(execution.output) == "done"
    assert isolated.sim.lambdas.counts["writes"] == 2
