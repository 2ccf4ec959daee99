import json
from typing import Any

import pytest

from agent.rig import NODE, attaching, pod
from tabard.agent.errors import Code, GateError
from tabard.agent.requests import (
    ADDRESSES_MAX,
    TIMEOUT_MS_MAX,
    Attach,
    Contents,
    Detach,
    Drift,
    Packet,
    Request,
    Status,
    envelope,
    read,
)
from tabard.identity.labels import LABELS_MAX

POD = pod("a", app="web")


def request(**changes: Any) -> dict[str, Any]:
    """An attach as it is read from its line."""
    found: dict[str, Any] = json.loads(
        json.dumps({"id": 1, "op": "attach", **attaching(POD), "timeout_ms": 100})
    )
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            found[outer][inner] = value
        else:
            found[outer] = value
    return found


def taken(line: dict[str, Any]) -> Request:
    return read(envelope(json.dumps(line).encode()), NODE)


def test_each_request_is_read() -> None:
    assert taken(request()) == Attach(POD, "tba", "02:00:00:00:00:01", 100)
    assert taken({"op": "detach", "uid": "a"}) == Detach("a", 5_000)
    assert taken({"id": "x", "op": "status"}) == Status()
    assert taken({"op": "drift"}) == Drift()
    assert taken({"op": "contents"}) == Contents()
    assert taken({"op": "packet", "hook": "from_pod"}) == Packet({"hook": "from_pod"})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"op": "attack"}, "op"),
        ({"op": ["attach"]}, "op"),
        ({"pod": 1}, "pod"),
        ({"color": "red"}, "color"),
        ({"pod__color": "red"}, "pod.color"),
        ({"pod__uid": 5}, "pod.uid"),
        ({"pod__uid": ""}, "pod.uid"),
        ({"pod__namespace": ""}, "pod.namespace"),
        ({"pod__name": None}, "pod.name"),
        ({"pod__node": "n2"}, "pod.node"),
        ({"pod__addresses": []}, "pod.addresses"),
        ({"pod__addresses": "10.244.1.5"}, "pod.addresses"),
        ({"pod__addresses": ["10.244.1.5", "10.244.1.5"]}, "pod.addresses"),
        ({"pod__addresses": ["10.244.1.05"]}, "pod.addresses"),
        ({"pod__addresses": ["FD00::1"]}, "pod.addresses"),
        ({"pod__addresses": ["::ffff:10.0.0.1"]}, "pod.addresses"),
        ({"pod__addresses": ["127.0.0.1"]}, "pod.addresses"),
        ({"pod__addresses": ["224.0.0.1"]}, "pod.addresses"),
        (
            {"pod__addresses": [f"10.244.1.{n}" for n in range(ADDRESSES_MAX + 1)]},
            "pod.addresses",
        ),
        ({"pod__labels": [["b", "1"], ["a", "1"]]}, "pod.labels"),
        ({"pod__labels": [["a", "1"], ["a", "2"]]}, "pod.labels"),
        ({"pod__labels": [["a"]]}, "pod.labels"),
        ({"pod__labels": [[f"{n:05}", ""] for n in range(LABELS_MAX + 1)]}, "pod.labels"),
        ({"pod__ports": [["http", "80", "TCP"]]}, "pod.ports"),
        ({"pod__host_network": True}, "pod.host_network"),
        ({"interface": ""}, "interface"),
        ({"interface": "sixteen-letters-"}, "interface"),
        ({"interface": "../escape"}, "interface"),
        ({"mac": "02:00:00:00:00"}, "mac"),
        ({"mac": "02-00-00-00-00-01"}, "mac"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": TIMEOUT_MS_MAX + 1}, "timeout_ms"),
        ({"timeout_ms": "5000"}, "timeout_ms"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(GateError) as caught:
        taken(request(**changes))
    assert caught.value.code is Code.INVALID
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize(
    "field", ["pod", "interface", "mac", "pod.uid", "pod.node", "pod.addresses", "pod.started_at"]
)
def test_a_missing_field_is_named(field: str) -> None:
    line = request()
    outer, _, inner = field.partition(".")
    if inner:
        del line[outer][inner]
    else:
        del line[outer]
    with pytest.raises(GateError, match=f"^{field} is wrong"):
        taken(line)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"op":"status"} {}']
)
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(GateError, match="the request is not"):
        envelope(line)


def test_the_most_of_everything_is_taken() -> None:
    found = taken(
        request(
            pod__addresses=[f"10.244.1.{n}" for n in range(1, ADDRESSES_MAX + 1)],
            pod__labels=[[f"{n:05}", ""] for n in range(LABELS_MAX)],
            timeout_ms=TIMEOUT_MS_MAX,
            interface="fifteen-letters",
        )
    )
    assert isinstance(found, Attach)
    assert len(found.pod.labels) == LABELS_MAX
