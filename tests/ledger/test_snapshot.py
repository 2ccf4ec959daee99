import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import Desk, started
from scenarios import stories
from tabard.events.ledger import (
    NodeRefused,
    NumbersExhausted,
    PodRefused,
    PolicyAccepted,
    PolicyRefused,
    SettingsAdopted,
    WorkloadAccepted,
)
from tabard.ledger.snapshot import CHUNK_ROWS, SCHEMA, SnapshotError, freeze, thaw
from tabard.ledger.state import EndpointState, Identity, LostNode, Node, Relabel, State

ORDERED = (
    *("identities", "retired", "idle", "endpoints", "tombstones", "waiting", "policies"),
    *("relabels", "refused_nodes"),
)


def told(story: list[Any]) -> State:
    desk = Desk()
    for event in story:
        if event == "tick":
            desk.tick(after_ms=500)
        else:
            desk.observe(event)
    return desk.state


@given(story=stories)
@settings(deadline=None)
def test_a_state_comes_back_as_it_was(story: list[Any]) -> None:
    state = told(story)
    state.quarantined[("LEDGER", 7)] = "why"
    state.names = {"b.io": {"192.0.2.7": 5, "192.0.2.1": 3}, "a.io": {"2001:db8::1": 4}}
    state.lost = {name: LostNode(name, 3, 7) for name in ("n2", "n1")}
    state.doubtful = {300: 5, 260: 4}
    state.exhausted = NumbersExhausted(2, (("k8s:app", 2),))
    for name in ("n4", "n3"):
        state.refused_nodes[name] = NodeRefused(name, ("192.0.2.1",), (), (("a", "b"),), "why")
        state.relabels[name] = Relabel(name, 300, (("a", "b"),), 3, 4)
    back = thaw(freeze(state))
    assert back == state
    for name in ORDERED:
        assert list(getattr(back, name)) == list(getattr(state, name)), name
    for namespace, uids in state.by_namespace.items():
        assert list(back.by_namespace[namespace]) == list(uids)
    assert freeze(back) == freeze(state)


def test_an_empty_state_comes_back() -> None:
    assert thaw(freeze(State())) == State()


def test_a_section_of_many_rows_is_in_several_chunks() -> None:
    desk = Desk(checked=False)
    for number in range(CHUNK_ROWS + 1):
        desk.observe(started(f"p{number}"))
    chunks = freeze(desk.state)
    assert sum(b"endpoints" in chunk[:20] for chunk in chunks) == 2
    assert thaw(chunks) == desk.state


def test_endpoints_of_several_chunks_hold_one_copy_of_what_they_share() -> None:
    desk = Desk(checked=False)
    for number in range(CHUNK_ROWS + 1):
        desk.observe(started(f"p{number}", {"app": "web"}))
    back = list(thaw(freeze(desk.state)).endpoints.values())
    for name in ("namespace", "node", "labels", "service_account", "ports", "owner"):
        assert getattr(back[0], name) is getattr(back[-1], name), name


def test_a_frozen_state_shares_nothing_with_the_living_one() -> None:
    desk = Desk()
    desk.observe(started("a", {}, "10.0.0.1"))
    frozen = freeze(desk.state)
    before = thaw(frozen)
    desk.observe(started("b", {}, "10.0.0.1"))
    assert thaw(frozen) == before != desk.state


@given(data=st.data())
@settings(deadline=None)
def test_any_flipped_bit_or_lost_chunk_is_a_typed_error(data: st.DataObject) -> None:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}, "10.0.0.1"))
    chunks = freeze(desk.state)
    at = data.draw(st.integers(0, len(chunks) - 1))
    damaged = list(chunks)
    if data.draw(st.booleans()):
        chunk = bytearray(chunks[at])
        bit = data.draw(st.integers(0, len(chunk) * 8 - 1))
        chunk[bit // 8] ^= 1 << bit % 8
        damaged[at] = bytes(chunk)
    else:
        del damaged[at]
    with pytest.raises(SnapshotError):
        thaw(damaged)


@given(chunks=st.lists(st.binary(max_size=40), max_size=4))
def test_bytes_of_unknown_origin_are_a_typed_error(chunks: list[bytes]) -> None:
    with pytest.raises(SnapshotError):
        thaw(chunks)


def test_another_schema_is_a_typed_error() -> None:
    _, *rest = msgpack.unpackb(freeze(State())[0])
    with pytest.raises(SnapshotError, match=f"has schema {SCHEMA + 1}, this release reads"):
        thaw([msgpack.packb((SCHEMA + 1, *rest))])


def test_a_change_of_what_a_state_holds_takes_a_new_schema_number() -> None:
    held = (
        State,
        Identity,
        EndpointState,
        Relabel,
        Node,
        LostNode,
        NodeRefused,
        NumbersExhausted,
        PodRefused,
        PolicyAccepted,
        PolicyRefused,
        SettingsAdopted,
        WorkloadAccepted,
    )
    fields = {
        cls.__name__: " ".join(field.name for field in dataclasses.fields(cls)) for cls in held
    }
    # If this fails, add the field to `freeze` and `thaw`, raise SCHEMA, and only then mend it here.
    assert (SCHEMA, fields) == (
        6,
        {
            "State": "sequence chain epoch holder settings cursors nodes lost refused_nodes "
            "namespaces identities numbers retired doubtful exhausted idle endpoints relabels "
            "bindings by_node by_namespace tombstones waiting refused_pods policies "
            "refused_policies workloads names quarantined",
            "Identity": "labels allocated_at users idle_since",
            "EndpointState": "uid namespace name node identity addresses labels started_at "
            "service_account ports owner host_network bound_at",
            "Relabel": "uid identity labels planned_at since",
            "Node": "name addresses pod_cidrs labels",
            "LostNode": "name watermark lost_at",
            "NodeRefused": "name addresses pod_cidrs labels reason",
            "NumbersExhausted": "identities heaviest",
            "PodRefused": "uid namespace name reason retry node addresses labels started_at "
            "service_account ports owner host_network",
            "PolicyAccepted": "kind namespace name document origin",
            "PolicyRefused": "kind namespace name reason origin",
            "SettingsAdopted": "cluster cluster_id cluster_bits include exclude fixed "
            "retire_grace_ms enforcement names_kept_ms",
            "WorkloadAccepted": "kind namespace name document origin",
        },
    )
