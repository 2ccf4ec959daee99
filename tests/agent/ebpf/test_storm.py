"""Packets while maps change: each is judged as before the change or as after it, not as between.

Programs run by the hundred thousand on one CPU while another writes. What they say is counted by
reason, so each storm sends what has the same verdicts in both states. ICMP types that open no flow
stand for ports: conntrack, which remembers verdicts, is asked nothing.

The programs dawdle between look-ups, to have something in between. Each storm failed in most runs
when what it is about was broken: entries after the identity or the endpoint that they are for, the
broad ones first, identities and entries removed without waiting for packets, entries replaced
instead of rewritten.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from entries import ISOLATED
from kernel import MARK, Kernel, changed_sources, endpoint
from packets import ICMP, packet
from tabard.agent.ebpf import grace, syscalls
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.maps import KernelMap
from tabard.dataplane.maps import (
    Action,
    Direction,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    Protocol,
    Reason,
    Strength,
    Tier,
    address,
    strength,
)

pytestmark = pytest.mark.ebpf

REPEAT = 1_000
PACKETS = 40_000
"""Of each frame, in one storm, at least."""

DAWDLE = """
#include "maps.h"
/* Between two look-ups there is time for the agent to write. */
static __always_inline void dawdle(void)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < 64; i++)
		bpf_ktime_get_ns();
}
#undef map_find
#define map_find(name, key) \\
	({ dawdle_##name(); bpf_map_lookup_elem(MAP(name), (void *)(key)); })
#define dawdle_policies() dawdle()
#define dawdle_identities() dawdle()
#define dawdle_nodes()
#define dawdle_prefixes()
#define dawdle_hosts()
#define dawdle_endpoints()
#define dawdle_settings()
#define dawdle_conntrack()
#define dawdle_fragments()
#define dawdle_counters()
#define dawdle_scratch()
"""

POD, PEER, OTHER = "10.1.0.1", "10.2.0.9", "10.2.0.10"
NEIGHBOURS = [f"10.1.1.{n}" for n in range(1, 25)]
"""Other pods of the node, which change with it."""
TYPES = (10, 13, 14, 17, 18)
"""ICMP types that stand alone."""


def entry(
    policy: int, identity: int, *type: int, tier: Tier = Tier.NETWORK, way: int = Direction.INGRESS
) -> PolicyKey:
    """For one ICMP type, or for all traffic."""
    if not type:
        return PolicyKey(policy, Direction(way), identity, Protocol.ANY, tier=tier)
    return PolicyKey(policy, Direction(way), identity, Protocol.ICMP, type[0], 16, tier)


def frame(type: int, source: str = PEER) -> bytes:
    return packet(source, POD, ICMP, 1, type)


def slow(mode: Mode, directory: Path) -> Iterator[Kernel]:
    kernel = Kernel(mode, sources=changed_sources(directory, before=DAWDLE))
    try:
        yield kernel
    finally:
        kernel.remove()


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    yield from slow(Mode.NATIVE, tmp_path_factory.mktemp("bpf"))


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    yield from slow(Mode.OVERLAY, tmp_path_factory.mktemp("bpf"))


def storm(
    kernel: Kernel, states: Callable[[int], Maps], *frames: bytes, mark: int = 0
) -> Counter[Reason]:
    """How often each reason was given while the maps went from state to state.

    Each frame comes to to_pod over and over, on a thread of its own, until the maps have changed
    often enough.
    """
    program = kernel.dataplane.programs["to_pod"]
    enough = Event()

    def send(one: bytes) -> int:
        sent = 0
        while sent < PACKETS or not enough.is_set():
            syscalls.program_test_run(program, one, mark=mark, repeat=REPEAT)
            sent += REPEAT
        return sent

    with ThreadPoolExecutor(len(frames)) as threads:
        kernel.put(states(0))
        before = Counter(kernel.dataplane.counters())
        senders = [threads.submit(send, one) for one in frames]
        number = 0
        try:
            while not all(sender.done() for sender in senders):
                number += 1
                kernel.put(states(number))
                if number > 10:
                    enough.set()
        finally:
            enough.set()
    sent = sum(sender.result() for sender in senders)
    assert number > 10
    found = Counter[Reason]()
    for (_, reason), count in (Counter(kernel.dataplane.counters()) - before).items():
        found[reason] += count
    assert found.total() == sent
    return found


def pods(policy: int, neighbours: int, flags: EndpointFlag = ISOLATED) -> Mapping[object, object]:
    return {
        **{address(one): endpoint(400, neighbours, flags) for one in NEIGHBOURS[:12]},
        address(POD): endpoint(300, policy, flags),
        **{address(one): endpoint(400, neighbours, flags) for one in NEIGHBOURS[12:]},
    }


def world(
    policies: Mapping[PolicyKey, Strength], endpoints: Mapping[object, object], **changes: object
) -> Maps:
    base = Maps(
        policies=policies,
        identities=frozenset({1, 300, 301, 302}),
        hosts={address(PEER): 301, address(OTHER): 302},
        endpoints=endpoints,  # type: ignore[arg-type]
    )
    return replace(base, **changes)  # type: ignore[arg-type]


ALLOW, DENY = strength(Action.ALLOW), strength(Action.DENY)


def mixed(policy: int, turn: int) -> dict[PolicyKey, Strength]:
    """Types 10 denied and 13 allowed, by other entries in each turn; 17 and 18 change places."""
    one, other = (17, 18) if turn else (18, 17)
    narrow = {
        entry(policy, 301, 10): DENY,
        entry(policy, 301, one): DENY,
        entry(policy, 301, other): ALLOW,
        entry(policy, 0): ALLOW,
    }
    broad = {
        entry(policy, 301, one): DENY,
        entry(policy, 0, 10): DENY,
        entry(policy, 301, 13): ALLOW,
        entry(policy, 301): ALLOW,
    }
    # Many more, so that there is an in between.
    rest = {entry(policy, 5_000 + n, *((10,) if n % 2 else ())): DENY for n in range(200)}
    return (narrow if turn else broad) | rest


def test_a_policy_is_switched_whole(native: Kernel) -> None:
    def state(number: int) -> Maps:
        policy = 1_000 + number
        return world(mixed(policy, number % 2), pods(policy, policy))

    found = storm(native, state, frame(10), frame(13))
    assert found.keys() == {Reason.DENIED_POLICY, Reason.ALLOWED_POLICY}
    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_POLICY}, "some passed that neither policy allows"
    found = storm(native, state, frame(13))
    assert found.keys() == {Reason.ALLOWED_POLICY}, "some fell that both policies allow"


def test_tiers_are_switched_together(native: Kernel) -> None:
    flags = ISOLATED | EndpointFlag.INGRESS_ADMIN | EndpointFlag.INGRESS_BASELINE

    def state(number: int) -> Maps:
        policy = 1_000 + number
        admin = {entry(policy, 301, 10, tier=Tier.ADMIN): strength(Action.DENY, 3)}
        plain = {entry(policy, 301, 13): ALLOW}
        if number % 2:  # the tier above passes on what one below denies, and allows nothing itself
            admin = {entry(policy, 0, tier=Tier.ADMIN): strength(Action.PASS, 7)}
            plain = {entry(policy, 301): ALLOW, entry(policy, 0, 10): DENY}
        return world(admin | plain, pods(policy, policy, flags))

    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_POLICY}


def test_isolation_comes_and_goes_with_its_policy(native: Kernel) -> None:
    """Flags and policy id are of one state: under another's flags the entries would be too few."""

    def state(number: int) -> Maps:
        if number % 2:
            flags = ISOLATED & ~EndpointFlag.INGRESS_ISOLATED
            return world({entry(2, 0, 10): DENY}, pods(2, 2, flags))
        return world({entry(1, 301, 13): ALLOW}, pods(1, 1))

    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_POLICY}


def test_one_pods_policy_is_never_anothers(native: Kernel) -> None:
    """Neighbours that may do all are turned in the same writes."""

    def state(number: int) -> Maps:
        own, free = 1 + number % 2, 3 + number % 2
        policies = {entry(p, 301, 13): ALLOW for p in (1, 2)} | {entry(p, 0): ALLOW for p in (3, 4)}
        return world(policies, pods(own, free))

    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_POLICY}


