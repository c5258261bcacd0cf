"""Keeps a simulated AWS in its directory between processes.

moto's backends are pickled whole, because their objects refer to each other across services; locks, threads
and open files are made anew. The file is code as much as it is content: open only directories of your own.
"""

from __future__ import annotations

import fcntl
import importlib
import io
import marshal
import os
import pickle
import sys
import threading
import types
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from moto.core.base_backend import BackendDict
from moto.moto_api._internal import mock_random

from holdfast.errors import ConfigurationError
from simulator.faults import FaultPlan
from simulator.world import World

FORMAT = 1
_NAME = "state"
_DEPTH = 200_000
_STACK_BYTES = 512 * 1024 * 1024
_ENCODING = serialization.Encoding.PEM
_PUBLIC: dict[bool, tuple[Any, ...]] = {
    True: (_ENCODING,),
    False: (_ENCODING, serialization.PublicFormat.SubjectPublicKeyInfo),
}
_LOCKS = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


@dataclass
class Saved:
    """Everything but the files: blocks and objects lie beside it."""

    format: int
    world: World
    now: datetime
    requests: Counter[str]
    faults: FaultPlan
    kept: dict[str, Any]
    chance: object
    files: list[str]
    backends: dict[tuple[str, str], Contents]


@dataclass
class Contents:
    """What one service holds: its backends by account and Region, and what else hangs on the service."""

    accounts: dict[str, dict[str, Any]]
    extras: dict[str, Any]


class DirectoryLock:
    """Keeps a second process out of the directory while this one has it open."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / ".lock").open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            message = "another process has this simulated AWS open"
            raise ConfigurationError(
                message, resource=str(directory), remedy="Wait until it ends."
            ) from error

    def release(self) -> None:
        """Let others in."""
        self._file.close()


def load(directory: Path) -> Saved | None:
    """What was saved in ``directory``, None when nothing was. Raises ConfigurationError if unreadable."""
    path = directory / _NAME
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        saved: Saved = _with_deep_stack(lambda: _Unpickler(io.BytesIO(content)).load())
    except Exception as error:
        message = f"the saved state cannot be read: {error}"
        raise ConfigurationError(message, resource=str(path), remedy="Create the simulation anew.") from error
    found = getattr(saved, "format", None)
    if found != FORMAT:
        message = f"the saved state has format {found}, this version reads {FORMAT}"
        raise ConfigurationError(message, resource=str(path), remedy="Create the simulation anew.")
    return saved


def save(simulator: Any) -> None:
    """Write the state of ``simulator``: whole, or not at all."""
    simulator.s3.describe()
    saved = Saved(
        format=FORMAT,
        world=simulator.world,
        now=simulator.clock.now(),
        requests=simulator.requests,
        faults=simulator.faults,
        kept=simulator.kept,
        chance=mock_random.getstate(),
        files=simulator.ebs.files.names(),
        backends={place: _contents(held) for place, held in _backend_dicts().items() if held},
    )
    buffer = io.BytesIO()
    _with_deep_stack(lambda: _Pickler(buffer, protocol=5).dump(saved))
    path = simulator.directory / _NAME
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def restore_backends(simulator: Any, saved: Saved) -> None:
    """Give moto the backends of ``saved`` back."""
    for (module, name), contents in saved.backends.items():
        held: BackendDict[Any] = getattr(importlib.import_module(module), name)
        held.__dict__.update(contents.extras)
        for account, regions in contents.accounts.items():
            for region, backend in regions.items():
                dict.__setitem__(held[account], region, backend)
    mock_random.setstate(saved.chance)  # type: ignore[arg-type]
    simulator.ebs.files.adopt(saved.files)
    simulator.identities.forget_sessions()
    simulator.s3.adopt()


_OWN_ATTRIBUTES = {"backend", "service_name", "_use_boto3_regions", "_additional_regions", "_id"}


def _contents(held: BackendDict[Any]) -> Contents:
    return Contents(
        accounts={account: dict(dict.items(regions)) for account, regions in dict.items(held)},
        extras={name: value for name, value in held.__dict__.items() if name not in _OWN_ATTRIBUTES},
    )


def _backend_dicts() -> dict[tuple[str, str], BackendDict[Any]]:
    """Every service's backends that exist in this process, by module and name."""
    found: dict[int, tuple[tuple[str, str], BackendDict[Any]]] = {}
    for module_name in sorted(name for name in sys.modules if name.startswith("moto.") and ".models" in name):
        for name, value in list(vars(sys.modules[module_name]).items()):
            if isinstance(value, BackendDict):
                home = (module_name, name)
                defined_here = value.backend.__module__ == module_name
                if id(value) not in found or defined_here:
                    found[id(value)] = (home, value)
    return dict(found.values())


