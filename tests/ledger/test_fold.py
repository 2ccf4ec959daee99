import copy
import dataclasses
from dataclasses import asdict
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.identity.labels import cidr_label, label_set
from tabard.ledger import fold as folding
from tabard.ledger import state as states
from tabard.ledger.fold import FoldError, evolve, fold
from tabard.ledger.state import Node, Relabel, State, enforcement_of
from world import World, network_policy

WEB, DB = ("k8s:app=web",), ("k8s:app=db",)


def bound(
    uid: str = "u", identity: int = 256, *addresses: str, **rest: Any
) -> events.EndpointBound:
    fields: dict[str, Any] = {
        "uid": uid,
        "namespace": "x",
        "name": uid,
        "node": "n1",
        "identity": identity,
        "addresses": addresses,
        "labels": (("app", "web"),),
        "started_at": 1,
        "service_account": "default",
        "ports": (),
        "owner": "",
        "host_network": False,
    }
    return events.EndpointBound(**{**fields, **rest})


def refused(uid: str, *, retry: bool) -> events.PodRefused:
    fields = asdict(bound(uid))
    del fields["identity"]
    return events.PodRefused(**fields, reason="full", retry=retry)


def accepted(name: str, *cidrs: str) -> events.PolicyAccepted:
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    document = network_policy(name, "x", ingress=[{"from": blocks}])
    return events.PolicyAccepted("NetworkPolicy", "x", name, document, "")


def state_after(*every: Any) -> State:
    """Folded one after another; each event occurred at its sequence × 10 ns."""
    state = State()
    for event in every:
        step(state, event)
    return state


def step(state: State, event: Any) -> None:
    sequence = state.sequence + 1
    evolve(state, Recorded("LEDGER", sequence, Envelope(b"", "", sequence * 10), event))


def refuses(state: State, event: Any, match: str) -> None:
    """`event` is refused, and the state is as before."""
    before = copy.deepcopy(state)
    with pytest.raises(FoldError, match=match):
        step(state, event)
    assert state == before


ALLOCATED = (events.IdentityAllocated(256, WEB), events.IdentityAllocated(257, DB))


class TestNodes:
    NUMBERS = {"192.0.2.1/32": 1 << 24, "2001:db8::1/128": (1 << 24) + 1}  # noqa: RUF012
    ADDRESSES = ("192.0.2.1", "2001:db8::1")

    def after(self, *story: Any) -> State:
        allocated = [
            events.IdentityAllocated(number, (cidr_label(cidr),))
            for cidr, number in self.NUMBERS.items()
        ]
        return state_after(*allocated, *story)

    def users(self, state: State) -> list[int]:
        return [state.identities[number].users for number in self.NUMBERS.values()]

    def test_a_node_with_labels_uses_the_identities_of_its_addresses_until_it_goes(self) -> None:
        state = self.after(events.NodeAdded("n1", self.ADDRESSES, (), (("role", "edge"),)))
        assert (self.users(state), list(state.idle)) == ([1, 1], [])
        step(state, events.NodeAdded("n1", self.ADDRESSES[:1], (), (("role", "core"),)))
        assert self.users(state) == [1, 0]
        step(state, events.NodeRemoved("n1"))
        assert (self.users(state), state.nodes) == ([0, 0], {})
        assert list(state.idle) == [*reversed(self.NUMBERS.values())]

    def test_a_node_without_labels_uses_none(self) -> None:
        state = self.after(events.NodeAdded("n1", self.ADDRESSES, ()))
        assert self.users(state) == [0, 0]
        step(state, events.NodeAdded("n1", self.ADDRESSES, (), (("a", "b"),)))
        step(state, events.NodeAdded("n1", self.ADDRESSES, ()))
        assert self.users(state) == [0, 0]

    def test_a_policy_and_a_node_may_share_a_cidr(self) -> None:
        cidr = next(iter(self.NUMBERS))
        state = self.after(
            accepted("p", cidr), events.NodeAdded("n1", self.ADDRESSES, (), (("a", "b"),))
        )
        assert self.users(state) == [2, 1]
        step(state, events.PolicyForgotten("NetworkPolicy", "x", "p"))
        assert self.users(state) == [1, 1]

    def test_selectors_see_a_nodes_labels_and_always_a_hostname(self) -> None:
        assert Node("n1", (), ()).label_set() == ("node:kubernetes.io/hostname=n1",)
        labels = (("kubernetes.io/hostname", "n1.example"), ("role", ""))
        assert Node("n1", (), (), labels).label_set() == (
            "node:kubernetes.io/hostname=n1.example",
            "node:role=",
        )


