import dataclasses
from typing import Any, get_args, get_type_hints

import msgpack
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tabard.events import codec, ledger, observed, status
from tabard.events.codec import MESSAGE_BYTES_MAX, TYPES, decode, encode, type_name
from tabard.events.envelope import Envelope, Recorded
from tabard.events.errors import (
    EventError,
    NewerVersionError,
    UndecodableError,
    UnknownTypeError,
)
from tabard.events.ledger import EndpointRelabelled, EndpointsRebound, NodeAdded, SettingsAdopted

ENVELOPE = Envelope(b"0123456789abcdef", "key", 17, "OBSERVED/3", b"fedcba9876543210")
STOPPED = observed.PodStopped("uid")

_scalars = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.text())
_documents = st.dictionaries(
    st.text(),
    st.recursive(
        _scalars,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=8,
    ),
)


def _events(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    documents = {"document": _documents} if "document" in hints else {}
    return st.builds(cls, **documents)


every_event = st.sampled_from(sorted(TYPES, key=lambda cls: TYPES[cls])).flatmap(_events)
envelopes = st.builds(
    Envelope, st.binary(min_size=16, max_size=16), st.text(), st.integers(0, 1 << 62), st.text()
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(every_event, envelopes)
def test_every_event_comes_back_as_it_was_written(event: Any, envelope: Envelope) -> None:
    try:
        payload = encode(event, envelope)
    except OverflowError:
        reject()  # a number of more than 64 bits
    assert decode(payload, "LEDGER", 7) == Recorded("LEDGER", 7, envelope, event)
    assert encode(event, envelope) == payload


def test_every_member_of_the_unions_has_a_name_of_its_own() -> None:
    members = [
        member
        for union in (observed.ObservedEvent, ledger.LedgerEvent, status.StatusEvent)
        for member in get_args(union)
    ]
    assert set(members) == set(TYPES)
    assert len({name for name, _ in TYPES.values()}) == len(TYPES)


def test_an_event_is_an_array_of_eight_with_its_fields_by_name() -> None:
    assert msgpack.unpackb(encode(STOPPED, ENVELOPE)) == [
        "pod.stopped",
        1,
        b"0123456789abcdef",
        "key",
        17,
        "OBSERVED/3",
        b"fedcba9876543210",
        {"uid": "uid"},
    ]


def test_lists_in_a_document_stay_lists() -> None:
    document = {"spec": {"ingress": [{"from": []}], "deep": [[1], {"a": [2]}]}}
    event = observed.PolicySet(document)
    assert decode(encode(event, ENVELOPE), "OBSERVED", 1).event.document == document


def test_an_event_that_the_bus_would_refuse_is_refused_first() -> None:
    fits = observed.QuarantineRequested("OBSERVED", 1, "")
    room = MESSAGE_BYTES_MAX - len(encode(fits, ENVELOPE))
    at_bound = dataclasses.replace(
        fits, reason="x" * (room - 4)
    )  # msgpack: str 32 has a longer head
    assert len(encode(at_bound, ENVELOPE)) == MESSAGE_BYTES_MAX
    with pytest.raises(ValueError, match=f"'key' has {MESSAGE_BYTES_MAX + 1} bytes"):
        encode(dataclasses.replace(at_bound, reason=at_bound.reason + "x"), ENVELOPE)


def changed(index: int, value: Any) -> bytes:
    parts = msgpack.unpackb(encode(STOPPED, ENVELOPE))
    parts[index] = value
    return bytes(msgpack.packb(parts))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        encode(STOPPED, ENVELOPE)[:-1],
        encode(STOPPED, ENVELOPE) + b"\0",
        msgpack.packb(7),
        msgpack.packb({"type": "pod.stopped"}),
        msgpack.packb(["pod.stopped", 1]),
        msgpack.packb([*msgpack.unpackb(encode(STOPPED, ENVELOPE)), b"chain", 1]),
        *(changed(index, [1]) for index in range(8)),
        changed(1, True),
        changed(1, 0),
        changed(1, -1),
        changed(2, "id"),
        changed(4, 1.5),
        changed(7, {}),
        changed(7, {"uid": 7}),
        changed(7, {"uid": b"uid"}),
        changed(7, {"uid": "uid", "more": 1}),
        changed(7, {1: "uid"}),
    ],
)
def test_bytes_that_are_no_event_are_refused_with_their_place(payload: bytes) -> None:
    with pytest.raises(UndecodableError, match=r"^OBSERVED/9: "):
        decode(payload, "OBSERVED", 9)


def test_a_field_of_the_wrong_type_is_named() -> None:
    event = dict(msgpack.unpackb(encode(observed.NodeJoined("n", (), ()), ENVELOPE))[7])
    event["addresses"] = ["10.0.0.1", 2]
    payload = msgpack.packb(["node.joined", 1, b"i", "k", 0, "", b"", event])
    with pytest.raises(UndecodableError, match=r"node\.joined\.addresses\.1: "):
        decode(payload, "OBSERVED", 1)


