"""Frames that were cut, bent or lengthened are judged as the packet that they still are, if any."""

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frames import ETHER
from kernel import Kernel
from odd_frames import PEER, bent, world
from packets import DESTINATION, TCP, UDP, packet
from tabard.dataplane.maps import (
    Mode,
    Reason,
)
from traffic import LOCAL
from twins import Twins

EXAMPLES = int(os.environ.get("EQUAL_EXAMPLES", "50"))
pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(120 + EXAMPLES)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_bent_frames_are_what_they_still_are(native: Kernel, seed: int, count: int) -> None:
    random = Random(seed)
    twins = Twins(native, Mode.NATIVE)
    twins.put(world())
    for _ in range(count):
        hook = random.choice(("from_pod", "from_pod", "to_pod", "to_pod", "from_wire"))
        mark = random.choice((None, PEER, 0))
        twins.odd(hook, bent(random), 1, mark)


def stating(frame: bytes, length: int) -> bytes:
    """The frame with another length in its IP header: IPv4's whole, IPv6's behind the header."""
    at = ETHER + (2 if frame[12:14] == b"\x08\x00" else 4)
    return frame[:at] + length.to_bytes(2) + frame[at + 2 :]


@pytest.mark.parametrize("v", [4, 6])
@pytest.mark.parametrize("proto", [TCP, UDP])
def test_ports_beyond_the_packets_end_are_nobodys(native: Kernel, v: int, proto: int) -> None:
    native.put(world())
    port, header = {TCP: (80, 20), UDP: (5353, 8)}[proto]
    source, target = {4: (LOCAL[0][0], "203.0.113.9"), 6: (LOCAL[0][1], "2001:db8::9")}[v]
    whole = packet(source, target, proto, 40_000, port)
    rest = 20 if v == 4 else 0
    assert native.egress(stating(whole, rest + header)) is Reason.ALLOWED_POLICY
    assert native.egress(stating(whole, rest + header - 1)) is Reason.DENIED_MALFORMED
    assert native.egress(stating(whole, 0)) is Reason.DENIED_MALFORMED


def test_a_first_fragment_cannot_show_ports_that_its_next_fragment_replaces(
    native: Kernel,
) -> None:
    """Of the first only the options arrive; what would be joined to them is the next one's TCP."""
    native.put(world())
    source, target = LOCAL[0][1], "2001:db8::9"
    shown = bytearray(packet(source, target, TCP, 40_000, 80, fragment=(7, 0, True)))
    shown[54] = DESTINATION
    shown[62:62] = bytes((TCP, 0, 1, 4, 0, 0, 0, 0))
    hidden = packet(source, target, DESTINATION, fragment=(7, 8, False), payload=bytes(20))
    assert native.egress(stating(bytes(shown), 8 + 8 + 20)) is Reason.ALLOWED_POLICY
    native.forget_flows()
    assert native.egress(stating(bytes(shown), 8 + 8)) is Reason.DENIED_MALFORMED
    assert native.egress(hidden) is Reason.DENIED_FRAGMENT