def test_an_identity_that_comes_or_goes_has_all_of_its_entries_or_none(overlay: Kernel) -> None:
    """A peer's node may send in its name before this one knows it, and after it has gone."""

    def state(number: int) -> Maps:
        policies = {entry(1, 0): ALLOW}
        if number % 2:
            policies |= {entry(1, 303, 10): DENY} | {
                entry(1, 303, type, way=way): DENY for type in (17, 18) for way in Direction
            }
            return world(policies, pods(1, 1), identities=frozenset({1, 300, 301, 302, 303}))
        return world(policies, pods(1, 1))

    found = storm(overlay, state, frame(10), mark=MARK | 303)
    assert found.keys() == {Reason.DENIED_UNKNOWN_PEER, Reason.DENIED_POLICY}


def test_an_address_is_its_old_identitys_or_its_new_ones(native: Kernel) -> None:
    """Both may send, and others, bound anew in the same writes, may not; the old one goes."""
    others = [address(f"10.3.0.{n}") for n in range(40)]

    def state(number: int) -> Maps:
        now = 302 + number % 2
        hosts = {
            **dict.fromkeys(others[:20], 305 + number % 2),
            address(PEER): now,
            **dict.fromkeys(others[20:], 305 + number % 2),
        }
        return world(
            {entry(1, now, 13): ALLOW, entry(1, 301): ALLOW},
            pods(1, 1),
            hosts=hosts,
            identities=frozenset({1, 300, 305, 306, now}),
        )

    found = storm(native, state, frame(13))
    assert found.keys() == {Reason.ALLOWED_POLICY}
    found = storm(native, state, frame(13, "10.3.0.7"))
    assert found.keys() == {Reason.DENIED_POLICY}


