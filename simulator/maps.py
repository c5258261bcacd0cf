"""Map states: items from the input or S3, batches, concurrency, tolerated failures, written results.

A distributed Map's children are executions of their own that see none of the parent's variables; a failed
child fails the whole only past the tolerated share, and the whole does not say why. Source: "Distributed Map"
of the Step Functions developer guide.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.asl import Frame, Interpreter, Json, State, all_of, iso
from simulator.failures import StateFailure

_CHILD_LANES = 1_000  # children of one run that are alive at once; the service starts up to 10,000


@dataclass(slots=True)
class Child:
    """One child of a Map run, in the shape of the result files."""

    index: int
    value: Json
    items: int
    name: str
    started_at: str = ""
    stopped_at: str = ""
    status: str = "PENDING"
    output: Json = None
    error: str = ""
    cause: str = ""


@dataclass(slots=True)
class MapRun:
    """A distributed Map while it runs and after."""

    arn: str
    execution_arn: str
    machine_arn: str
    started_at: str
    max_concurrency: int
    tolerated_count: float | None
    tolerated_percentage: float | None
    children: list[Child] = field(default_factory=list)
    status: str = "RUNNING"
    stopped_at: str = ""

    def failed_items(self) -> int:
        """Items of children that failed."""
        return sum(child.items for child in self.children if child.status == "FAILED")

    def total_items(self) -> int:
        """Items of all children."""
        return sum(child.items for child in self.children)

    def is_beyond_tolerance(self) -> bool:
        """Whether more failed than the definition tolerates; without a rule, none may."""
        failed, total = self.failed_items(), self.total_items()
        if not failed:
            return False
        if self.tolerated_count is None and self.tolerated_percentage is None:
            return True
        by_count = self.tolerated_count is not None and failed > self.tolerated_count
        by_share = self.tolerated_percentage is not None and 100 * failed / total > self.tolerated_percentage
        return by_count or by_share


class MapWork:
    """Runs Map states. ``client`` gives a boto3 client under the execution's role."""

    def __init__(
        self,
        client: Callable[[str, Frame], Any],
        new_id: Callable[[], str],
        ran: Callable[[MapRun, Frame], None],
        record: Callable[..., None],
    ) -> None:
        self._client = client
        self._new_id = new_id
        self._ran = ran
        self._record = record

    async def run(self, state: State, value: Json, frame: Frame, interpreter: Interpreter) -> Json:
        """The result of a Map state. Raises StateFailure."""
        items = await self._items(state, value, frame, interpreter)
        processor = state["ItemProcessor"]
        distributed = processor.get("ProcessorConfig", {}).get("Mode", "INLINE") == "DISTRIBUTED"
        bindings = frame.bindings(input=value)
        width = int(interpreter.number(state.get("MaxConcurrency", 0), bindings, "MaxConcurrency"))
        selected = self._select(state, value, items, frame, interpreter)
        if not distributed:
            inline = [
                lambda index=index, item=item: interpreter.run(
                    processor, item, frame.child(Map={"Item": {"Index": index, "Value": items[index]}})
                )
                for index, item in enumerate(selected)
            ]
            return await all_of(inline, at_once=min(width or 40, 40))
        run = self._new_run(state, frame, width, bindings, interpreter)
        run.children = [
            Child(index, batch, count, self._new_id())
            for index, (batch, count) in enumerate(self._batches(state, selected, value, frame, interpreter))
        ]
        return await self._distribute(state, run, value, frame, interpreter)

    async def _items(self, state: State, value: Json, frame: Frame, interpreter: Interpreter) -> list[Json]:
        if "ItemReader" in state:
            reader = interpreter.evaluator.render(
                {key: item for key, item in state["ItemReader"].items() if key != "Resource"},
                frame.bindings(input=value),
            )
            client = self._client("s3", frame)
            resource = state["ItemReader"]["Resource"].rsplit(":", 1)[-1]
            return await interpreter.engine.call(lambda: read_items(client, resource, reader))
        items = value
        if "Items" in state:
            items = interpreter.evaluator.render(state["Items"], frame.bindings(input=value))
        if isinstance(items, dict):
            items = [{"Key": key, "Value": item} for key, item in items.items()]
        if not isinstance(items, list):
            raise StateFailure(
                "States.QueryEvaluationError", f"Map iterates over an array, not {type(items).__name__}"
            )
        return items

    def _select(
        self, state: State, value: Json, items: list[Json], frame: Frame, interpreter: Interpreter
    ) -> list[Json]:
        if "ItemSelector" not in state:
            return items
        return [
            interpreter.evaluator.render(
                state["ItemSelector"],
                replace(
                    frame, context={**frame.context, "Map": {"Item": {"Index": index, "Value": item}}}
                ).bindings(input=value),
            )
            for index, item in enumerate(items)
        ]

    def _batches(
        self, state: State, items: list[Json], value: Json, frame: Frame, interpreter: Interpreter
    ) -> Iterator[tuple[Json, int]]:
        """Inputs of the children, and how many items each holds."""
        if "ItemBatcher" not in state:
            yield from ((item, 1) for item in items)
            return
        batcher = interpreter.evaluator.render(state["ItemBatcher"], frame.bindings(input=value))
        most, most_bytes = (
            batcher.get("MaxItemsPerBatch", len(items) or 1),
            batcher.get("MaxInputBytesPerBatch", 262_144),
        )
        shared = {"BatchInput": batcher["BatchInput"]} if "BatchInput" in batcher else {}
        batch: list[Json] = []
        size = 0
        for item in items:
            length = len(json.dumps(item)) + 1
            if batch and (len(batch) >= most or size + length > most_bytes):
                yield {"Items": batch, **shared}, len(batch)
                batch, size = [], 0
            batch.append(item)
            size += length
        if batch:
            yield {"Items": batch, **shared}, len(batch)

    def _new_run(
        self, state: State, frame: Frame, width: int, bindings: Mapping[str, Json], interpreter: Interpreter
    ) -> MapRun:
        def limit(name: str) -> float | None:
            return interpreter.number(state[name], bindings, name) if name in state else None

        execution = frame.execution
        label = state.get("Label", frame.context["State"]["Name"])
        prefix = execution.state_machine_arn.replace(":stateMachine:", ":mapRun:")
        run = MapRun(
            arn=f"{prefix}/{label}:{self._new_id()}",
            execution_arn=execution.execution_arn,
            machine_arn=f"{execution.state_machine_arn}/{label}",
            started_at=iso(interpreter.engine.clock.now()),
            max_concurrency=width,
            tolerated_count=limit("ToleratedFailureCount"),
            tolerated_percentage=limit("ToleratedFailurePercentage"),
        )
        self._ran(run, frame)
        self._record(frame, "MapRunStarted", mapRunArn=run.arn)
        return run

    async def _distribute(
        self, state: State, run: MapRun, value: Json, frame: Frame, interpreter: Interpreter
    ) -> Json:
        def child_activity(child: Child) -> Callable[[], Any]:
            return lambda: self._child(state, run, child, frame, interpreter)

        try:
            await all_of(
                [child_activity(child) for child in run.children],
                at_once=min(run.max_concurrency or _CHILD_LANES, _CHILD_LANES),
            )
            run.status = "SUCCEEDED"
        except StateFailure:
            run.status = "FAILED"
            raise
        except asyncio.CancelledError:
            run.status = "ABORTED"
            raise
        finally:
            run.stopped_at = iso(interpreter.engine.clock.now())
            for child in run.children:
                if child.status in {"PENDING", "RUNNING"} and run.status != "SUCCEEDED":
                    child.status = "ABORTED" if child.status == "RUNNING" else "PENDING"
            self._record(frame, f"MapRun{run.status.capitalize()}", mapRunArn=run.arn)
            if "ResultWriter" in state and run.status != "ABORTED":
                written = await self._write(state, run, value, frame, interpreter)
        if "ResultWriter" in state:
            return written
        return [child.output for child in run.children]

    async def _child(
        self, state: State, run: MapRun, child: Child, frame: Frame, interpreter: Interpreter
    ) -> None:
        clock = interpreter.engine.clock
        arn = f"{run.machine_arn.replace(':stateMachine:', ':execution:')}:{child.name}"
        child.started_at, child.status = iso(clock.now()), "RUNNING"
        context = {
            **frame.context,
            "Execution": {
                **frame.context["Execution"],
                "Id": arn,
                "Name": child.name,
                "StartTime": child.started_at,
            },
        }
        item = {"Item": {"Index": child.index, "Value": child.value}}
        try:
            child.output = await interpreter.run(
                state["ItemProcessor"],
                child.value,
                replace(frame.child(), context={**context, "Map": item}, outer={}),
            )
            child.status = "SUCCEEDED"
        except StateFailure as failure:
            child.status, child.error, child.cause = "FAILED", failure.error, failure.cause
        child.stopped_at = iso(clock.now())
        if child.status == "FAILED" and run.is_beyond_tolerance():
            raise StateFailure(
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )

    async def _write(
        self, state: State, run: MapRun, value: Json, frame: Frame, interpreter: Interpreter
    ) -> Json:
        writer = interpreter.evaluator.render(
            {key: item for key, item in state["ResultWriter"].items() if key != "Resource"},
            frame.bindings(input=value),
        )
        client = self._client("s3", frame)
        return await interpreter.engine.call(lambda: write_results(client, run, writer))


