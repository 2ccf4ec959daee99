"""Going on by what was folded gives the maps that compiling all of it gives, and their change."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import naive
from stories import IPS, Story, names, namespaces, objects, referring, step, steps, wide
from strategies import labels, named_ports
from tabard.dataplane.maps import Maps, Mode, address
from tabard.dataplane.port import Change
from tabard.events import ledger as events
from tabard.identity.labels import label_set
from tabard.policy.compile import Compiler, Provisional
from tabard.policy.diff import diff
from world import attachment, cidr_group, network_policy


def _settled(change: Change, written: Maps) -> Change:
    """Without what is there only while it is written (see test_steps)."""
    passing = change.policies_set.keys() & change.policies_removed
    return replace(
        change,
        policies_set={k: v for k, v in change.policies_set.items() if k not in passing},
        prefixes_set={**change.prefixes_set, **change.prefixes_widened},
        prefixes_widened={},
        policies_removed=change.policies_removed - (passing - written.policies.keys()),
    )


class Follower:
    """A compiler that goes on with a story, and whoever writes what it says."""

    def __init__(self, story: Story, mode: Mode) -> None:
        self.story, self.mode = story, mode
        self.compiler = Compiler()
        self.written = Maps()

    def tick(self) -> Change | None:
        story, compiler = self.story, self.compiler
        compiler.note(story.untold)
        story.untold.clear()
        change = compiler.update(story.state, "n1", self.mode, story.attached)
        wanted = naive.compiled(story.state, "n1", self.mode, story.attached)
        assert compiler.maps == wanted
        assert Compiler().compile(story.state, "n1", self.mode, story.attached) == wanted
        if change is not None:
            by_diff = diff(self.written, wanted)
            assert _settled(change, self.written) == _settled(by_diff, self.written)
        self.written = wanted
        return change


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(namespaces, labels, named_ports), min_size=4, max_size=len(IPS)),
    st.lists(
        step("policy", namespaces, names, wide) | step("apply", objects), min_size=2, max_size=4
    ),
    st.lists(st.tuples(steps, st.booleans()), min_size=25, max_size=50),
    st.sampled_from(Mode),
)
def test_after_any_events_the_maps_and_the_change_are_those_of_a_full_compile(
    begins: list[tuple[str, dict[str, str], Any]],
    policies: list[tuple[Any, ...]],
    story_steps: list[tuple[tuple[Any, ...], bool]],
    mode: Mode,
) -> None:
    story = Story(begins)
    for one in policies:
        story.take(*one)
    follower = Follower(story, mode)
    assert follower.tick() is None
    for one, ticks in story_steps:
        story.take(*one)
        if ticks:
            assert follower.tick() is not None
    assert follower.tick() is not None


def shop() -> Story:
    story = Story([("x", {"app": "a"}, ()), ("x", {"app": "b"}, ()), ("y", {}, ())])
    story.policy(network_policy("p", "x", ingress=[{"from": [{"podSelector": {}}]}]))
    return story


def test_what_was_folded_untold_is_compiled_anew() -> None:
    story = shop()
    follower = Follower(story, Mode.NATIVE)
    follower.tick()
    before = follower.compiler.maps
    story.relabel("u1", {"app": "c"})
    del story.untold[-2]  # as an event that was quarantined
    assert follower.tick() is None
    assert follower.compiler.maps is not before
    story.relabel("u1", {"app": "d"})
    assert follower.tick() is not None


def test_what_is_told_again_touches_nothing_again() -> None:
    story = shop()
    follower = Follower(story, Mode.NATIVE)
    past = list(story.untold)
    follower.tick()
    story.untold = past
    assert follower.tick() == Change()


def test_another_state_of_the_same_sequence_is_compiled_anew() -> None:
    story, other = shop(), shop()
    follower = Follower(story, Mode.NATIVE)
    follower.tick()
    follower.story = other
    other.untold.clear()
    assert follower.tick() is None


def test_another_node_or_mode_is_compiled_anew() -> None:
    story, compiler = shop(), Compiler()
    for node, mode in (("n1", Mode.NATIVE), ("n2", Mode.NATIVE), ("n2", Mode.OVERLAY)):
        assert compiler.update(story.state, node, mode, {}) is None
        assert compiler.maps == naive.compiled(story.state, node, mode, {})
        assert compiler.update(story.state, node, mode, {}) == Change()


def test_events_about_pods_whom_no_map_of_the_node_holds_touch_nothing() -> None:
    story, compiler = shop(), Compiler()
    compiler.update(story.state, "n2", Mode.OVERLAY, {})
    story.untold.clear()
    story.pod("x/far", {"app": "a"}, node="n1", ip="10.244.1.9")
    story.relabel("x/far", {"app": "b"})
    story.stop("x/far")
    assert not compiler.note(story.untold)
    story.untold.clear()
    story.pod("x/new", {"app": "new"}, node="n1", ip="10.244.1.9")
    assert compiler.note(story.untold)  # its identity is new, which all nodes must know


def test_a_pod_elsewhere_takes_the_address_of_one_here() -> None:
    story = shop()
    for mode in Mode:
        follower = Follower(story, mode)
        follower.tick()
        story.pod("x/thief", {}, node="n2", ip=IPS[0], uid=f"thief-{mode}")
        assert follower.tick() is not None
        story.stop(f"thief-{mode}")
        story.pod("x/u", {}, node="n1", ip=IPS[0], uid=f"u-{mode}")
        story.take("attach", f"u-{mode}")
        assert follower.tick() is not None


class Span:
    """A pod here whose egress is limited, pods elsewhere, and a follower in overlay mode."""

    def __init__(self) -> None:
        begins = [("x", {"app": name}, ()) for name in "abcd"]
        self.story = Story(begins)  # u0 and u2 are here, u1 and u3 elsewhere
        self.follower = Follower(self.story, Mode.OVERLAY)

    def egress(self, name: str, *peers: dict[str, Any]) -> None:
        spec = {"policyTypes": ["Egress"], "egress": [{"to": list(peers)}]}
        subject = {"matchLabels": {"app": "a"}}
        self.story.policy(network_policy(name, "x", podSelector=subject, **spec))

    def knows(self) -> set[str]:
        """The pods elsewhere whose addresses are known here, after a tick."""
        self.follower.tick()
        hosts, pods = self.follower.compiler.maps.hosts, self.story.state.endpoints.values()
        return {pod.uid for pod in pods if any(address(text) in hosts for text in pod.addresses)}


def app(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": name}}}


def test_pods_that_are_there_enter_the_span_with_a_rule_and_leave_it_with_it() -> None:
    span = Span()
    assert span.knows() == set()
    span.egress("p", app("b"))
    assert span.knows() == {"u1"}
    span.egress("q", app("d"))
    assert span.knows() == {"u1", "u3"}
    span.story.relabel("u3", {"app": "e"})
    assert span.knows() == {"u1"}
    span.egress("r", app("e"))
    assert span.knows() == {"u1", "u3"}
    span.story.forget("x", "p")
    assert span.knows() == {"u3"}
    span.story.relabel("u1", {"app": "e"})
    assert span.knows() == {"u1", "u3"}
    span.story.take("detach", "u0")
    assert span.knows() == set()


def test_a_number_that_is_used_again_is_named_no_more() -> None:
    span = Span()
    span.egress("p", app("b"))
    assert span.knows() == {"u1"}
    number = span.story.state.endpoints["u1"].identity
    span.story.stop("u1")
    span.story.retire(number)
    assert span.knows() == set()
    span.story.pod("x/new", {"app": "new"}, node="n2", ip=IPS[1], uid="u1")
    assert span.story.state.endpoints["u1"].identity == number
    assert span.knows() == set()


def test_a_cidrs_number_that_goes_to_another_takes_its_pods_along() -> None:
    span = Span()
    of_u1, of_u3 = f"{IPS[1]}/32", f"{IPS[3]}/32"
    span.egress("p", {"ipBlock": {"cidr": of_u1}}, {"ipBlock": {"cidr": of_u3}})
    assert span.knows() == {"u1", "u3"}
    state = span.story.state
    first, second = sorted(state.numbers[label_set([f"cidr:{cidr}"])] for cidr in (of_u1, of_u3))
    assert state.numbers[label_set([f"cidr:{of_u3}"])] == first
    span.story.retire(second)
    assert span.knows() == {"u3"}
    span.story.retire(first)
    assert span.story.identity(label_set([f"cidr:{of_u1}"])) == first
    assert span.knows() == {"u1"}


def test_pods_at_an_address_leave_the_span_with_the_last_rule_and_its_cidr() -> None:
    span = Span()
    cidr = f"{IPS[1]}/32"
    span.egress("p", {"ipBlock": {"cidr": cidr}})
    assert span.knows() == {"u1"}
    span.story.forget("x", "p")
    span.story.retire(span.story.state.numbers[label_set([f"cidr:{cidr}"])])
    assert span.knows() == set()
    span.egress("p", {"ipBlock": {"cidr": cidr}})
    assert span.knows() == {"u1"}


def test_a_pod_whose_number_is_not_live_has_no_endpoint_until_it_is() -> None:
    span = Span()
    span.follower.tick()
    number = span.story.state.endpoints["u0"].identity
    labels_of_it = span.story.state.identities[number].labels
    span.story.emit(events.IdentityRetired(number))
    span.follower.tick()
    assert address(IPS[0]) not in span.follower.compiler.maps.endpoints
    span.story.emit(events.IdentityAllocated(number, labels_of_it))
    span.follower.tick()
    assert address(IPS[0]) in span.follower.compiler.maps.endpoints


def test_a_pod_ahead_of_the_ledger_gets_its_address_when_another_elsewhere_lets_go_of_it() -> None:
    span = Span()
    identity = span.story.state.endpoints["u0"].identity
    assumed = Provisional(identity, (IPS[1],))
    span.story.attached["new"] = attachment("new", 9, assumed)
    span.follower.tick()
    assert address(IPS[1]) not in span.follower.compiler.maps.endpoints
    span.story.stop("u1")
    assert span.follower.compiler.note(span.story.untold)
    span.follower.tick()
    assert address(IPS[1]) in span.follower.compiler.maps.endpoints


def test_only_policies_with_references_are_looked_at_when_what_they_refer_to_changes() -> None:
    story = shop()
    story.policy(referring("q", "g", "ingress", []))
    follower = Follower(story, Mode.OVERLAY)
    follower.tick()
    read = follower.compiler._policies.prepared["NetworkPolicy", "x", "p"]
    story.policy(cidr_group("other", "198.51.100.0/24"))
    change = follower.tick()
    assert change is not None
    assert change.counts() == {"identities": 1}
    story.policy(cidr_group("g", "192.0.2.0/24"))
    change = follower.tick()
    assert change is not None
    assert change.policies_set
    assert change.endpoints_set
    assert follower.compiler._policies.prepared["NetworkPolicy", "x", "p"] is read


def test_what_is_referred_to_may_change_while_nobody_refers_to_it() -> None:
    story = shop()
    story.policy(cidr_group("g", "192.0.2.0/24"))
    follower = Follower(story, Mode.NATIVE)
    follower.tick()
    story.policy(referring("q", "g", "ingress", []))
    follower.tick()
    story.forget("", "q", "CiliumClusterwideNetworkPolicy")
    follower.tick()
    story.policy(cidr_group("g", "198.51.100.0/24"))
    follower.tick()
    story.policy(referring("q", "g", "ingress", []))
    follower.tick()
    assert story.flow("198.51.100.7", "u0").allowed
    assert not story.flow("192.0.2.7", "u0").allowed


def test_a_new_identity_is_held_against_no_rule_set_that_names_others() -> None:
    story = shop()
    subject = {"matchLabels": {"app": "a"}}
    for number in range(9):
        peer = {"podSelector": {"matchLabels": {"app": f"peer-{number}"}}}
        story.policy(
            network_policy(f"q{number}", "x", podSelector=subject, ingress=[{"from": [peer]}])
        )
    story.forget("x", "p")
    follower = Follower(story, Mode.OVERLAY)
    follower.tick()
    story.pod("x/stranger", {"app": "stranger"}, node="n2", uid="stranger")
    story.pod("x/peer", {"app": "peer-3"}, node="n2", uid="peer")
    numbers = [story.state.endpoints[uid].identity for uid in ("stranger", "peer")]
    change = follower.tick()
    assert change is not None
    assert change.identities_added == set(numbers)
    assert [key.identity for key in change.policies_set] == numbers[1:]
