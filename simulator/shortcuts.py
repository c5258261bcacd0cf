"""What moto and botocore work out anew for every request or client although it never changes.

A world of forty days makes a hundred thousand requests and twenty thousand clients; without these shortcuts
most of its time is spent here. None of them changes an answer: each keeps a function of its arguments, or
looks where moto would find the same by searching.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.hooks
import botocore.regions
import botocore.useragent
import moto.core.responses
from botocore.client import ClientCreator
from botocore.endpoint import EndpointCreator
from botocore.hooks import EVENT_ALIASES, EventAliaser, NodeList
from moto.core.serialize import AttributePicker, XFormedAttributePicker
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.patches import Patches

_client_classes: dict[str, Any] = {}
_service_models: dict[str, Any] = {}
_endpoint_providers: dict[int, tuple[Any, Any]] = {}
_event_names: dict[str, str] = {}


def install(patches: Patches) -> None:
    """Put the shortcuts in place until ``patches`` are undone."""
    _keep_what_clients_are_made_of(patches)
    _keep_names(patches)
    _look_up_items(patches)
    _name_attributes_once(patches)


def _keep_what_clients_are_made_of(patches: Patches) -> None:
    """Classes, service models and endpoint rules of clients: they depend on the service alone."""

    def create_class(creator: ClientCreator, service_name: str, service_model: Any) -> Any:
        if service_name not in _client_classes:
            _client_classes[service_name] = original_class(creator, service_name, service_model)
        return _client_classes[service_name]

    def load_model(creator: ClientCreator, service_name: str, api_version: str | None = None) -> Any:
        if api_version is not None:
            return original_model(creator, service_name, api_version)
        if service_name not in _service_models:
            _service_models[service_name] = original_model(creator, service_name, None)
        return _service_models[service_name]

    def provide(**given: Any) -> Any:
        # The data is kept beside the provider, so that its id is not given to anything else.
        data = given["ruleset_data"]
        if id(data) not in _endpoint_providers:
            _endpoint_providers[id(data)] = data, original_provider(**given)
        return _endpoint_providers[id(data)][1]

    patches.set(vars(botocore.hooks)["_PrefixTrie"], "_recursive_copy", lambda _, node: _copied(node))
    patches.set(EndpointCreator, "_get_proxies", lambda *_: {})  # nothing leaves this process by a proxy
    original_class = patches.set(ClientCreator, "_create_client_class", create_class)
    original_model = patches.set(ClientCreator, "_load_service_model", load_model)
    original_provider = patches.set(botocore.regions, "EndpointProvider", provide)


def _copied(node: Any) -> Any:
    """The structure of a tree of handlers anew, the handlers as they are."""
    if isinstance(node, NodeList):
        return NodeList(node.first[:], node.middle[:], node.last[:])
    return {key: _copied(value) for key, value in node.items()} if isinstance(node, dict) else node


def _keep_names(patches: Patches) -> None:
    """Names of events, user agents and of the methods of moto's responses."""

    def alias(aliaser: EventAliaser, event_name: str) -> str:
        if len(vars(aliaser)["_event_aliases"]) != len(EVENT_ALIASES):
            return str(original_alias(aliaser, event_name))
        if event_name not in _event_names:
            _event_names[event_name] = original_alias(aliaser, event_name)
        return _event_names[event_name]

    original_alias = patches.set(EventAliaser, "_alias_event_name", alias)
    for module, name in (
        (botocore.useragent, "sanitize_user_agent_string_component"),
        (moto.core.responses, "method_names_from_class"),
    ):
        patches.set(module, name, cache(vars(module)[name]))


_wanted: ContextVar[DynamoType | None] = ContextVar("wanted", default=None)


def _look_up_items(patches: Patches) -> None:
    """Find the items of one partition by their key; moto sorts the whole table for every query."""

    def query(table: Table, hash_key: DynamoType | None, *given: Any, **named: Any) -> Any:
        indexed = given[6] if len(given) > 6 else named.get("index_name")
        token = _wanted.set(None if indexed else hash_key)
        try:
            return original_query(table, hash_key, *given, **named)
        finally:
            _wanted.reset(token)

    def all_items(table: Table) -> list[Any]:
        if not table.range_key_attr:
            return list(original_items(table))
        wanted = _wanted.get()
        found = table.items.values() if wanted is None else [table.items.get(wanted, {})]
        return sorted((item for items in found for item in items.values()), key=_keys)

    def cast_value(value: DynamoType) -> Any:
        return value.value if value.type == "S" else original_cast(value)

    original_query = patches.set(Table, "query", query)
    original_items = patches.set(Table, "all_items", all_items)
    original_cast = vars(DynamoType)["cast_value"].fget
    patches.set(DynamoType, "cast_value", property(cast_value))


def _keys(item: Any) -> tuple[Any, Any]:
    return item.hash_key.cast_value, item.range_key.cast_value


def _name_attributes_once(patches: Patches) -> None:
    """The names under which a response's attribute may be found depend on shapes, which live for ever."""
    for picker in (AttributePicker, XFormedAttributePicker):
        _remember_keys(patches, picker)


def _remember_keys(patches: Patches, picker: type[AttributePicker]) -> None:
    known: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def possible_keys(self: AttributePicker, context: Any) -> Iterator[str]:
        parent = getattr(context.shape, "parent", None)
        place = (context.key, context.shape, parent, type(context.obj), tuple(self.alias_providers))
        if place not in known:
            known[place] = tuple(dict.fromkeys(original(self, context)))
        return iter(known[place])

    original = patches.set(picker, "get_possible_keys", possible_keys)
