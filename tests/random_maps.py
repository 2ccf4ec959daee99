"""Random maps, of any content that fits (not of any sense; see test_verdict for such)."""

from dataclasses import replace

from hypothesis import strategies as st

from tabard.dataplane.maps import (
    Action,
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Tier,
    strength,
)

u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
mac = st.binary(min_size=6, max_size=6)
strengths = st.builds(strength, st.sampled_from(Action), st.integers(0, 2**30 - 1))
addresses = st.builds(Address, st.binary(min_size=16, max_size=16))

endpoints = st.builds(
    Endpoint,
    incarnation=u64,
    identity=u32,
    policy=u64,
    flags=st.builds(EndpointFlag, st.integers(0, 4095)),
    ifindex=u32,
    mac=mac,
    host_mac=mac,
)
prefix_entries = st.builds(
    PrefixEntry,
    identity=u32,
    flags=st.builds(PrefixFlag, st.integers(0, 3)),
    tunnel=st.just(b"") | addresses,
)


@st.composite
def policy_keys(draw: st.DrawFn) -> PolicyKey:
    key = PolicyKey(
        draw(u64),
        draw(st.sampled_from(Direction)),
        draw(u32),
        Protocol.ANY,
        tier=draw(st.sampled_from(Tier)),
    )
    protocol = draw(st.sampled_from(Protocol))
    if protocol is Protocol.ANY:
        return key
    bits = draw(st.integers(0, 16))
    return replace(key, protocol=protocol, port=draw(u16) & (0xFFFF << (16 - bits)), port_bits=bits)


@st.composite
def prefix_keys(draw: st.DrawFn) -> tuple[Address, int]:
    bits = draw(st.integers(0, 128))
    number = int.from_bytes(draw(addresses)) >> (128 - bits) << (128 - bits)
    return Address(number.to_bytes(16)), bits


worlds = st.builds(
    Maps,
    identities=st.frozensets(u32, max_size=20),
    policies=st.dictionaries(policy_keys(), strengths, max_size=20),
    nodes=st.frozensets(addresses, max_size=10),
    prefixes=st.dictionaries(prefix_keys(), prefix_entries, max_size=20),
    hosts=st.dictionaries(addresses, u32, max_size=20),
    endpoints=st.dictionaries(addresses, endpoints, max_size=10),
)