def read_items(client: Any, resource: str, reader: Mapping[str, Any]) -> list[Json]:
    """Items of an ItemReader: an array in an object (JSON, JSONL), or a listing. Raises StateFailure."""
    arguments, config = reader["Arguments"], reader.get("ReaderConfig", {})
    most = int(config.get("MaxItems", 100_000_000))
    try:
        if resource == "listObjectsV2":
            pages = client.get_paginator("list_objects_v2").paginate(**arguments)
            names = ("Key", "Size", "ETag", "StorageClass")
            return [
                {name: row.get(name) for name in names} for page in pages for row in page.get("Contents", [])
            ][:most]
        text = client.get_object(**arguments)["Body"].read().decode()
    except client.exceptions.ClientError as error:
        raise StateFailure("States.ItemReaderFailed", f"{arguments}: {error}") from error
    try:
        if config.get("InputType") == "JSONL":
            return [json.loads(line) for line in text.splitlines() if line.strip()][:most]
        if config.get("InputType") == "JSON":
            items = json.loads(text)
            if isinstance(items, list):
                return items[:most]
    except ValueError as error:
        raise StateFailure("States.ItemReaderFailed", f"{arguments}: {error}") from error
    raise StateFailure(
        "States.ItemReaderFailed", f"{arguments}: not a JSON array ({config.get('InputType')})"
    )


