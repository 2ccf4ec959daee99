"""What every Dataplane does. A test class inherits DataplaneContract and has a fixture `rig`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from entries import EGRESS_ISOLATED, allowing
from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    Maps,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Reason,
    address,
)
from tabard.dataplane.port import Dataplane, LinkGone, MapFull, Verdict
from tabard.policy.diff import diff

POD = address("10.244.1.1")
OTHER = address("10.244.1.2")
STRANGER = address("203.0.113.9")
HOSTS_MAX = 8
"""The size of `hosts` in a rig's dataplane."""


@dataclass
class Rig:
    """A dataplane under test, opened, and the world around it."""

    dataplane: Dataplane
    reopened: Callable[[], Dataplane]
    """The same node's dataplane as a restarted agent has it, opened; `dataplane` is closed."""
    add_link: Callable[[str], None]
    delete_link: Callable[[str], None]
    send: Callable[[int, Address, Address, int], bool]
    """A TCP SYN from behind an interface (ifindex), source, destination, port: is it let out?"""


def full(ifindex: int = 1) -> Maps:
    """Maps with something of everything: the pod may send to the stranger's port 80 only."""
    policy = 0xFEDCBA9876543210
    entry = PolicyKey(policy, Direction.EGRESS, 9, Protocol.TCP, 80, 16)
    return Maps(
        identities=frozenset((1, 6, 9, 256, 257, (1 << 24) + 1)),
        policies=allowing(
            (
                entry,
                PolicyKey(policy, Direction.INGRESS, 0, Protocol.ANY),
                PolicyKey(policy, Direction.INGRESS, 256, Protocol.UDP, 8192, 3),
                PolicyKey(1, Direction.INGRESS, (1 << 24) + 1, Protocol.SCTP),
            )
        ),
        nodes=frozenset((address("192.168.9.1"), address("fd99::2"))),
        prefixes={
            (address("0.0.0.0"), 96): PrefixEntry(9),
            (address("::"), 0): PrefixEntry(10),
            (address("10.244.2.0"), 120): PrefixEntry(
                9, PrefixFlag.POD_RANGE, address("192.168.9.2")
            ),
            (address("fd00::"), 32): PrefixEntry(
                (1 << 24) + 1, PrefixFlag.CIDR | PrefixFlag.POD_RANGE, address("fd99::2")
            ),
        },
        hosts={address("192.168.9.1"): 1, address("10.244.2.9"): 257},
        endpoints={
            POD: Endpoint(
                incarnation=0xFFFFFFFFFFFFFFFF,
                identity=256,
                policy=policy,
                flags=EGRESS_ISOLATED,
                ifindex=ifindex,
                mac=b"\2\0\0\0\0\1",
                host_mac=b"\2\0\0\0\0\2",
            )
        },
    )