def test_a_peer_that_comes_or_goes_while_rules_change_is_not_judged_by_both(native: Kernel) -> None:
    """Neither the rules that would let it nor their pods are there when it is."""
    others = [address(f"10.3.0.{n}") for n in range(40)]

    def state(number: int) -> Maps:
        if number % 2 == 0:
            return world({entry(1, 0): ALLOW}, pods(1, 1), hosts={})
        identities = frozenset({1, 300, 301, 302, 303})
        hosts = {address(PEER): 303, **dict.fromkeys(others, 303)}
        return world({entry(2, 301): ALLOW}, pods(2, 2), identities=identities, hosts=hosts)

    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_UNKNOWN_PEER, Reason.DENIED_POLICY}

    def bound(number: int) -> Maps:
        there = 301 + number % 2
        hosts = {address(PEER): there, **dict.fromkeys(others, there)}
        policy = 2 - number % 2
        return world({entry(policy, 302 - number % 2): ALLOW}, pods(policy, policy), hosts=hosts)

    found = storm(native, bound, frame(10))
    assert found.keys() <= {Reason.DENIED_UNKNOWN_PEER, Reason.DENIED_POLICY}


def test_entries_that_are_put_back_open_nothing_on_the_way(native: Kernel) -> None:
    """After drift a rule set in use is repaired: what is narrow, and denies, comes first."""
    denied = {entry(1, 301, type): DENY for type in TYPES}
    broad = {entry(1, 301): ALLOW}

    def state(number: int) -> Maps:
        return world(denied | broad if number % 2 else {}, pods(1, 1))

    found = storm(native, state, frame(10))
    assert found.keys() == {Reason.DENIED_POLICY}


