"""What the gate may be asked, as JSON on a line, checked field by field. Pure.

    {"id":1,"op":"attach","pod":{fields of PodStarted},"interface":"tb…","mac":"02:…",
     "timeout_ms":5000}
    {"id":2,"op":"detach","uid":"…"}    {"id":3,"op":"status"}    {"id":4,"op":"drift"}
    {"id":5,"op":"contents"}    {"id":6,"op":"packet", …} (memory dataplane only)

Every answer carries its request's id and `ok`; a refusal has `code` and `error`.
"""

import dataclasses
import ipaddress
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tabard.agent.errors import Code, GateError
from tabard.events.observed import PodStarted
from tabard.identity.labels import LABELS_MAX

TIMEOUT_MS = 5_000
TIMEOUT_MS_MAX = 300_000
ADDRESSES_MAX = 16
"""Most addresses of one pod."""

_INTERFACE = re.compile(r"[^\s/:]{1,15}")  # IFNAMSIZ, dev_valid_name (net/core/dev.c)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Attach:
    pod: PodStarted
    interface: str
    """Host-side interface, in the node's namespace."""
    mac: str
    """The pod's own MAC address, `02:00:00:00:00:01`."""
    timeout_ms: int = TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class Detach:
    uid: str
    timeout_ms: int = TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class Status:
    pass


@dataclass(frozen=True, slots=True)
class Drift:
    pass


@dataclass(frozen=True, slots=True)
class Contents:
    """What the dataplane holds, entry by entry."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet for the memory dataplane to judge; the fields are MemoryDataplane.packet's."""

    fields: dict[str, Any]


Request = Attach | Detach | Status | Drift | Contents | Packet
_OPS: dict[str, type] = {
    "attach": Attach,
    "detach": Detach,
    "status": Status,
    "drift": Drift,
    "contents": Contents,
}
_ENVELOPE = ("id", "op")


def envelope(line: bytes) -> dict[str, Any]:
    """The request on `line`, unchecked but for being a JSON object; GateError if it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _invalid("the request", f"is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise _invalid("the request", "is not a JSON object; send one object on one line")
    return found


def read(found: dict[str, Any], node: str) -> Request:
    """The request that an envelope holds, for an agent on `node`; GateError names the field."""
    op = found.get("op")
    fields = {name: value for name, value in found.items() if name not in _ENVELOPE}
    if op == "packet":
        return Packet(fields)
    cls = _OPS.get(op) if isinstance(op, str) else None
    if cls is None:
        raise _invalid("op", f"is {op!r}; use one of {', '.join((*_OPS, 'packet'))}")
    _known(fields, cls, "")
    if cls is Attach and isinstance(fields.get("pod"), dict):
        _known(fields["pod"], PodStarted, "pod.")
    try:
        # Through JSON again: there an array may be a tuple, while everything else stays strict.
        request: Request = _adapter(cls).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _invalid(where, f"is wrong: {first['msg']}") from None
    if isinstance(request, Attach):
        _check(request, node)
    if isinstance(request, Attach | Detach) and not 1 <= request.timeout_ms <= TIMEOUT_MS_MAX:
        raise _invalid("timeout_ms", f"is {request.timeout_ms}; use 1 to {TIMEOUT_MS_MAX}")
    return request


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _known(fields: dict[str, Any], cls: type[Any], prefix: str) -> None:
    names = {field.name for field in dataclasses.fields(cls)}
    for name in fields:
        if name not in names:
            raise _invalid(f"{prefix}{name}", f"is unknown; known are {', '.join(sorted(names))}")


def _check(request: Attach, node: str) -> None:
    pod = request.pod
    for field in ("uid", "namespace", "name"):
        if not getattr(pod, field):
            raise _invalid(f"pod.{field}", "is empty")
    if pod.node != node:
        raise _invalid("pod.node", f"is {pod.node!r}, but this agent is {node!r}'s")
    if pod.host_network:
        raise _invalid("pod.host_network", "is true: such a pod has no interface to attach")
    count = len(pod.addresses)
    if not 1 <= count <= ADDRESSES_MAX or len(set(pod.addresses)) != count:
        raise _invalid("pod.addresses", f"must be 1 to {ADDRESSES_MAX} addresses, each once")
    for text in pod.addresses:
        if not _is_canonical(text):
            raise _invalid("pod.addresses", f"holds {text!r}, which is no pod's canonical address")
    if len(pod.labels) > LABELS_MAX or list(pod.labels) != sorted(dict(pod.labels).items()):
        raise _invalid("pod.labels", f"must be at most {LABELS_MAX} pairs, sorted, each key once")
    if not _INTERFACE.fullmatch(request.interface) or request.interface in (".", ".."):
        raise _invalid("interface", f"is {request.interface!r}, which is no interface's name")
    if not _MAC.fullmatch(request.mac):
        raise _invalid("mac", f"is {request.mac!r}; write it as 02:00:00:00:00:01")


def _is_canonical(text: str) -> bool:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    special = ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local
    return str(ip) == text and not special and not getattr(ip, "ipv4_mapped", None)


def _invalid(field: str, fact: str) -> GateError:
    return GateError(Code.INVALID, f"{field} {fact}")
