import copy
import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import Desk, joined, namespace, started, stopped, tiny_space
from ledgers import DEPLOYMENT, POLICY, small
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
from tabard.events.observed import NodeJoined, PolicySet, WorkloadSet
from tabard.ledger.digest import COLUMNS, Sum, digest, rows
from tabard.ledger.fold import apply
from tabard.ledger.snapshot import freeze, thaw
from tabard.ledger.state import EndpointState, Identity, LostNode, Node, Relabel, State

DERIVED = {"numbers", "by_node", "by_namespace"}
"""Fields of State that say again what others do."""
QUEUES = ("idle", "waiting", "refused_pods", "refused_policies", "refused_nodes", "relabels")
"""Those whose order decides something."""


def told(story: list[Any], desk: Desk | None = None) -> State:
    desk = desk or Desk()
    for event in story:
        if event == "tick":
            desk.tick(after_ms=500)
        else:
            desk.observe(event)
    return desk.state


def full() -> State:
    """A state in which every section has rows, and those with an order have two."""
    desk = tiny_space(6)
    broken = [{**POLICY, "metadata": {"name": name, "namespace": "shop"}} for name in "vw"]
    outside = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 1, "endPort": 9}]}
    state = told(
        [
            joined("n1"),
            NodeJoined("n2", (), (), (("role", "edge"),)),
            namespace("shop", team="red"),
            started("a", {"app": "a"}, "10.0.0.1", ports=(("http", 80, "TCP"),), owner="Pod/x/a"),
            started("gone", {"app": "gone"}),
            stopped("gone"),
            "tick",
            "tick",
            started("b", {"app": "b"}, "10.0.0.2"),
            *(started(uid, {"app": uid}) for uid in ("idle-1", "idle-2")),
            *(stopped(uid) for uid in ("idle-1", "idle-2")),
            *(started(uid, {"app": uid}) for uid in ("c", "d", "e", "late-1", "late-2")),
            started("no label", {"app": "a"}),
            *(PolicySet(document | {"spec": {"oops": 1}}, "f.yaml:1") for document in broken),
            PolicySet(POLICY | {"spec": POLICY["spec"] | {"ingress": [outside]}}, "f.yaml:1"),
            WorkloadSet(DEPLOYMENT, "f.yaml:9"),
        ],
        desk,
    )
    state.chain, state.epoch, state.holder = b"c" * 16, 1, "h"
    state.retired[9] = 3
    state.names = {"a.io": {"192.0.2.7": 5, "2001:db8::1": 3}}
    state.lost["n2"] = LostNode("n2", 3, 7)
    state.doubtful[9] = 3
    state.exhausted = NumbersExhausted(2, (("k8s:app", 2),))
    for name in ("n3", "n4"):
        state.refused_nodes[name] = NodeRefused(name, ("192.0.2.1",), (), (("a", "b"),), "why")
        state.relabels[name] = Relabel(name, 300, (("a", "b"),), 3, 4)
    assert state.settings is not None
    state.settings = dataclasses.replace(state.settings, enforcement="always", names_kept_ms=1)
    return state


def test_the_state_of_these_tests_has_rows_in_every_section() -> None:
    assert {section for section, *_ in rows(full())} == set(COLUMNS)
    state = full()
    for queue in QUEUES:
        assert len(getattr(state, queue)) > 1


def test_every_row_has_its_sections_columns() -> None:
    for section, *values in rows(full()):
        assert len(values) == len(COLUMNS[section]), section