def test_enforcement_is_what_the_ledger_said_last() -> None:
    state = State()
    assert enforcement_of(state) == "default"
    settings = events.SettingsAdopted("c", 1, 8, (), (), ((200, WEB),), 5)
    step(state, settings)
    assert enforcement_of(state) == "default"
    numbers = dict(state.numbers)
    step(state, dataclasses.replace(settings, enforcement="always"))
    assert (enforcement_of(state), state.numbers) == ("always", numbers)


def test_a_names_addresses_use_their_identities_until_they_are_forgotten() -> None:
    one, other, v6 = "192.0.2.7", "192.0.2.8", "2001:db8::7"
    labels = [(cidr_label(cidr),) for cidr in (f"{one}/32", f"{other}/32", f"{v6}/128")]
    allocated = [events.IdentityAllocated(900 + at, held) for at, held in enumerate(labels)]
    resolved = events.NameResolved("a.io", ((one, 5), (v6, 5)))
    again = events.NameResolved("a.io", ((one, 9), (other, 9)))
    shared_by = events.NameResolved("b.io", ((one, 7),))
    state = state_after(*allocated, resolved, again, shared_by)
    assert state.names == {"a.io": {one: 9, v6: 5, other: 9}, "b.io": {one: 7}}
    assert [state.identities[900 + at].users for at in range(3)] == [2, 1, 1]
    step(state, events.NameForgotten("a.io", (one, v6, "192.0.2.99")))
    assert state.names == {"a.io": {other: 9}, "b.io": {one: 7}}
    assert [state.identities[900 + at].users for at in range(3)] == [1, 1, 0]
    step(state, events.NameForgotten("a.io", (other,)))
    step(state, events.NameForgotten("nobody.io", (other,)))
    assert state.names == {"b.io": {one: 7}}
    assert list(state.idle) == [902, 901]


def test_what_is_planned_is_used_until_it_is_carried_out_or_another_is_planned() -> None:
    numbers = [events.IdentityAllocated(n, (f"k8s:n={n}",)) for n in (256, 257, 258)]
    state = state_after(*numbers, bound("u", 256))
    step(state, events.RelabelPlanned("u", 257, (("app", "x"),)))
    assert state.relabels == {"u": Relabel("u", 257, (("app", "x"),), 5, 50)}
    step(state, events.RelabelPlanned("u", 258, (("app", "y"),)))
    assert state.relabels == {"u": Relabel("u", 258, (("app", "y"),), 6, 50)}
    assert [state.identities[n].users for n in (256, 257, 258)] == [1, 0, 1]
    assert state.endpoints["u"].identity == 256
    step(state, events.EndpointRelabelled("u", 258, (("app", "y"),), ("n1",)))
    assert not state.relabels
    assert [state.identities[n].users for n in (256, 257, 258)] == [0, 0, 1]
    step(state, events.RebindPlanned("x", (("u", 257),)))
    assert state.relabels == {"u": Relabel("u", 257, (("app", "y"),), 8, 80)}
    step(state, events.EndpointUnbound("u"))
    assert not state.relabels
    assert all(state.identities[n].users == 0 for n in (256, 257, 258))


def test_a_plan_for_a_pod_that_is_not_bound_is_refused() -> None:
    refuses(state_after(*ALLOCATED), events.RelabelPlanned("u", 256, ()), "not bound")
    refuses(state_after(*ALLOCATED), events.RebindPlanned("x", (("u", 256),)), "not bound")