@pytest.mark.parametrize("depth", [700, 5_000])
def test_a_document_that_is_too_deep_is_refused(depth: int) -> None:
    payload = encode(observed.PolicySet({"a": "here"}), ENVELOPE)
    with pytest.raises(UndecodableError):
        decode(payload.replace(b"\xa4here", b"\x91" * depth + b"\xc0"), "OBSERVED", 1)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_but_an_event_error(payload: bytes) -> None:
    with pytest.raises(EventError):
        decode(payload, "OBSERVED", 1)


def test_an_unknown_type_is_told_apart() -> None:
    with pytest.raises(UnknownTypeError, match=r"LEDGER/4: event type 'pod.flew' is unknown"):
        decode(changed(0, "pod.flew"), "LEDGER", 4)


def test_a_newer_version_is_told_apart() -> None:
    with pytest.raises(NewerVersionError, match="version 2, this release reads up to 1"):
        decode(changed(1, 2), "LEDGER", 4)


@pytest.mark.parametrize(
    ("name", "data", "event"),
    [
        (
            "node.joined",
            {"name": "n", "addresses": ["192.0.2.1"], "pod_cidrs": []},
            observed.NodeJoined("n", ("192.0.2.1",), ()),
        ),
        ("node.added", {"name": "n", "addresses": [], "pod_cidrs": []}, NodeAdded("n", (), ())),
        (
            "endpoint.relabelled",
            {"uid": "u", "identity": 256, "labels": []},
            EndpointRelabelled("u", 256, ()),
        ),
        (
            "endpoint.rebound",
            {"namespace": "x", "changes": [["u", 256]]},
            EndpointsRebound("x", (("u", 256),)),
        ),
        (
            "settings.adopted",
            {
                "cluster": "c",
                "cluster_id": 0,
                "cluster_bits": 8,
                "include": [],
                "exclude": [],
                "fixed": [],
                "retire_grace_ms": 5,
            },
            SettingsAdopted("c", 0, 8, (), (), (), 5, "default"),
        ),
    ],
)
def test_what_was_stored_before_a_field_came_is_read_as_without(
    name: str, data: dict[str, Any], event: Any
) -> None:
    payload = msgpack.packb([name, 1, b"i", "k", 0, "", b"", data])
    assert decode(payload, "LEDGER", 1).event == event


def test_an_enforcement_that_is_none_is_refused() -> None:
    payload = encode(SettingsAdopted("c", 0, 8, (), (), (), 5), ENVELOPE)
    with pytest.raises(UndecodableError, match=r"settings\.adopted\.enforcement"):
        decode(payload.replace(b"\xa7default", b"\xa7defaulx"), "LEDGER", 1)


def test_an_absent_field_with_a_default_has_it() -> None:
    payload = msgpack.packb(
        ["policy.set", 1, b"i", "k", 0, "", b"", {"document": {"kind": "NetworkPolicy"}}]
    )
    assert decode(payload, "OBSERVED", 1).event.origin == ""


class TestUpcasting:
    """An event type at version 3: `uid` was `id` in version 1 and had no prefix in version 2."""

    TYPES = {  # noqa: RUF012 - a constant
        "pod.stopped": dataclasses.replace(codec._by_class()[observed.PodStopped], version=3)
    }
    UPCASTERS = {  # noqa: RUF012 - a constant
        ("pod.stopped", 1): lambda data: {"uid": data["id"]},
        ("pod.stopped", 2): lambda data: {"uid": f"pod-{data['uid']}"},
    }

    def read(self, version: int, data: dict[str, str], upcasters: Any = None) -> Any:
        payload = msgpack.packb(["pod.stopped", version, b"i", "k", 0, "", b"", data])
        known = self.UPCASTERS if upcasters is None else upcasters
        return decode(payload, "LEDGER", 1, types=self.TYPES, upcasters=known).event

    def test_old_versions_go_step_by_step_to_the_present_one(self) -> None:
        assert self.read(1, {"id": "7"}) == observed.PodStopped("pod-7")
        assert self.read(2, {"uid": "7"}) == observed.PodStopped("pod-7")
        assert self.read(3, {"uid": "7"}) == observed.PodStopped("7")

    def test_a_missing_step_is_named(self) -> None:
        with pytest.raises(UndecodableError, match=r"no upcaster from pod\.stopped version 2"):
            self.read(1, {"id": "7"}, {("pod.stopped", 1): self.UPCASTERS["pod.stopped", 1]})

    def test_an_upcaster_that_finds_other_data_refuses_the_event(self) -> None:
        with pytest.raises(UndecodableError, match=r"pod\.stopped version 1 .*'id'"):
            self.read(1, {"other": "7"})


def test_every_old_version_has_an_upcaster() -> None:
    for name, version in TYPES.values():
        for old in range(1, version):
            assert (name, old) in codec.UPCASTERS


def test_types_are_named_as_in_subjects() -> None:
    assert type_name(STOPPED) == "pod.stopped"