class DataplaneContract:
    def test_what_was_written_is_read_back(self, rig: Rig) -> None:
        rig.dataplane.write(diff(Maps(), full()))
        assert rig.dataplane.read() == full()

    def test_a_change_leaves_the_rest(self, rig: Rig) -> None:
        rig.dataplane.write(diff(Maps(), full()))
        less = Maps(identities=frozenset((1, 300)), hosts={address("192.168.9.1"): 6})
        rig.dataplane.write(diff(full(), less))
        assert rig.dataplane.read() == less
        rig.dataplane.write(diff(less, Maps()))
        assert rig.dataplane.read() == Maps()

    def test_removing_what_is_not_there_is_no_error(self, rig: Rig) -> None:
        rig.dataplane.write(diff(full(), Maps()))
        assert rig.dataplane.read() == Maps()

    def test_a_full_map_says_so_and_takes_nothing_away(self, rig: Rig) -> None:
        before = Maps(
            hosts={address(f"10.0.0.{last}"): 256 for last in range(HOSTS_MAX)},
            identities=frozenset((256,)),
        )
        rig.dataplane.write(diff(Maps(), before))
        after = Maps(hosts={**before.hosts, address("10.0.1.1"): 256})
        with pytest.raises(
            MapFull, match=r'map "hosts" is full \(8 of 8\); raise TABARD_HOSTS_MAX'
        ):
            rig.dataplane.write(diff(before, after))
        found = rig.dataplane.read()
        assert found.identities == {256}
        assert found.hosts.items() >= before.hosts.items()
        # What is there can still be changed, and room be made.
        changed = {**before.hosts, address("10.0.0.1"): 257}
        rig.dataplane.write(diff(found, Maps(hosts=changed)))
        assert rig.dataplane.read() == Maps(hosts=changed)

    def test_opening_again_is_no_error(self, rig: Rig) -> None:
        rig.dataplane.write(diff(Maps(), full()))
        rig.dataplane.open()
        assert rig.dataplane.read() == full()

    def test_an_interface_that_does_not_exist_is_not_guarded(self, rig: Rig) -> None:
        with pytest.raises(LinkGone, match="none0"):
            rig.dataplane.attach("uid", "none0")
        assert rig.dataplane.attached() == {}

    def test_attached_interfaces_are_known_until_they_are_gone(self, rig: Rig) -> None:
        rig.add_link("one0")
        rig.add_link("two0")
        one, mac = rig.dataplane.attach("one", "one0")
        two, other_mac = rig.dataplane.attach("two", "two0")
        assert rig.dataplane.attach("one", "one0") == (one, mac)
        assert len(mac) == len(other_mac) == 6
        assert one != two
        assert rig.dataplane.attached() == {"one": one, "two": two}
        rig.delete_link("one0")
        assert rig.dataplane.attached() == {"two": two}
        for uid in ("one", "two", "two", "never"):
            rig.dataplane.detach(uid)
        assert rig.dataplane.attached() == {}

    def test_an_interface_without_an_endpoint_is_closed(self, rig: Rig) -> None:
        rig.add_link("one0")
        ifindex, _ = rig.dataplane.attach("one", "one0")
        assert not rig.send(ifindex, POD, STRANGER, 80)
        rig.dataplane.write(diff(Maps(), full(ifindex)))
        assert rig.send(ifindex, POD, STRANGER, 80)
        assert not rig.send(ifindex, POD, STRANGER, 81)
        assert not rig.send(ifindex, OTHER, STRANGER, 80)

    def test_packets_are_counted_by_reason(self, rig: Rig) -> None:
        rig.add_link("one0")
        ifindex, _ = rig.dataplane.attach("one", "one0")
        rig.dataplane.write(diff(Maps(), full(ifindex)))
        before = rig.dataplane.counters()
        rig.send(ifindex, POD, STRANGER, 80)
        for _ in range(3):
            rig.send(ifindex, POD, STRANGER, 81)
        after = rig.dataplane.counters()
        grown = {
            key: grown for key, count in after.items() if (grown := count - before.get(key, 0))
        }
        assert grown == {
            (Direction.EGRESS, Reason.ALLOWED_POLICY): 1,
            (Direction.EGRESS, Reason.DENIED_POLICY): 3,
        }

    async def test_verdicts_are_delivered_until_stopped(self, rig: Rig) -> None:
        rig.add_link("one0")
        ifindex, _ = rig.dataplane.attach("one", "one0")
        rig.dataplane.write(diff(Maps(), full(ifindex)))
        seen: list[Verdict] = []
        came = asyncio.Event()

        def deliver(verdicts: list[Verdict]) -> None:
            seen.extend(verdicts)
            came.set()

        stop = rig.dataplane.watch(deliver)
        rig.send(ifindex, POD, STRANGER, 81)
        await asyncio.wait_for(came.wait(), 5)
        (verdict,) = seen
        assert verdict.at > 1_600_000_000_000_000_000
        assert (verdict.direction, verdict.reason) == (Direction.EGRESS, Reason.DENIED_POLICY)
        assert (verdict.source, verdict.destination) == (POD, STRANGER)
        assert (verdict.source_identity, verdict.destination_identity) == (256, 9)
        assert (verdict.protocol, verdict.destination_port) == (Protocol.TCP, 81)
        stop()
        rig.send(ifindex, POD, STRANGER, 82)
        await asyncio.sleep(0.02)
        assert len(seen) == 1

    def test_a_restarted_agent_finds_what_is_enforced(self, rig: Rig) -> None:
        rig.add_link("one0")
        ifindex, _ = rig.dataplane.attach("one", "one0")
        rig.dataplane.write(diff(Maps(), full(ifindex)))
        again = rig.reopened()
        assert again.read() == full(ifindex)
        assert again.attached() == {"one": ifindex}
        assert rig.send(ifindex, POD, STRANGER, 80)

    def test_the_age_of_what_is_enforced_closes_it_to_new_flows_also_without_an_agent(
        self, rig: Rig
    ) -> None:
        rig.add_link("one0")
        ifindex, _ = rig.dataplane.attach("one", "one0")
        maps = full(ifindex)
        bound = replace(maps, endpoints={POD: replace(maps.endpoints[POD], stale_after_s=100)})
        rig.dataplane.write(diff(Maps(), bound))
        assert rig.dataplane.read() == bound
        now, second = time.clock_gettime_ns(time.CLOCK_BOOTTIME), 1_000_000_000
        for age_s, opens in ((1, True), (101, False)):
            rig.dataplane.refresh(now - age_s * second)
            again = rig.dataplane = rig.reopened()
            again.write(diff(bound, maps))  # and forget the flow
            again.forget(lambda peer, identity: True)
            again.write(diff(maps, bound))
            assert rig.send(ifindex, POD, STRANGER, 80) is opens

    def test_a_removed_dataplane_leaves_nothing(self, rig: Rig) -> None:
        rig.add_link("one0")
        rig.dataplane.attach("one", "one0")
        rig.dataplane.write(diff(Maps(), full()))
        rig.dataplane.remove()
        rig.dataplane.open()
        assert rig.dataplane.read() == Maps()
        assert rig.dataplane.attached() == {}