def test_released_numbers_are_doubtful_while_a_lost_node_is_behind_their_retirement() -> None:
    numbers = [events.IdentityAllocated(n, (f"k8s:n={n}",)) for n in (256, 257)]
    retired = [events.IdentityRetired(256), events.IdentityRetired(257)]  # at 3 and 4
    lost = [events.NodeLost("n1", 3), events.NodeLost("n2", 2)]
    released = [events.IdentityReleased(256), events.IdentityReleased(257)]
    state = state_after(*numbers, *retired, *lost, *released)
    assert state.doubtful == {256: 3, 257: 4}
    step(state, events.NodeReturned("n2", 9))
    assert state.doubtful == {257: 4}
    step(state, events.NodeRemoved("n1"))
    assert (state.doubtful, state.lost) == ({}, {})


def test_a_doubtful_number_that_is_allocated_is_in_doubt_no_more() -> None:
    number = events.IdentityAllocated(256, ("k8s:n=1",))
    gone = [events.IdentityRetired(256), events.NodeLost("n1", 1), events.IdentityReleased(256)]
    state = state_after(number, *gone)
    assert state.doubtful == {256: 2}
    step(state, number)
    assert state.doubtful == {}


def test_a_refused_node_is_kept_until_it_joins_or_leaves() -> None:
    refused = events.NodeRefused("n1", ("192.0.2.1",), (), (), "why")
    for end in (events.NodeAdded("n1", (), ()), events.NodeRemoved("n1")):
        state = state_after(refused)
        assert (state.nodes, state.refused_nodes) == ({}, {"n1": refused})
        step(state, end)
        assert not state.refused_nodes


def test_every_event_is_folded() -> None:
    world = World()
    uid = world.pod("x/a", {}, ip="10.244.1.1")
    one_of_each: dict[type, Any] = {
        events.EpochClaimed: events.EpochClaimed(2, "host"),
        events.SettingsAdopted: events.SettingsAdopted("c", 1, 8, (), (), ((200, WEB),), 5),
        events.NameResolved: events.NameResolved("a.io", (("192.0.2.7", 5),)),
        events.NameForgotten: events.NameForgotten("a.io", ("192.0.2.7",)),
        events.NodeAdded: events.NodeAdded("n9", (), ()),
        events.NodeLost: events.NodeLost("n9", 4),
        events.NodeReturned: events.NodeReturned("n9", 40),
        events.NodeRefused: events.NodeRefused("n8", ("192.168.9.1",), (), (), "why"),
        events.NodeRemoved: events.NodeRemoved("n9"),
        events.NamespaceLabelled: events.NamespaceLabelled("x", (("a", "b"),)),
        events.NamespaceForgotten: events.NamespaceForgotten("x"),
        events.IdentityAllocated: events.IdentityAllocated(999, DB),
        events.IdentityRetired: events.IdentityRetired(999),
        events.IdentityReleased: events.IdentityReleased(999),
        events.NumbersExhausted: events.NumbersExhausted(1, (("k8s:app", 1),)),
        events.NumbersAvailable: events.NumbersAvailable(1),
        events.EndpointBound: bound("b", 200),
        events.RelabelPlanned: events.RelabelPlanned(uid, 200, ()),
        events.RebindPlanned: events.RebindPlanned("x", ((uid, 200),)),
        events.EndpointRelabelled: events.EndpointRelabelled(uid, 200, ()),
        events.EndpointsRebound: events.EndpointsRebound("x", ((uid, 200),)),
        events.EndpointUnbound: events.EndpointUnbound(uid),
        events.EndpointTombstoned: events.EndpointTombstoned("t"),
        events.PodRefused: refused("r", retry=True),
        events.PolicyAccepted: accepted("p"),
        events.PolicyRefused: events.PolicyRefused("NetworkPolicy", "x", "q", "why", ""),
        events.PolicyForgotten: events.PolicyForgotten("NetworkPolicy", "x", "p"),
        events.WorkloadAccepted: events.WorkloadAccepted("Pod", "x", "a", {}, ""),
        events.WorkloadForgotten: events.WorkloadForgotten("Pod", "x", "a"),
        events.EventQuarantined: events.EventQuarantined("OBSERVED", 3, "bad"),
        events.LedgerTrimmed: events.LedgerTrimmed(2, bytes(16), "LEDGER-1-1.gz", bytes(32)),
        events.CursorAdvanced: events.CursorAdvanced("OBSERVED", 7),
    }
    assert set(one_of_each) == set(get_args(events.LedgerEvent))
    for event in one_of_each.values():
        world.emit(event)
    state = world.state
    assert (state.epoch, state.holder, state.cursors) == (2, "host", {"OBSERVED": 7})
    assert state.quarantined == {("OBSERVED", 3): "bad"}
    assert state.workloads == {} == state.policies
    assert state.namespaces == {}
    assert set(state.nodes) == {"n1", "n2"}
    assert set(state.refused_nodes) == {"n8"}
    assert not state.lost
    assert not state.relabels
    assert state.exhausted is None


