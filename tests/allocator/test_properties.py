from collections import Counter
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import GRACE_MS, Desk, tiny_space
from scenarios import stories, well_formed
from tabard.allocator.batch import Batch
from tabard.allocator.decide import answer
from tabard.allocator.numbering import Numbering
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import LedgerEvent
from tabard.events.observed import QuarantineRequested
from tabard.identity.labels import LabelSet, cidr_label, host_cidr, pod_labels
from tabard.identity.numbers import NumberSpace, is_cidr
from tabard.policy.reading import read_object

free_numbers = st.sampled_from([0, 1, 2, 3, 60_000])


def check_invariants(desk: Desk) -> None:
    state = desk.state
    # One number, one set.
    assert state.numbers == {held.labels: number for number, held in state.identities.items()}
    assert len(state.numbers) == len(state.identities)
    assert not set(state.identities) & set(state.retired)
    space = NumberSpace()
    assert all(number in space or is_cidr(number) for number in state.identities)
    # Users are counted right, and who has none is idle.
    users = Counter(endpoint.identity for endpoint in state.endpoints.values())
    users.update(plan.identity for plan in state.relabels.values())
    named = [read_object(accepted.document).cidrs() for accepted in state.policies.values()]
    named += [map(host_cidr, held) for held in state.names.values()]
    for prefix in chain(*named, *(node.cidrs() for node in state.nodes.values())):
        users[state.numbers[LabelSet((cidr_label(prefix),))]] += 1
    for number, held in state.identities.items():
        assert held.users == users[number]
        assert (held.users == 0) == (number in state.idle) == (held.idle_since is not None)
    # Names stand for something, and are asked for or about to go.
    assert all(state.names.values())
    # Addresses are held by exactly who says that it holds them.
    holders = {
        address: endpoint.uid
        for endpoint in state.endpoints.values()
        for address in endpoint.addresses
    }
    assert state.bindings == holders
    # Each endpoint has the identity of its labels, here and now, or is to have it.
    for endpoint in state.endpoints.values():
        to_be = state.relabels.get(endpoint.uid, endpoint)
        labels = pod_labels(
            namespace=endpoint.namespace,
            labels=dict(to_be.labels),
            namespace_labels=state.namespaces.get(endpoint.namespace, {}),
            service_account=endpoint.service_account,
            cluster="default",
            label_filter=desk.indexes.label_filter,
        )
        assert to_be.identity == (1 if endpoint.host_network else state.numbers[labels])
        assert endpoint.uid not in state.waiting


def tell(desk: Desk, story: list[Any]) -> None:
    for event in story:
        if event == "tick":
            desk.tick(after_ms=GRACE_MS // 2)
        else:
            desk.observe(event)


@given(story=stories)
@settings(deadline=None, max_examples=200)
def test_the_invariants_hold_after_any_story(story: list[Any]) -> None:
    desk = Desk()
    for event in story:
        tell(desk, [event])
        check_invariants(desk)
    assert desk.refolded() == desk.state
    naive = Numbering(desk.state)
    for mine, other in (
        (desk.indexes.numbering.cluster, naive.cluster),
        (desk.indexes.numbering.cidr, naive.cidr),
    ):
        assert len(mine) == len(other)
        assert next(iter(mine)) == next(iter(other))


@given(story=stories, numbers=free_numbers)
@settings(deadline=None, max_examples=200)
def test_the_invariants_hold_with_next_to_no_numbers(story: list[Any], numbers: int) -> None:
    desk = tiny_space(numbers)
    tell(desk, story)
    check_invariants(desk)
    assert desk.refolded() == desk.state


@given(story=stories, again=well_formed, numbers=free_numbers)
@settings(deadline=None, max_examples=200)
def test_the_same_event_again_changes_nothing(story: list[Any], again: Any, numbers: int) -> None:
    desk = tiny_space(numbers)
    tell(desk, story)
    desk.observe(again)
    assert desk.observe(again) == []


@given(story=stories, cut=well_formed, after=st.integers(0, 9), numbers=free_numbers)
@settings(deadline=None, max_examples=200)
def test_a_decision_cut_off_by_a_dying_bus_is_completed_when_decided_again(
    story: list[Any], cut: Any, after: int, numbers: int
) -> None:
    whole, torn = tiny_space(numbers), tiny_space(numbers)
    tell(whole, story)
    tell(torn, story)
    whole.observe(cut)
    torn.observe(cut, stored=after)
    torn.tick()
    torn.observe(cut)
    whole.tick()
    torn.tick()
    check_invariants(torn)
    assert torn.state.numbers == whole.state.numbers
    assert torn.state.bindings == whole.state.bindings
    assert torn.state.policies == whole.state.policies
    assert torn.state.names == whole.state.names
    assert list(torn.state.waiting) == list(whole.state.waiting)
    for uid, endpoint in whole.state.endpoints.items():
        assert torn.state.endpoints[uid].identity == endpoint.identity


@given(story=stories, sizes=st.lists(st.integers(1, 7), min_size=1))
@settings(deadline=None, max_examples=50)
def test_what_is_decided_does_not_depend_on_how_it_is_batched(
    story: list[Any], sizes: list[int]
) -> None:
    # What an operator may vouch for depends on how far the ledger is, cursors and all.
    story = [event for event in story if not isinstance(event, str | QuarantineRequested)]
    one_by_one = Desk()
    expected = [event for told in story for event in one_by_one.observe(told)]
    desk = Desk()
    decided: list[LedgerEvent] = []
    batch, left = Batch(desk.state, desk.indexes, 0), sizes[0]
    for sequence, told in enumerate(story, 1):
        record = Recorded("OBSERVED", sequence, Envelope(bytes(16), "", 0), told)
        events = answer(desk.state, desk.indexes, record, desk.now)
        batch.add(events)
        decided += events
        left -= 1
        if left == 0:
            batch.close(sequence)
            batch, left = Batch(desk.state, desk.indexes, 0), sizes[sequence % len(sizes)]
    assert decided == expected
    assert desk.state.numbers == one_by_one.state.numbers


@given(story=stories)
@settings(deadline=None, max_examples=30)
def test_a_story_told_twice_over_is_decided_the_same(story: list[Any]) -> None:
    first, second = Desk(), Desk()
    tell(first, story)
    tell(second, story)
    assert [message.payload for message in first.messages] == [
        message.payload for message in second.messages
    ]
