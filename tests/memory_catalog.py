"""The catalog in memory: it keeps the promises of its port, and copies what it is given."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from holdfast.errors import NotFoundError
from holdfast.model.inventory import InstanceConfiguration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Session
from holdfast.ports import Switch


class MemoryCatalog:
    """`ports.Catalog` in dictionaries; values are copied on the way in and out, as a table does."""

    def __init__(self) -> None:
        self.session_records: dict[str, Session] = {}
        self.part_records: dict[tuple[str, str], dict[str, Any]] = {}
        self.part_versions: dict[tuple[str, str], int] = {}
        self.point_records: dict[tuple[str, str, str, str], RestorePoint] = {}
        self.configurations: dict[tuple[str, str], InstanceConfiguration] = {}
        self.switch_records: dict[str, Switch] = {}

    def begin_session(self, session: Session) -> bool:
        return self.session_records.setdefault(session.session_id, session) is session

    def write_session(self, session: Session) -> None:
        self.session_records[session.session_id] = session

    def read_session(self, session_id: str) -> Session:
        if session_id not in self.session_records:
            raise NotFoundError("There is no such session.", resource=session_id)
        return self.session_records[session_id]

    def sessions(self, since: datetime, until: datetime) -> Iterator[Session]:
        found = [one for one in self.session_records.values() if since <= one.started_at < until]
        yield from sorted(found, key=lambda one: (one.started_at, one.session_id))

    def is_switched_off(self, policy: str) -> bool:
        return self.switch_records.get(policy, Switch(off=False)).off

    def switch_policy(self, policy: str, *, off: bool, by: str = "", at: datetime | None = None) -> None:
        self.switch_records[policy] = Switch(off, by, at)

    def switches(self) -> Mapping[str, Switch]:
        return dict(self.switch_records)

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
        if new and (session_id, part) in self.part_records:
            return False
        if version is not None and version < self.part_versions.get((session_id, part), version):
            return False
        if version is not None:
            self.part_versions[session_id, part] = version
        self.part_records[session_id, part] = copy.deepcopy(dict(body))
        return True

    def read_part(self, session_id: str, part: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.part_records.get((session_id, part)))

    def remove_part(self, session_id: str, part: str) -> None:
        self.part_records.pop((session_id, part), None)
        self.part_versions.pop((session_id, part), None)

    def parts(self, session_id: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for (owner, part), body in sorted(self.part_records.items(), key=lambda item: item[0]):
            if owner == session_id and part.startswith(prefix):
                yield part, copy.deepcopy(body)

    def add_point(self, point: RestorePoint, configuration: InstanceConfiguration | None = None) -> None:
        place = point.repository or f"{point.account}:{point.region}"
        self.point_records[point.instance_id, point.point_id, point.kind.value, place] = point
        if configuration is not None:
            self.configurations[point.instance_id, point.point_id] = configuration

    def points(self, instance_id: str, kind: Kind | None = None) -> Iterator[RestorePoint]:
        for key, point in sorted(self.point_records.items()):
            if key[0] == instance_id and kind in (None, point.kind):
                yield point

    def points_between(self, since: datetime, until: datetime) -> Iterator[RestorePoint]:
        found = [point for point in self.point_records.values() if since <= point.taken_at < until]
        yield from sorted(found, key=lambda point: (point.taken_at, point.instance_id, point.point_id))

    def configuration(self, instance_id: str, point_id: str) -> InstanceConfiguration:
        if (instance_id, point_id) not in self.configurations:
            raise NotFoundError("There is no configuration.", resource=point_id)
        return self.configurations[instance_id, point_id]

    def remove_point(self, point: RestorePoint) -> None:
        place = point.repository or f"{point.account}:{point.region}"
        self.point_records.pop((point.instance_id, point.point_id, point.kind.value, place), None)
        if not any(key[:2] == (point.instance_id, point.point_id) for key in self.point_records):
            self.configurations.pop((point.instance_id, point.point_id), None)