def test_a_step_that_is_not_the_next_is_refused() -> None:
    state = state_after(*ALLOCATED)
    for sequence in (1, 2, 4):
        before = copy.deepcopy(state)
        record = Recorded("LEDGER", sequence, Envelope(b"", "", 0), events.NodeAdded("n", (), ()))
        with pytest.raises(FoldError, match=f"LEDGER/{sequence} does not follow LEDGER/2"):
            evolve(state, record)
        assert state == before


def test_quarantined_steps_are_passed_over() -> None:
    state = state_after(events.EventQuarantined("LEDGER", 2, "r"))
    record = Recorded("LEDGER", 3, Envelope(b"", "", 0), events.NodeAdded("n", (), ()))
    assert fold([record], state).sequence == 3


class TestOneNumberOneSet:
    def test_a_live_number_is_not_given_again(self) -> None:
        refuses(state_after(*ALLOCATED), events.IdentityAllocated(256, ("k8s:a=b",)), "256 is live")

    def test_a_live_set_gets_no_second_number(self) -> None:
        refuses(state_after(*ALLOCATED), events.IdentityAllocated(300, WEB), "256 is live")

    def test_only_live_numbers_retire(self) -> None:
        refuses(state_after(*ALLOCATED), events.IdentityRetired(300), "300, which is not live")

    def test_a_retired_number_is_in_quarantine_until_released(self) -> None:
        state = state_after(*ALLOCATED, events.IdentityRetired(256))
        assert state.retired == {256: 3}
        assert set(state.identities) == {257}
        assert set(state.numbers.values()) == {257}
        assert list(state.idle) == [257]
        step(state, events.IdentityReleased(256))
        assert state.retired == {}

    def test_settings_that_contradict_live_identities_change_nothing(self) -> None:
        settings = events.SettingsAdopted("c", 1, 8, (), (), ((128, ("k8s:a=b",)), (129, WEB)), 5)
        refuses(state_after(*ALLOCATED), settings, "allocates 129")


class TestUsers:
    def test_an_identity_is_idle_while_nobody_has_it(self) -> None:
        state = state_after(*ALLOCATED)
        assert list(state.idle) == [256, 257]
        assert state.identities[256].idle_since == 10
        step(state, bound("u", 256))
        assert list(state.idle) == [257]
        assert state.identities[256].idle_since is None
        step(state, events.EndpointUnbound("u"))
        assert list(state.idle) == [257, 256]
        assert state.identities[256].idle_since == 40

    def test_a_moved_endpoint_uses_its_new_identity_only(self) -> None:
        state = state_after(*ALLOCATED, bound("u", 256))
        step(state, events.EndpointRelabelled("u", 257, (("app", "db"),)))
        assert {n: held.users for n, held in state.identities.items()} == {256: 0, 257: 1}
        assert state.endpoints["u"].labels == (("app", "db"),)
        assert state.endpoints["u"].bound_at == 4
        step(state, events.EndpointsRebound("x", (("u", 256),)))
        assert {n: held.users for n, held in state.identities.items()} == {256: 1, 257: 0}

    def test_fixed_identities_never_fall_idle(self) -> None:
        state = state_after(
            events.SettingsAdopted("c", 1, 8, (), (), ((128, WEB),), 5),
            bound("u", 128),
            events.EndpointUnbound("u"),
        )
        assert state.identities[128].users == 0
        assert state.idle == {}

    def test_reserved_identities_are_not_counted(self) -> None:
        state = state_after(bound("u", 4), events.EndpointUnbound("u"))
        assert (state.identities, state.idle) == ({}, {})

    def test_a_cidr_is_used_by_the_policies_that_name_it(self) -> None:
        numbers = {1 << 24: "10.0.0.0/8", (1 << 24) + 1: "11.0.0.0/8"}
        state = state_after(
            *(events.IdentityAllocated(n, (cidr_label(cidr),)) for n, cidr in numbers.items()),
            accepted("p", "10.0.0.0/8"),
            accepted("q", "10.0.0.0/8", "11.0.0.0/8"),
        )

        def users() -> list[int]:
            return [held.users for held in state.identities.values()]

        assert users() == [2, 1]
        step(state, accepted("q", "10.0.0.0/8"))
        assert users() == [2, 0]
        step(state, events.PolicyForgotten("NetworkPolicy", "x", "q"))
        step(state, events.PolicyForgotten("NetworkPolicy", "x", "p"))
        step(state, events.PolicyForgotten("NetworkPolicy", "x", "never"))
        assert users() == [0, 0]
        assert list(state.idle) == [(1 << 24) + 1, 1 << 24]


