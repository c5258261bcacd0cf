"""Reads a request off the wire: which operation, with which parameters.

Calls in process and over loopback are read alike, because what is permitted must not depend on how a call
came.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from botocore.parsers import RpcV2CBORParser
from moto.core.parse import EC2QueryParser, QueryParser
from moto.core.utils import get_service_model
from werkzeug.datastructures import MultiDict

from simulator.calls import Call

# The service whose model describes the calls that are signed for an IAM prefix.
_MODELS = {"states": "stepfunctions", "ses": "sesv2"}
_VERBS = {"GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """An operation and its parameters under the names of the API."""

    operation: str
    parameters: Mapping[str, Any]


def parse(call: Call) -> Parsed:
    """Operation and parameters of a call. Raises ValueError for a service or operation without a model."""
    try:
        model = get_service_model(_MODELS.get(call.service, call.service))
    except Exception as error:
        raise ValueError(f"{call.name}: the service is not known") from error
    split = urlsplit(call.url)
    operation, in_path = call.operation, {}
    protocols = model.metadata.get("protocols") or [model.metadata["protocol"]]
    if any(protocol.startswith("rest") for protocol in protocols):
        operation, in_path = _routed(call, model.service_name, split.path)
    try:
        shape = model.operation_model(operation)
    except Exception as error:
        raise ValueError(f"{call.name}: the operation is not known") from error
    if call.service == "s3":
        return Parsed(operation, {**in_path, **dict(parse_qsl(split.query, keep_blank_values=True))})
    body = call.body
    if body[:1] in (b"{", b"[") or not body:
        document = json.loads(body) if body.strip() else {}
        in_query = {key: values[0] for key, values in parse_qs(split.query).items()}
        return Parsed(operation, {**in_query, **(document if isinstance(document, dict) else {}), **in_path})
    if body[:1] in (b"\xa0", b"\xbf") or 0xA0 <= body[0] <= 0xBF:
        reader = io.BufferedReader(io.BytesIO(body))  # type: ignore[arg-type]
        return Parsed(operation, RpcV2CBORParser().parse_data_item(reader))
    reader_class = EC2QueryParser if call.service == "ec2" else QueryParser
    values = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
    parsed = reader_class(shape).parse({"values": values})  # type: ignore[typeddict-item]
    return Parsed(operation, parsed)


def _routed(call: Call, service: str, path: str) -> tuple[str, dict[str, str]]:
    """Operation and path parameters of a REST call."""
    if call.service == "s3":
        return call.operation, _bucket_and_key(call)
    for pattern, verb, name in _routes(service):
        if call.operation not in (*_VERBS, name):
            continue
        found = pattern.fullmatch(unquote(path).rstrip("/") or "/")
        if found and (verb == call.method or call.operation == name):
            return name, found.groupdict()
    return call.operation, {}


@functools.cache
def _routes(service: str) -> list[tuple[re.Pattern[str], str, str]]:
    """Path patterns of a REST service, those with most fixed text first."""
    model = get_service_model(service)
    routes = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        template = http["requestUri"].split("?")[0].rstrip("/") or "/"
        parts = re.split(r"\{(\w+)\+?\}", template)
        pattern = "".join(
            f"(?P<{part}>.+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
        )
        routes.append((len("".join(parts[::2])), re.compile(pattern), http["method"], name))
    return [route[1:] for route in sorted(routes, key=lambda route: -route[0])]


def _bucket_and_key(call: Call) -> dict[str, str]:
    """Bucket and key of an S3 request, in path style or as a virtual host."""
    split = urlsplit(call.url)
    path = unquote(split.path.lstrip("/"))
    host = split.hostname or ""
    if found := re.fullmatch(r"(.+)\.s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com", host):
        return {"Bucket": found.group(1), "Key": path}
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}