class _Pickler(pickle.Pickler):
    """Pickles what moto holds; what belongs to a process is replaced by a recipe to make it anew."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self._services = {id(held): place for place, held in _backend_dicts().items()}

    def persistent_id(self, item: Any) -> Any:
        """Services themselves are global: only their name is written."""
        return self._services.get(id(item)) if isinstance(item, BackendDict) else None

    def reducer_override(self, item: Any) -> Any:
        """Recipes for locks, events, threads, and functions that have no importable name."""
        kind = type(item)
        if kind in _LOCKS:
            return _LOCKS[kind], ()
        if kind is weakref.WeakValueDictionary:
            return weakref.WeakValueDictionary, (dict(item),)
        if kind is threading.Event:
            return _event, (item.is_set(),)
        if isinstance(item, defaultdict) and kind is not defaultdict:
            return _default_dict, (kind, item.default_factory), item.__dict__, None, iter(item.items())
        if isinstance(item, (threading.Thread, threading.Condition, threading.Semaphore, io.IOBase)):
            return _nothing, ()
        if kind.__module__.startswith("cryptography.") and hasattr(item, "private_bytes"):
            return _private_key, (_private_pem(item),)
        if kind.__module__.startswith("cryptography.") and hasattr(item, "public_bytes"):
            return _public_part, (
                item.public_bytes(*_PUBLIC[hasattr(item, "issuer")]),
                hasattr(item, "issuer"),
            )
        if kind is types.FunctionType and not _is_importable(item):
            cells = tuple(cell.cell_contents for cell in item.__closure__ or ())
            return _function, (marshal.dumps(item.__code__), item.__module__, item.__defaults__, cells)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, place: tuple[str, str]) -> Any:
        return getattr(importlib.import_module(place[0]), place[1])


def _is_importable(function: types.FunctionType) -> bool:
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(_ENCODING, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem


def _private_key(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def _public_part(pem: bytes, is_certificate: bool) -> Any:
    return x509.load_pem_x509_certificate(pem) if is_certificate else serialization.load_pem_public_key(pem)


def _event(is_set: bool) -> threading.Event:
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _default_dict(kind: type[defaultdict[Any, Any]], factory: Callable[[], Any] | None) -> Any:
    """A subclass whose own constructor wants something else; its items and attributes follow."""
    made = kind.__new__(kind)
    defaultdict.__init__(made, factory)
    return made


def _nothing() -> None:
    return None


def _function(code: bytes, module: str, defaults: tuple[Any, ...] | None, cells: tuple[Any, ...]) -> Any:
    space = vars(importlib.import_module(module))
    body: types.CodeType = marshal.loads(code)  # noqa: S302 written by this module's own save
    return types.FunctionType(
        body, space, body.co_name, defaults, tuple(types.CellType(cell) for cell in cells)
    )


def _with_deep_stack(work: Callable[[], Any]) -> Any:
    """Run ``work`` where object graphs may be as deep as they are: pickle recurses along every reference."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 raised again in the caller's thread
            outcome.append((None, error))

    limit, size = sys.getrecursionlimit(), threading.stack_size(_STACK_BYTES)
    sys.setrecursionlimit(_DEPTH)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