class TestBinding:
    def test_a_bound_endpoint_is_found_every_way(self) -> None:
        state = state_after(*ALLOCATED, bound("u", 256, "10.0.0.1", "fd00::1"))
        assert state.bindings == {"10.0.0.1": "u", "fd00::1": "u"}
        assert state.by_node == {"n1": {"u": None}}
        assert state.by_namespace == {"x": {"u": None}}
        step(state, events.EndpointUnbound("u"))
        assert state.bindings == state.by_node == state.by_namespace == state.endpoints == {}
        assert state.tombstones == {"u": 4}

    def test_a_later_pod_takes_an_address_and_the_earlier_ones_end_does_not_free_it(self) -> None:
        state = state_after(
            *ALLOCATED, bound("old", 256, "10.0.0.1", "10.0.0.2"), bound("new", 257, "10.0.0.1")
        )
        assert state.bindings == {"10.0.0.1": "new", "10.0.0.2": "old"}
        assert state.endpoints["old"].addresses == ("10.0.0.2",)
        step(state, events.EndpointUnbound("old"))
        assert state.bindings == {"10.0.0.1": "new"}

    def test_a_bound_endpoint_is_not_bound_again(self) -> None:
        refuses(state_after(*ALLOCATED, bound()), bound(), "u, which is bound already")

    @pytest.mark.parametrize(
        "event",
        [
            events.EndpointUnbound("v"),
            events.EndpointRelabelled("v", 257, ()),
            events.EndpointsRebound("x", (("u", 257), ("v", 257))),
        ],
    )
    def test_an_event_about_an_unbound_endpoint_is_refused(self, event: Any) -> None:
        refuses(state_after(*ALLOCATED, bound()), event, "endpoint v, which is not bound")

    def test_tombstones_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folding, "TOMBSTONES_MAX", 2)
        state = state_after(*(events.EndpointTombstoned(uid) for uid in ("a", "b", "a")))
        assert list(state.tombstones) == ["b", "a"]
        step(state, events.EndpointTombstoned("c"))
        assert list(state.tombstones) == ["a", "c"]

    def test_a_waiting_pod_waits_until_bound_refused_for_good_or_stopped(self) -> None:
        for end in (bound("r"), refused("r", retry=False), events.EndpointTombstoned("r")):
            state = state_after(*ALLOCATED, refused("r", retry=True))
            assert list(state.waiting) == ["r"]
            assert list(state.refused_pods) == ["r"]
            step(state, end)
            assert state.waiting == {}
            assert list(state.refused_pods) == (["r"] if isinstance(end, events.PodRefused) else [])


