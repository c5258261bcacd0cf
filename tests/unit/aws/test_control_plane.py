"""State machines, Organizations, topics and mail, against moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ses.models import ses_backends
from moto.sns.models import sns_backends

from holdfast.aws.notifier import AwsNotifier
from holdfast.aws.organizations import AwsOrganization
from holdfast.aws.stepfunctions import StepFunctions
from holdfast.errors import ConfigurationError, ConflictError, NotFoundError
from holdfast.ports import Mail

REGION = "eu-central-1"
MACHINE = f"arn:aws:states:{REGION}:{DEFAULT_ACCOUNT_ID}:stateMachine:holdfast-session"


@pytest.fixture(autouse=True)
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def client(service: str, region: str = REGION) -> Any:
    return boto3.client(service, region_name=region)


def test_an_execution_is_started_once_by_name():
    machine = client("stepfunctions")
    machine.create_state_machine(
        name="holdfast-session",
        definition=json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
        roleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/machine",
    )
    executions = StepFunctions(machine)
    assert executions.start(MACHINE, "one", {"n": 1}) is True
    assert executions.start(MACHINE, "one", {"n": 2}) is False
    (started,) = machine.list_executions(stateMachineArn=MACHINE)["executions"]
    told = machine.describe_execution(executionArn=started["executionArn"])
    assert json.loads(told["input"]) == {"n": 1}


def test_a_machine_that_is_not_there_is_not_found():
    with pytest.raises(NotFoundError):
        StepFunctions(client("stepfunctions")).start(MACHINE, "one", {})


class Ended:
    """A Step Functions client whose waiting tasks have all ended."""

    def __init__(self, name: str) -> None:
        self.exceptions = client("stepfunctions").exceptions
        self._error = getattr(self.exceptions, name)

    def send_task_success(self, **arguments: Any) -> None:
        raise self._error({"Error": {"Code": self._error.__name__, "Message": "told"}}, "SendTaskSuccess")


@pytest.mark.parametrize("name", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_an_answer_that_nobody_waits_for_is_a_conflict(name: str):
    executions = StepFunctions(Ended(name))
    with pytest.raises(ConflictError):
        executions.succeed("token", {})


def test_an_organization_is_walked_through_all_its_pages():
    organizations = client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    session = boto3.Session(region_name=REGION)
    tree = AwsOrganization(session, "arn:role")
    (root,) = tree.roots()
    unit = organizations.create_organizational_unit(ParentId=root, Name="shop")["OrganizationalUnit"]["Id"]
    ids = [
        organizations.create_account(AccountName=f"a{number}", Email=f"{number}@example.com")[
            "CreateAccountStatus"
        ]["AccountId"]
        for number in range(25)
    ]
    organizations.move_account(AccountId=ids[3], SourceParentId=root, DestinationParentId=unit)
    assert tree.units(root) == [unit]
    assert [(one.account, one.name, one.state) for one in tree.accounts(unit)] == [(ids[3], "a3", "ACTIVE")]
    assert {one.account for one in tree.accounts(root)} >= set(ids) - {ids[3]}


def test_a_notice_has_text_for_people_and_json_for_programs():
    topic = client("sns").create_topic(Name="results")["TopicArn"]
    queue = client("sqs").create_queue(QueueName="programs")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    AwsNotifier(client, REGION).publish(topic, "[Success] daily", "All is well", {"state": "Success"})
    sent = sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics[topic].sent_notifications[0]
    assert sent[2] == "[Success] daily"
    body = client("sqs").receive_message(QueueUrl=queue)["Messages"][0]["Body"]
    assert json.loads(json.loads(body)["Message"]) == {"state": "Success"}


def test_a_topic_that_is_not_there_is_not_found():
    with pytest.raises(NotFoundError):
        AwsNotifier(client, REGION).publish(f"arn:aws:sns:{REGION}:{DEFAULT_ACCOUNT_ID}:no", "s", "t", {})


def test_a_mail_has_text_and_html_for_all_its_recipients():
    client("ses").verify_email_identity(EmailAddress="holdfast@example.com")
    mail = Mail("holdfast@example.com", ["a@example.com", "b@example.com"], "Grüße", "text", "<p>html</p>")
    AwsNotifier(client, REGION).send(mail)
    (sent,) = ses_backends[DEFAULT_ACCOUNT_ID][REGION].sent_messages
    assert (sent.subject, sent.source) == ("Grüße", "holdfast@example.com")
    assert sent.destinations["ToAddresses"] == ["a@example.com", "b@example.com"]


def test_a_sender_that_is_not_verified_names_what_to_correct():
    mail = Mail("nobody@example.com", ["a@example.com"], "s", "text", "html")
    with pytest.raises(ConfigurationError, match="ses:SendEmail failed: MessageRejected"):
        AwsNotifier(client, REGION).send(mail)
