"""JSON documents in an object store: what the steps of an execution hand to each other.

A step that is repeated writes its document again; the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from holdfast.errors import ConflictError
from holdfast.ports import ObjectStore

ATTEMPTS = 5
"""Times that two writers of one key may cross each other before it is told."""


class StoredLists:
    """`ports.WorkLists` over any object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def write(self, key: str, document: Any) -> None:
        content = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        for attempt in range(ATTEMPTS):
            try:
                if attempt % 2 == 0:
                    return self._store.put_new(key, content)
                return self._store.replace(key, content, etag=self._store.stat(key).etag)
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    def read(self, key: str) -> Any:
        return json.loads(self._store.get(key))

    def keys(self, prefix: str) -> Iterator[str]:
        return (stat.key for stat in self._store.list(prefix))