@pytest.mark.parametrize(
    ("section", "cls", "under_another_name"),
    [
        ("settings", SettingsAdopted, set()),
        ("node", Node, set()),
        ("identity", Identity, {"number"}),
        ("endpoint", EndpointState, set()),
        ("waiting", PodRefused, {"place"}),
        ("refused_pod", PodRefused, {"place"}),
        ("policy", PolicyAccepted, set()),
        ("refused_policy", PolicyRefused, {"place"}),
        ("workload", WorkloadAccepted, set()),
        ("lost_node", LostNode, set()),
        ("refused_node", NodeRefused, {"place"}),
        ("exhausted", NumbersExhausted, set()),
        ("relabel", Relabel, {"place"}),
    ],
)
def test_a_field_of_the_state_is_a_column_or_has_a_section(
    section: str, cls: type, under_another_name: set[str]
) -> None:
    """A new field is a section of its own, `section.field`: see the form's own words."""
    fields = {field.name for field in dataclasses.fields(cls)}
    later = {name.partition(".")[2] for name in COLUMNS if name.startswith(f"{section}.")}
    assert fields == set(COLUMNS[section]) - under_another_name | later


def variants(value: Any) -> list[Any]:
    """Values that differ from `value` in one place, however deep in it."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case str():
            return [value + "x"]
        case bytes():
            return [value + b"x"]
        case None:
            return [7]
        case tuple() | list():
            return [type(value)([*value, "x"]), *([value[1:]] if value else [])]
        case dict():
            found = []
            for key, held in value.items():
                found.append(type(value)((k, v) for k, v in value.items() if k != key))
                found += [type(value)(value | {key: new}) for new in variants(held)]
            return found
    return [
        dataclasses.replace(value, **{field.name: new})
        for field in dataclasses.fields(value)
        for new in variants(getattr(value, field.name))
    ]


def test_whatever_changes_in_the_state_changes_the_digest() -> None:
    state = full()
    seen = {digest(state): "as it was"}
    for field in dataclasses.fields(State):
        if field.name in DERIVED or field.name == "idle":  # whose values say nothing
            continue
        for number, new in enumerate(variants(getattr(state, field.name))):
            other = copy.copy(state)
            setattr(other, field.name, new)
            what = f"{field.name} {number}"
            assert digest(other) not in seen, f"{what} and {seen[digest(other)]}"
            seen[digest(other)] = what
    assert len(seen) > 150


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same with every map filled in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, chance)) for key, item in value.items()]
        chance.shuffle(items)
        return type(value)(items)
    if isinstance(value, PolicyAccepted | WorkloadAccepted):
        return dataclasses.replace(value, document=shuffled(value.document, chance))
    return value


def test_the_order_in_which_maps_were_filled_does_not_matter() -> None:
    state, chance = full(), random.Random(1)
    for field in dataclasses.fields(State):
        if field.name not in QUEUES:
            setattr(state, field.name, shuffled(getattr(state, field.name), chance))
    assert digest(state) == digest(full())


@pytest.mark.parametrize("queue", QUEUES)
def test_the_order_of_what_waits_its_turn_matters(queue: str) -> None:
    state = full()
    held = getattr(state, queue)
    setattr(state, queue, type(held)(reversed(held.items())))
    assert digest(state) != digest(full())


@given(story=stories, size=st.integers(1, 9))
@settings(deadline=None, max_examples=50)
def test_a_state_from_a_snapshot_and_one_taken_in_parts_have_the_same_digest(
    story: list[Any], size: int
) -> None:
    state = told(story)
    assert digest(thaw(freeze(state))) == digest(state)
    every, total = list(rows(state)), Sum()
    for start in range(0, len(every), size):
        total.add(every[start : start + size])
    assert total.digest() == digest(state)


def test_a_row_taken_in_twice_shows() -> None:
    every, total = list(rows(full())), Sum()
    total.add(every)
    total.add(every[-1:])
    assert total.digest() != digest(full())


def test_the_form_is_what_it_was_when_it_was_first_given() -> None:
    state = State()
    assert digest(state).hex() == "37c7b686592e134dc69cefb96a1ea9b8"
    for sequence, event in enumerate(small(), 1):
        apply(state, event, sequence, sequence)
    assert digest(state).hex() == "007545ecbc6a029cdf78ccc21c6a3548"
