"""The catalog in one DynamoDB table.

Keys: ``pk``/``sk``, and the index ``by-time`` (``gpk`` = kind and month, ``gsk`` = instant and id).
Only records of sessions carry ``expires_at``: a restore point leaves the table when it is removed only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.aws.faults import translating
from holdfast.errors import ConflictError, NotFoundError, PermanentError
from holdfast.model.ids import stamp
from holdfast.model.inventory import InstanceConfiguration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Session
from holdfast.ports import Switch

INDEX: Final = "by-time"
SHORT: Final = 4096
"""Documents up to this many bytes stay readable in the console; longer ones are compressed."""
_SWITCHES: Final = "POLICY#"
"""Operators may write items under this key and no other."""
LONGEST: Final = 390_000
"""An item may have 400 KB with its keys."""


class DynamoCatalog:
    """`ports.Catalog`. ``record_for`` is how long records of sessions are kept; None: for ever."""

    def __init__(self, client: Any, table: str, record_for: timedelta | None = timedelta(days=92)) -> None:
        self._client = client
        self._table = table
        self._record_for = record_for

    def begin_session(self, session: Session) -> bool:
        return self._put(self._session_item(session), new=True)

    def write_session(self, session: Session) -> None:
        self._put(self._session_item(session))

    def read_session(self, session_id: str) -> Session:
        item = self._get(_session_key(session_id), "SESSION")
        if item is None:
            raise NotFoundError(
                "There is no such session.",
                resource=session_id,
                remedy="List sessions with `holdfast session list`.",
            )
        return Session.model_validate(_document(item))

    def sessions(self, since: datetime, until: datetime) -> Iterator[Session]:
        for item in self._between("SESSION", since, until):
            yield Session.model_validate(_document(item))

    def write_part(
        self,
        session_id: str,
        part: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        new: bool = False,
        version: int | None = None,
    ) -> bool:
        return self._put(
            {
                "pk": {"S": _session_key(session_id)},
                "sk": {"S": f"PART#{part}"},
                **_body(body, part),
                **self._expiry(at),
            },
            new=new,
            version=version,
        )

    def read_part(self, session_id: str, part: str) -> dict[str, Any] | None:
        item = self._get(_session_key(session_id), f"PART#{part}")
        return None if item is None else dict(_document(item))

    def remove_part(self, session_id: str, part: str) -> None:
        self._delete(_session_key(session_id), f"PART#{part}")

    def parts(self, session_id: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in self._below(_session_key(session_id), f"PART#{prefix}"):
            yield item["sk"]["S"].removeprefix("PART#"), dict(_document(item))

    def is_switched_off(self, policy: str) -> bool:
        item = self._get(_SWITCHES, f"SWITCH#{policy}")
        return item is not None and _switch(item).off

    def switch_policy(self, policy: str, *, off: bool, by: str = "", at: datetime | None = None) -> None:
        said = {"off": off, "by": by, "at": at.isoformat() if at else None}
        self._put({"pk": {"S": _SWITCHES}, "sk": {"S": f"SWITCH#{policy}"}, **_body(said, policy)})

    def switches(self) -> Mapping[str, Switch]:
        found = self._below(_SWITCHES, "SWITCH#")
        return {item["sk"]["S"].removeprefix("SWITCH#"): _switch(item) for item in found}

    def add_point(self, point: RestorePoint, configuration: InstanceConfiguration | None = None) -> None:
        pk = _instance_key(point.instance_id)
        if configuration is not None:
            self._put(
                {
                    "pk": {"S": pk},
                    "sk": {"S": f"CONFIGURATION#{point.point_id}"},
                    **_body(configuration.model_dump(mode="json"), point.point_id),
                }
            )
        self._put(
            {
                "pk": {"S": pk},
                "sk": {"S": _point_key(point)},
                **_time("POINT", point.taken_at, f"{point.instance_id}#{_point_key(point)}"),
                **_body(_sorted_flags(point), point.point_id),
            }
        )

    def points(self, instance_id: str, kind: Kind | None = None) -> Iterator[RestorePoint]:
        for item in self._below(_instance_key(instance_id), "POINT#"):
            point = RestorePoint.model_validate(_document(item))
            if kind in (None, point.kind):
                yield point

    def points_between(self, since: datetime, until: datetime) -> Iterator[RestorePoint]:
        for item in self._between("POINT", since, until):
            yield RestorePoint.model_validate(_document(item))

    def configuration(self, instance_id: str, point_id: str) -> InstanceConfiguration:
        item = self._get(_instance_key(instance_id), f"CONFIGURATION#{point_id}")
        if item is None:
            raise NotFoundError(
                "The catalog has no configuration for this restore point.",
                resource=point_id,
                remedy="Restore volumes from it, or the instance from a backup: its manifest knows.",
            )
        return InstanceConfiguration.model_validate(_document(item))

    def remove_point(self, point: RestorePoint) -> None:
        pk = _instance_key(point.instance_id)
        self._delete(pk, _point_key(point))
        if not any(True for _ in self._below(pk, f"POINT#{point.point_id}#")):
            self._delete(pk, f"CONFIGURATION#{point.point_id}")

    def _session_item(self, session: Session) -> dict[str, Any]:
        return {
            "pk": {"S": _session_key(session.session_id)},
            "sk": {"S": "SESSION"},
            **_time("SESSION", session.started_at, session.session_id),
            **_body(session.model_dump(mode="json"), session.session_id),
            **self._expiry(session.started_at),
        }

    def _expiry(self, at: datetime) -> dict[str, Any]:
        if self._record_for is None:
            return {}
        return {"expires_at": {"N": str(int((at + self._record_for).timestamp()))}}

    def _put(self, item: Mapping[str, Any], *, new: bool = False, version: int | None = None) -> bool:
        optional: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"} if new else {}
        if version is not None:
            item = {**item, "version": {"N": str(version)}}
            optional = {
                "ConditionExpression": "attribute_not_exists(#version) OR #version <= :version",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":version": item["version"]},
            }
        try:
            with translating("dynamodb:PutItem", resource=self._table):
                self._client.put_item(TableName=self._table, Item=item, **optional)
        except ConflictError:
            return False
        return True

    def _get(self, pk: str, sk: str) -> dict[str, Any] | None:
        with translating("dynamodb:GetItem", resource=self._table):
            told = self._client.get_item(
                TableName=self._table, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True
            )
        item: dict[str, Any] | None = told.get("Item")
        return item

    def _delete(self, pk: str, sk: str) -> None:
        with translating("dynamodb:DeleteItem", resource=self._table):
            self._client.delete_item(TableName=self._table, Key={"pk": {"S": pk}, "sk": {"S": sk}})

    def _below(self, pk: str, prefix: str) -> Iterator[dict[str, Any]]:
        return self._query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": pk}, ":sk": {"S": prefix}},
            ConsistentRead=True,
        )

    def _between(self, kind: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        """Items of one kind with ``since <= time < until``, month by month."""
        for month in _months(since, until):
            yield from self._query(
                IndexName=INDEX,
                KeyConditionExpression="gpk = :pk AND gsk BETWEEN :since AND :until",
                ExpressionAttributeValues={
                    ":pk": {"S": f"{kind}#{month}"},
                    ":since": {"S": stamp(since)},
                    ":until": {"S": stamp(until)},
                },
            )

    def _query(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        start: dict[str, Any] = {}
        while True:
            with translating("dynamodb:Query", resource=self._table):
                page = self._client.query(TableName=self._table, **arguments, **start)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _switch(item: Mapping[str, Any]) -> Switch:
    said = _document(item)
    return Switch(said["off"], said["by"], datetime.fromisoformat(said["at"]) if said["at"] else None)


def _session_key(session_id: str) -> str:
    return f"SESSION#{session_id}"


def _instance_key(instance_id: str) -> str:
    return f"INSTANCE#{instance_id}"


def _point_key(point: RestorePoint) -> str:
    """Sorts by time, because a point id begins with its slot; one key per kind and place."""
    place = point.repository or f"{point.account}:{point.region}"
    return f"POINT#{point.point_id}#{point.kind}#{place}"


def _time(kind: str, at: datetime, name: str) -> dict[str, Any]:
    moment = at.astimezone(UTC)
    return {"gpk": {"S": f"{kind}#{moment:%Y-%m}"}, "gsk": {"S": f"{stamp(moment)}#{name}"}}


def _months(since: datetime, until: datetime) -> list[str]:
    first, last = since.astimezone(UTC), until.astimezone(UTC)
    count = (last.year - first.year) * 12 + last.month - first.month
    return [
        f"{first.year + (first.month - 1 + n) // 12}-{(first.month - 1 + n) % 12 + 1:02}"
        for n in range(count + 1)
    ]


def _sorted_flags(point: RestorePoint) -> dict[str, Any]:
    return point.model_dump(mode="json") | {"flags": sorted(point.flags)}


def _body(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    if len(text) <= SHORT:
        return {"body": {"S": text}}
    packed = zlib.compress(text.encode())
    if len(packed) > LONGEST:
        raise PermanentError(
            f"{name} has {len(packed)} bytes when compressed; the catalog's items hold {LONGEST}.",
            resource=name,
            remedy="Split the policy into several of fewer accounts.",
        )
    return {"packed": {"B": packed}}


def _document(item: Mapping[str, Any]) -> Any:
    if "packed" in item:
        return json.loads(zlib.decompress(item["packed"]["B"]))
    return json.loads(item["body"]["S"])
