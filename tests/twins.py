"""One node twice, as the kernel's programs and in memory: told the same, and compared."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from frames import frame, is_ip, read
from kernel import MARK, REDIRECT, SHOT, TUNNEL_PORT, Kernel, Ran, changed_sources
from kernel import OK as PASSED
from tabard.dataplane.maps import Address, Maps, Mode, Reason, address
from tabard.dataplane.memory import Action, MemoryDataplane, Outcome
from tabard.dataplane.packet import Packet, is_ipv4
from tabard.dataplane.port import NodeConfig, Verdict
from tabard.policy.diff import diff

TUNNEL_KEY = """
#include <linux/bpf.h>
/* A test run has no tunnel: its key is in the mark (id, IPv6) and in place of the MACs (source). */
static inline int tunnel_key(struct __sk_buff *skb, struct bpf_tunnel_key *key, __u64 flags)
{
	int v6 = skb->mark >> 31;
	__u32 source[3];

	if (v6 != (flags == BPF_F_TUNINFO_IPV6) || bpf_skb_load_bytes(skb, 0, source, 12))
		return -1;
	key->tunnel_id = skb->mark & 0x7fffffff;
	if (v6) {
		key->remote_ipv6[0] = source[0];
		key->remote_ipv6[1] = source[1];
		key->remote_ipv6[2] = source[2];
	} else {
		key->remote_ipv4 = __builtin_bswap32(source[0]);
	}
	return 0;
}
#define bpf_skb_get_tunnel_key(skb, key, size, flags) tunnel_key(skb, key, flags)
"""
OVER_IPV6 = 1 << 31


def tunnelled_sources(directory: Path) -> Path:
    """The programs, but from_overlay takes what it asks the tunnel for from the test run."""
    return changed_sources(directory, before=TUNNEL_KEY)


class Twins:
    """Every call returns what both said, and fails if they differ.

    `kernel` has `tunnelled_sources`; the calling thread sees the interfaces.
    """

    def __init__(self, kernel: Kernel, mode: Mode) -> None:
        kernel.put(Maps())
        kernel.forget_flows()
        kernel.events()
        self._kernel = kernel
        self._ahead_ns = 0
        self._memory = MemoryDataplane(
            NodeConfig("n1", mode, (), tunnel_port=TUNNEL_PORT),
            clock=lambda: time.monotonic_ns() + self._ahead_ns,
        )
        self._counted = Counter(kernel.dataplane.counters())
        self.known(0, 0)

    @property
    def maps(self) -> Maps:
        return self._kernel.maps

    def put(self, maps: Maps) -> None:
        self._memory.write(diff(self.maps, maps))
        self._kernel.put(maps)

    def age(self, seconds: int) -> None:
        self._kernel.age_flows(seconds)
        self._ahead_ns += seconds * 1_000_000_000

    def known(self, age_s: int, after_s: int) -> None:
        """The maps were the ledger's `age_s` ago, and `after_s` is the node's bound for that."""
        at = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - age_s * 1_000_000_000
        self._memory.refresh(at)
        self._memory._flows._stale_after_s = after_s
        self._kernel.dataplane._set(fresh_at=at, stale_after_s=after_s)

    def from_pod(self, ifindex: int, packet: Packet) -> Outcome:
        # Whatever a mark says that a pod's packet comes with, it counts for nothing.
        ran = self._kernel.run("from_pod", frame(packet), ifindex=ifindex, mark=MARK | 301)
        return self._same(ran, self._memory.from_pod(ifindex, packet), packet, 0)

    def to_pod(self, ifindex: int, packet: Packet, mark: int | None) -> Outcome:
        word = 301 if mark is None else MARK | mark
        ran = self._kernel.run("to_pod", frame(packet), ifindex=ifindex, mark=word)
        return self._same(ran, self._memory.to_pod(ifindex, packet, mark), packet, word)

    def from_wire(self, packet: Packet) -> Outcome:
        ran = self._kernel.run("from_wire", frame(packet))
        return self._same(ran, self._memory.from_wire(packet), packet, 0, diverts=False)

    def to_wire(self, packet: Packet) -> Outcome:
        ran = self._kernel.run("to_wire", frame(packet))
        return self._same(ran, self._memory.to_wire(packet), packet, 0, diverts=False)

    def from_overlay(self, outer: Address, tunnel_id: int, packet: Packet) -> Outcome:
        """`outer` is IPv4, or IPv6 that ends in 32 zero bits."""
        if is_ipv4(outer):
            key, word = outer[12:] + bytes(8), tunnel_id
        else:
            key, word = outer[:12], tunnel_id | OVER_IPV6
        ran = self._kernel.run("from_overlay", key + frame(packet)[12:], mark=word)
        return self._same(ran, self._memory.from_overlay(outer, tunnel_id, packet), packet, word)

    def odd(self, hook: str, data: bytes, ifindex: int, mark: int | None) -> None:
        """Any frame at any hook: judged as the packet that it is, if any.

        What is no packet passes no hook of pods'; at the wire's it is the host's to drop.
        """
        packet = read(data) if is_ip(data) else None
        word = 301 if mark is None else MARK | mark
        memory = self._memory
        match hook:
            case "from_overlay" if packet is not None:
                self.from_overlay(OUTER, mark or 0, packet)
            case "from_overlay":
                key = OUTER[12:] + bytes(8)
                ran = self._kernel.run(hook, key + data[12:], mark=mark or 0)
                assert (ran.action, ran.reason) == (SHOT, Reason.DENIED_MALFORMED), ran
            case "from_proxy":
                # Only what the agent marked goes on, to an endpoint of this node's.
                ran = self._kernel.run(hook, data, ifindex=ifindex)
                is_marked = data[:4] == DIVERTED
                assert ran.action == SHOT or (is_marked and packet is not None), ran
            case "from_wire" | "to_wire":
                ran = self._kernel.run(hook, data, ifindex=ifindex, mark=word)
                if packet is not None:
                    judge = memory.from_wire if hook == "from_wire" else memory.to_wire
                    self._same(ran, judge(packet), packet, word, diverts=False)
            case _:
                ran = self._kernel.run(hook, data, ifindex=ifindex, mark=word)
                if packet is None:
                    reasons = (Reason.DENIED_MALFORMED,) if is_ip(data) else NOT_IP
                    assert ran.action == SHOT and ran.reason in reasons, ran  # noqa: PT018
                elif hook == "from_pod":
                    self._same(ran, memory.from_pod(ifindex, packet), packet, 0)
                else:
                    self._same(ran, memory.to_pod(ifindex, packet, mark), packet, word)

    @contextmanager
    def told_the_same(self) -> Iterator[None]:
        """At the end both have told of the same verdicts, and counted the same."""
        told: list[Verdict] = []

        async def watch() -> None:
            self._memory.watch(told.extend)

        with asyncio.Runner() as runner:
            runner.run(watch())
            yield
            runner.run(asyncio.sleep(0))
        for ours, theirs in zip_longest(self._kernel.events(), told):
            assert ours and theirs, f"one alone told of {ours or theirs}"  # noqa: PT018
            assert replace(ours, at=0) == replace(theirs, at=0), f"{ours} is not {theirs}"
        counted = Counter(self._kernel.dataplane.counters()) - self._counted
        assert counted == Counter(self._memory.counters()), counted

    def _same(
        self, ran: Ran, outcome: Outcome, packet: Packet, mark: int, *, diverts: bool = True
    ) -> Outcome:
        """`diverts`: at this hook the DNS proxy can be sent packets; elsewhere they go on."""
        match outcome.action:
            case Action.DROP:
                expected, mark = SHOT, ran.mark
            case _ if outcome.reason is Reason.ALLOWED_PROXY and diverts:
                # In memory nobody stands on the way.
                expected, mark = REDIRECT, 0
                assert ran.frame[:4] == DIVERTED
            case Action.PASS:
                expected = PASSED
            case Action.DELIVER:
                expected, mark = REDIRECT, MARK | outcome.identity
                to = self.maps.endpoints[packet.destination]
                assert ran.frame[:12] == to.mac + to.host_mac
            case Action.TUNNEL:
                expected, mark = REDIRECT, 0
        assert (ran.action, ran.reason, ran.mark) == (expected, outcome.reason, mark), (
            f"{ran} is not {outcome}: {packet}"
        )
        return outcome


OUTER = address("192.168.9.2")
"""Whose tunnel an odd frame comes by: a node's that the maps have."""
DIVERTED = b"\x02tab"
"""bpf/proxy.h"""
NOT_IP = (
    Reason.DENIED_MALFORMED,
    Reason.DENIED_SPOOFED_SOURCE,  # ARP in another's name, on either side
    Reason.DENIED_UNKNOWN_ENDPOINT,
)