class TestPolicies:
    def test_a_refused_version_leaves_the_accepted_one_in_force(self) -> None:
        state = state_after(accepted("p"))
        step(state, events.PolicyRefused("NetworkPolicy", "x", "p", "why", ""))
        key = ("NetworkPolicy", "x", "p")
        assert set(state.policies) == set(state.refused_policies) == {key}
        step(state, accepted("p"))
        assert state.refused_policies == {}
        step(state, events.PolicyForgotten(*key))
        assert state.policies == {}

    def test_a_policy_that_cannot_be_read_changes_nothing(self) -> None:
        number, label = 1 << 24, (cidr_label("10.0.0.0/8"),)
        state = state_after(events.IdentityAllocated(number, label), accepted("p", "10.0.0.0/8"))
        newer = events.PolicyAccepted("NetworkPolicy", "x", "p", {"kind": "Newer"}, "")
        refuses(state, newer, "accepts NetworkPolicy x/p, which this release cannot read")

    @pytest.mark.parametrize("kind", ["policy", "pod"])
    def test_refusals_are_bounded(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folding, "REFUSALS_MAX", 2)
        state = State()
        for name in ("a", "b", "a", "c"):
            if kind == "pod":
                step(state, refused(name, retry=False))
            else:
                step(state, events.PolicyRefused("NetworkPolicy", "x", name, "why", ""))
        kept = state.refused_pods if kind == "pod" else [key[2] for key in state.refused_policies]
        assert list(kept) == ["a", "c"]
        assert states.REFUSALS_MAX == 4_096


_uids = st.sampled_from(["a", "b", "c"])
_addresses = st.sampled_from(["10.0.0.1", "10.0.0.2"])
_events = st.one_of(
    st.builds(
        lambda uid, number, addresses: bound(uid, number, *sorted(addresses)),
        _uids,
        st.sampled_from([256, 257]),
        st.sets(_addresses),
    ),
    st.builds(events.EndpointUnbound, _uids),
    st.builds(
        events.EndpointRelabelled, _uids, st.sampled_from([256, 257]), st.just((("a", "b"),))
    ),
    st.builds(events.IdentityRetired, st.sampled_from([256, 257])),
    st.builds(
        events.IdentityAllocated,
        st.sampled_from([256, 257, 258]),
        st.sampled_from([WEB, DB]),
    ),
    st.builds(accepted, st.sampled_from(["p", "q"]), _addresses.map(lambda ip: f"{ip}/32")),
    st.builds(
        events.PolicyForgotten,
        st.just("NetworkPolicy"),
        st.just("x"),
        st.sampled_from(["p", "q"]),
    ),
)


@settings(deadline=None)
@given(st.lists(_events, max_size=25))
def test_indexes_agree_with_what_they_index_and_refusals_change_nothing(every: list[Any]) -> None:
    state = state_after(*ALLOCATED)
    for event in every:
        before = copy.deepcopy(state)
        try:
            step(state, event)
        except FoldError:
            assert state == before
        assert {labels: n for n, held in state.identities.items() for labels in [held.labels]} == (
            state.numbers
        )
        for address, uid in state.bindings.items():
            assert address in state.endpoints[uid].addresses
        for uid, endpoint in state.endpoints.items():
            assert all(state.bindings[address] == uid for address in endpoint.addresses)
        assert {uid for uids in state.by_node.values() for uid in uids} == set(state.endpoints)
        assert set(state.idle) <= set(state.identities)


def test_label_sets_of_the_ledger_are_taken_as_written() -> None:
    labels = label_set(["k8s:b=1", "k8s:a=2"])
    state = state_after(events.IdentityAllocated(256, labels))
    assert state.numbers == {labels: 256}


def test_pods_of_one_template_hold_one_copy_of_what_they_share() -> None:
    def made(text: str) -> str:
        return text.encode().decode()  # a string of its own, as decoding makes it

    def pod(uid: str, address: str) -> events.EndpointBound:
        return bound(
            uid,
            256,
            address,
            namespace=made("shop"),
            node=made("node-1"),
            labels=((made("app"), made("web")),),
            ports=((made("http"), 80, "TCP"),),
            owner=made("Deployment/shop/web"),
        )

    allocated = events.IdentityAllocated(256, WEB)
    state = state_after(allocated, pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    first, second = state.endpoints["a"], state.endpoints["b"]
    for name in ("namespace", "node", "labels", "service_account", "ports", "owner"):
        assert getattr(first, name) is getattr(second, name), name
    step(state, events.EndpointRelabelled("a", 256, ((made("app"), made("db")),)))
    step(state, events.EndpointRelabelled("b", 256, ((made("app"), made("db")),)))
    assert first.labels is second.labels