def write_results(client: Any, run: MapRun, writer: Mapping[str, Any]) -> Json:
    """Write the files of a ResultWriter and return what the state outputs. Raises StateFailure."""
    bucket, prefix = writer["Arguments"]["Bucket"], writer["Arguments"].get("Prefix", "")
    config = writer.get("WriterConfig", {})
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    folder += run.arn.rsplit(":", 1)[-1]
    lines = config.get("OutputType", "JSON") == "JSONL"
    files: dict[str, list[Json]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    try:
        for status, listed in files.items():
            rows = [
                _row(run, child, config.get("Transformation", "NONE"))
                for child in run.children
                if child.status == status
            ]
            if not rows:
                continue
            key = f"{folder}/{status}_0.json{'l' if lines else ''}"
            text = "\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows)
            client.put_object(Bucket=bucket, Key=key, Body=text.encode())
            listed.append({"Key": key, "Size": len(text.encode())})
        manifest = {"DestinationBucket": bucket, "MapRunArn": run.arn, "ResultFiles": files}
        client.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode())
    except client.exceptions.ClientError as error:
        raise StateFailure("States.ResultWriterFailed", f"{bucket}/{folder}: {error}") from error
    return {"MapRunArn": run.arn, "ResultWriterDetails": {"Bucket": bucket, "Key": f"{folder}/manifest.json"}}


def _row(run: MapRun, child: Child, transformation: str) -> Json:
    if transformation != "NONE" and child.status == "SUCCEEDED":
        return child.output
    row = {
        "ExecutionArn": f"{run.machine_arn.replace(':stateMachine:', ':execution:')}:{child.name}",
        "Input": json.dumps(child.value),
        "InputDetails": {"Included": True},
        "Name": child.name,
        "StartDate": child.started_at,
        "StateMachineArn": run.machine_arn,
        "Status": child.status,
        "StopDate": child.stopped_at,
    }
    if child.status == "SUCCEEDED":
        return row | {"Output": json.dumps(child.output), "OutputDetails": {"Included": True}}
    return row | {"Error": child.error, "Cause": child.cause}