def test_pods_that_come_and_go_are_never_one_another(native: Kernel) -> None:
    """What a pod leaves behind in the maps is not another's before the last packet has read it."""

    def state(number: int) -> Maps:
        free = {
            address(f"10.1.2.{number % 4 * 20 + n}"): endpoint(400, 3, ISOLATED) for n in range(16)
        }
        own = {} if number % 2 else {address(POD): endpoint(300, 1, ISOLATED)}
        return world({entry(1, 301, 13): ALLOW, entry(3, 0): ALLOW}, own | free)  # type: ignore[arg-type]

    found = storm(native, state, frame(10))
    assert found.keys() <= {Reason.DENIED_POLICY, Reason.DENIED_UNKNOWN_ENDPOINT}


def test_a_host_replaced_in_place_is_read_back(native: Kernel) -> None:
    for identity in (301, 302, 301, 302):
        maps = world({}, pods(identity, 7), hosts={address(PEER): identity, address(OTHER): 300})
        native.put(maps)
        assert native.dataplane.read() == maps


def test_waits_lie_before_what_packets_may_still_go_by(
    native: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a storm hits too seldom: the order itself."""
    done: list[str] = []
    update, delete, wait = KernelMap.update, KernelMap.delete, grace.wait
    replace_one = EbpfDataplane._replace

    def updated(self: KernelMap, entries: Iterable[tuple[bytes, bytes]]) -> None:
        if listed := list(entries):
            done.append(f"+{self.shape.name}")
        update(self, listed)

    def deleted(self: KernelMap, keys: Iterable[bytes]) -> None:
        if listed := list(keys):
            done.append(f"-{self.shape.name}")
        delete(self, listed)

    def waited() -> None:
        done.append("wait")
        wait()

    def replaced(self: EbpfDataplane, program: str, key: bytes, value: bytes) -> None:
        done.append(f"={program.removeprefix('replace_').rstrip('s')}s")
        replace_one(self, program, key, value)

    monkeypatch.setattr(EbpfDataplane, "_replace", replaced)
    monkeypatch.setattr(KernelMap, "update", updated)
    monkeypatch.setattr(KernelMap, "delete", deleted)
    monkeypatch.setattr(grace, "wait", waited)
    new = replace(world({entry(1, 301): ALLOW}, pods(1, 1)), nodes=frozenset({address(OTHER)}))
    native.put(Maps())
    native.put(new)
    done.clear()
    native.put(replace(new, identities=new.identities | {303}))
    assert done == ["+identities"], "nothing lingers, and nothing goes"
    done.clear()
    native.put(Maps())
    first = ["=hosts", "=hosts", "-identities", "-endpoints", "-hosts", "-nodes"]
    assert done == [*first, "wait", "-identities", "wait", "-policies"]
    done.clear()
    native.put(new)
    assert done == ["+policies", "+identities", "+nodes", "+hosts", "+endpoints"]
    done.clear()
    native.put(replace(new, endpoints=pods(2, 2)))  # type: ignore[arg-type]
    native.put(replace(new, endpoints=pods(1, 1)))  # type: ignore[arg-type]
    turned = ["=endpoints"] * len(new.endpoints)
    assert done == [*turned, "wait", *turned], (
        "the side that the second write fills was read before the first"
    )
    done.clear()
    own = dict(pods(2, 2))
    del own[address(POD)]
    own[address("10.1.0.2")] = endpoint(300, 2, ISOLATED)
    hosts = {address(PEER): 303, address(OTHER): 302}
    known = new.identities - {301} | {303}
    native.put(replace(new, endpoints=own, hosts=hosts, identities=known))  # type: ignore[arg-type]
    turn = ["=hosts", "-identities", "-endpoints", *["=endpoints"] * len(NEIGHBOURS)]
    late = ["wait", "+identities", "=hosts", "+endpoints"]
    assert done == ["wait", *turn, *late], "who is new meets nobody who goes by earlier rules"
