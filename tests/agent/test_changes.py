from entries import ISOLATED, allowing
from tabard.agent.changes import carried_out, local, relief
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    address,
)
from tabard.dataplane.port import Change
from tabard.policy.diff import diff

HERE, THERE, FAR = address("10.244.1.5"), address("10.244.1.6"), address("192.0.2.1")


def endpoint(identity: int = 300, policy: int = 7, ifindex: int = 1) -> Endpoint:
    return Endpoint(identity, identity, policy, ISOLATED, ifindex, b"\2" * 6, b"\6" * 6)


def key(policy: int, identity: int = 300) -> PolicyKey:
    return PolicyKey(policy, Direction.INGRESS, identity, Protocol.ANY)


def test_relief_takes_entries_of_a_policy_that_nobody_has_any_more() -> None:
    actual = Maps(policies=allowing({key(7), key(8)}), endpoints={HERE: endpoint(policy=7)})
    change = Change(policies_removed=frozenset({key(7), key(8)}))
    assert relief(actual, change) == Change(policies_removed=frozenset({key(8)}))


def test_relief_takes_a_policy_with_its_last_endpoint() -> None:
    actual = Maps(policies=allowing({key(7)}), endpoints={HERE: endpoint(policy=7)})
    change = diff(actual, Maps())
    assert relief(actual, change) == change


def test_relief_leaves_prefixes_and_hosts_that_would_become_world() -> None:
    pods = (address("10.244.0.0"), 112)
    actual = Maps(
        prefixes={pods: PrefixEntry(9, PrefixFlag.POD_RANGE), (address("::"), 0): PrefixEntry(10)},
        hosts={HERE: 300, FAR: 301},
    )
    assert relief(actual, diff(actual, Maps())) == Change(hosts_removed=frozenset({HERE}))


def test_relief_adds_nothing() -> None:
    desired = Maps(
        identities=frozenset({300}),
        policies=allowing({key(7)}),
        nodes=frozenset({FAR}),
        prefixes={(FAR, 128): PrefixEntry(2)},
        hosts={FAR: 300},
        endpoints={HERE: endpoint()},
    )
    assert not relief(Maps(), diff(Maps(), desired))


def test_locally_a_new_pod_comes_with_its_identity_and_policy() -> None:
    desired = Maps(
        identities=frozenset({2, 300, 301}),
        policies=allowing({key(7), key(8)}),
        nodes=frozenset({FAR}),
        prefixes={(FAR, 128): PrefixEntry(2)},
        hosts={FAR: 301},
        endpoints={HERE: endpoint(300, policy=7)},
    )
    assert local(Maps(), diff(Maps(), desired), {1}) == Change(
        identities_added=frozenset({300}),
        policies_set=allowing({key(7)}),
        endpoints_set={HERE: endpoint(300, policy=7)},
    )


def test_locally_a_policy_that_stands_is_not_added_to() -> None:
    actual = Maps(policies=allowing({key(7, 400)}))
    desired = Maps(policies=allowing({key(7, 300)}), endpoints={HERE: endpoint(policy=7)})
    change = local(actual, diff(actual, desired), {1})
    assert not change.policies_set
    assert change.policies_removed == frozenset()


def test_locally_an_endpoint_that_stands_is_not_replaced() -> None:
    actual = Maps(endpoints={HERE: endpoint(301)})
    desired = Maps(identities=frozenset({300}), endpoints={HERE: endpoint(300)})
    assert not local(actual, diff(actual, desired), {1})


def test_locally_only_endpoints_without_an_attached_interface_go() -> None:
    actual = Maps(endpoints={HERE: endpoint(ifindex=1), THERE: endpoint(ifindex=2)})
    assert local(actual, diff(actual, Maps()), {1}) == Change(endpoints_removed=frozenset({THERE}))


def test_what_was_carried_out_is_what_the_maps_show_of_a_change() -> None:
    before = Maps(
        identities=frozenset({299, 300}),
        policies=allowing({key(7)}),
        hosts={FAR: 300},
        endpoints={HERE: endpoint()},
    )
    desired = Maps(
        identities=frozenset({300, 301}),
        policies=allowing({key(8)}),
        prefixes={(FAR, 128): PrefixEntry(2)},
        hosts={FAR: 301, HERE: 300},
        endpoints={THERE: endpoint()},
    )
    change = diff(before, desired)
    assert not carried_out(change, before)
    assert carried_out(change, desired) == change
    halfway = Maps(
        identities=frozenset({299, 300, 301}),
        policies=allowing({key(7), key(8)}),
        hosts={FAR: 300, HERE: 300},
        endpoints={HERE: endpoint()},
    )
    assert carried_out(change, halfway) == Change(
        identities_added=frozenset({301}),
        policies_set=allowing({key(8)}),
        hosts_set={HERE: 300},
    )


NODE = Endpoint(9, 1, 9, ISOLATED | EndpointFlag.NODE, 0, bytes(6), bytes(6))


def test_relief_does_not_open_the_node() -> None:
    actual = Maps(
        policies=allowing({key(7), key(9)}), endpoints={HERE: endpoint(policy=7), FAR: NODE}
    )
    assert relief(actual, diff(actual, Maps())) == Change(
        endpoints_removed=frozenset({HERE}), policies_removed=frozenset({key(7)})
    )


def test_locally_the_node_stays_as_it_is() -> None:
    guarded = Maps(policies=allowing({key(9)}), endpoints={FAR: NODE})
    assert not local(guarded, diff(guarded, Maps()), {1})
    assert not local(Maps(), diff(Maps(), guarded), {1})
