"""EventBridge Scheduler: fires the schedules of the deployed templates as virtual time passes.

Delivery is at least once, as promised by the service: whoever is called must bear a duplicate, and a test can
ask for them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.scheduler.exceptions import ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, scheduler_backends

from simulator import cron
from simulator.engine import Engine, Timer
from simulator.identities import session_for
from simulator.patches import Patches

if TYPE_CHECKING:
    from simulator.simulator import Simulator


@dataclass(frozen=True, slots=True)
class Firing:
    """One delivery to a target. ``error`` is empty when the target accepted it."""

    schedule: str
    scheduled_at: datetime
    attempt: int
    error: str


class Schedules:
    """The schedules of the world; ``simulator.schedules``.

    ``duplicate``: when true, every firing is delivered twice. ``fired``: what was delivered, in order.
    """

    def __init__(self, simulator: Simulator, engine: Engine) -> None:
        self._simulator = simulator
        self._engine = engine
        self._timers: dict[str, Timer] = {}
        self.duplicate = False
        self.fired: list[Firing] = []

    def arm_all(self) -> None:
        """Set the timers of every schedule that exists, as after reopening a world."""
        for regions in list(scheduler_backends.values()):
            for backend in list(regions.values()):
                for group in backend.schedule_groups.values():
                    for schedule in group.schedules.values():
                        self.arm(schedule)

    def arm(self, schedule: Schedule) -> None:
        """Set or renew the timer of a schedule."""
        self.disarm(schedule.arn)
        if schedule.state != "ENABLED":
            return
        due = cron.next_after(
            schedule.schedule_expression,
            schedule.schedule_expression_timezone,
            self._engine.clock.now(),
            created=_instant(schedule.creation_date) or self._engine.clock.now(),
            start=_instant(schedule.start_date),
            end=_instant(schedule.end_date),
        )
        if due is not None:
            at = due + self._delay(schedule, due)
            self._timers[schedule.arn] = self._engine.at(at, lambda: self._fire(schedule, due))

    def disarm(self, arn: str) -> None:
        """Forget the timer of a schedule."""
        timer = self._timers.pop(arn, None)
        if timer is not None:
            timer.cancelled = True

    def upcoming(self) -> list[tuple[datetime, str]]:
        """The next instant of every armed schedule, soonest first."""
        return sorted((timer.at, arn) for arn, timer in self._timers.items())

    def _delay(self, schedule: Schedule, due: datetime) -> timedelta:
        """Where in its flexible window a schedule fires."""
        window = schedule.flexible_time_window
        if window.get("Mode") != "FLEXIBLE":
            return timedelta()
        chance = random.Random(f"{self._simulator.world.seed}/{schedule.arn}/{due}")
        return timedelta(seconds=chance.randrange(60 * int(window["MaximumWindowInMinutes"])))

    def _fire(self, schedule: Schedule, due: datetime) -> None:
        for _ in range(2 if self.duplicate else 1):
            self._engine.start(self._deliver(schedule, due))
        self.arm(schedule)

    async def _deliver(self, schedule: Schedule, due: datetime) -> None:
        retry = schedule.target.get("RetryPolicy", {})
        attempts = 1 + int(retry.get("MaximumRetryAttempts", 185))
        expires = due + timedelta(seconds=int(retry.get("MaximumEventAgeInSeconds", 86_400)))
        error = ""
        for attempt in range(1, attempts + 1):
            error = await self._engine.call(lambda attempt=attempt: self._attempt(schedule, due, attempt))  # type: ignore[misc]
            self.fired.append(Firing(schedule.arn, due, attempt, error))
            if not error:
                return
            pause = min(2.0**attempt, 3_600)
            if self._engine.clock.now() + timedelta(seconds=pause) > expires:
                break
            if attempt < attempts:
                await self._engine.sleep(pause)
        queue = schedule.target.get("DeadLetterConfig", {}).get("Arn")
        if queue:
            await self._engine.call(lambda: self._bury(schedule, queue, due, error))

    def _attempt(self, schedule: Schedule, due: datetime, attempt: int) -> str:
        """Call the target once; the error, or an empty text."""
        target = schedule.target
        text = _filled(target.get("Input", "{}"), schedule, due, attempt)
        role = target["RoleArn"]
        try:
            # The source that the service names in a trust policy's condition is the group, not the schedule.
            group = schedule.arn.replace(":schedule/", ":schedule-group/").rpartition("/")[0]
            identity = self._simulator.control.assume_for_service(role, "scheduler.amazonaws.com", group)
            region = schedule.arn.split(":")[3]
            _call_target(session_for(identity, region).client, target, text)
        except (ClientError, BotoCoreError, PermissionError, ConnectionError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _bury(self, schedule: Schedule, queue: str, due: datetime, error: str) -> None:
        region, account, name = queue.split(":")[3:6]
        client = self._simulator.control.client("sqs", account, region)
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = {"ERROR_MESSAGE": {"DataType": "String", "StringValue": error[:1000] or "unknown"}}
        body = _filled(schedule.target.get("Input", "{}"), schedule, due, 0)
        client.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)


def _call_target(client: Callable[[str], Any], target: dict[str, Any], text: str) -> None:
    arn = target["Arn"]
    service = arn.split(":")[2]
    if service == "lambda":
        client("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=text.encode())
    elif service == "states":
        client("stepfunctions").start_execution(stateMachineArn=arn, input=text)
    elif service == "sns":
        client("sns").publish(TopicArn=arn, Message=text)
    elif service == "sqs":
        sqs = client("sqs")
        sqs.send_message(
            QueueUrl=sqs.get_queue_url(QueueName=arn.split(":")[5])["QueueUrl"], MessageBody=text
        )
    elif arn.startswith("arn:aws:scheduler:::aws-sdk:"):
        service, action = arn.split(":")[6:8]
        api = client({"sfn": "stepfunctions"}.get(service, service))
        operation = next(
            name for name, known in api.meta.method_to_api_mapping.items() if known.lower() == action.lower()
        )
        getattr(api, operation)(**json.loads(text))
    else:
        raise ValueError(f"schedules do not call {arn} here")


def _filled(text: str, schedule: Schedule, due: datetime, attempt: int) -> str:
    """The target's input with context attributes filled in.

    Source: "Adding context attributes" in the EventBridge Scheduler user guide.
    """
    identifier = random.Random(f"{schedule.arn}/{due}").getrandbits(128)
    for name, value in (
        ("schedule-arn", schedule.arn),
        ("scheduled-time", due.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("execution-id", f"{identifier:032x}"),
        ("attempt-number", str(attempt)),
    ):
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def _instant(value: Any) -> datetime | None:
    if value in (None, ""):
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(float(value), UTC)


def install(simulator: Simulator, patches: Patches) -> None:
    """Check expressions as the service does, and keep the timers in step with moto's schedules."""

    def find(backend: EventBridgeSchedulerBackend, group: str | None, name: str) -> Schedule:
        return backend.get_schedule(group or "default", name)

    def check(expression: str) -> None:
        try:
            cron.parse(expression)
        except ValueError as error:
            raise ValidationException(message=f"Invalid Schedule Expression {expression}. {error}") from error

    def create(backend: EventBridgeSchedulerBackend, **given: Any) -> Schedule:
        check(given["schedule_expression"])
        backend.get_schedule_group(given.get("group_name"))  # refuses a group that does not exist
        made: Schedule = original_create(backend, **given)
        simulator.schedules.arm(made)
        return made

    def delete_group(backend: EventBridgeSchedulerBackend, name: str | None) -> None:
        for schedule in backend.get_schedule_group(name).schedules.values():
            simulator.schedules.disarm(schedule.arn)
        original_delete_group(backend, name)

    def update(backend: EventBridgeSchedulerBackend, **given: Any) -> Any:
        check(given["schedule_expression"])
        given["state"] = (
            given.get("state") or "ENABLED"
        )  # an update without a state enables, as creation does
        result = original_update(backend, **given)
        simulator.schedules.arm(find(backend, given.get("group_name"), given["name"]))
        return result

    def delete(backend: EventBridgeSchedulerBackend, group_name: str | None, name: str) -> None:
        simulator.schedules.disarm(find(backend, group_name, name).arn)
        original_delete(backend, group_name, name)

    original_create = patches.set(EventBridgeSchedulerBackend, "create_schedule", create)
    original_update = patches.set(EventBridgeSchedulerBackend, "update_schedule", update)
    original_delete = patches.set(EventBridgeSchedulerBackend, "delete_schedule", delete)
    original_delete_group = patches.set(EventBridgeSchedulerBackend, "delete_schedule_group", delete_group)
