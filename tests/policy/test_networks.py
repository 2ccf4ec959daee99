import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from tabard.policy.networks import Networks, longest

NETWORKS = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.7/32", "10.1.1.6/31"),
    *("::/0", "fd00::/8", "fd00:1::/64", "fd00:1::7/128"),
)
ADDRESSES = ("10.1.1.7", "10.1.1.6", "10.2.0.1", "203.0.113.9", "fd00:1::7", "fd00:1::8", "::1")


@given(st.sets(st.sampled_from(NETWORKS)), st.sampled_from(ADDRESSES))
def test_those_that_hold_an_address_are_found(cidrs: set[str], text: str) -> None:
    at = ipaddress.ip_address(text)
    networks = Networks(cidrs)
    held = {cidr for cidr in cidrs if at in ipaddress.ip_network(cidr)}
    assert networks.holding(at) == networks.holding(at) == held
    assert bool(networks) is bool(cidrs)


def test_nothing_holds_what_has_no_address() -> None:
    assert Networks(NETWORKS).holding(None) == frozenset()


def test_the_longest_has_the_most_bits() -> None:
    assert longest({"10.0.0.0/8", "10.1.1.0/24", "0.0.0.0/0"}) == "10.1.1.0/24"
    assert longest(()) == ""
