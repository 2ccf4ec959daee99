"""The tick on a memory dataplane."""

import asyncio
import threading
from typing import Any

import pytest

from agent.rig import Bench, Ledger, Recorder, bound, compiled, pod, until
from tabard.agent import reconciler
from tabard.agent.attachments import Held
from tabard.agent.reconciler import Standing
from tabard.agent.worker import Worker
from tabard.bus.memory import MemoryBus
from tabard.dataplane.maps import MAP_NAMES, Maps, Mode, Protocol, Reason, address
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.dataplane.port import Change, DataplaneError, MapSizes
from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.simulator.loop import VirtualLoop
from world import attachment, host_policy, network_policy

WEB, DB = pod("web", "10.244.1.5", app="web"), pod("db", "10.244.1.6", app="db")


def in_sync(bench: Bench, ledger: Ledger) -> None:
    bench.reconciler.state = ledger.state
    bench.reconciler.stand(Standing.IN_SYNC)


def attach(bench: Bench, *uids: str) -> None:
    for number, uid in enumerate(uids):
        bench.reconciler.attachments.put(Held(attachment(uid, 100 + number), f"tb{uid}"))


async def test_a_tick_makes_the_dataplane_what_compile_says() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    assert await bench.reconciler.tick()
    assert bench.dataplane.read() == compiled(ledger, bench.reconciler.attachments.attached)
    assert bench.report.sequence == ledger.state.sequence
    assert bench.report.endpoints == 1


async def test_nothing_is_written_before_in_sync() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    bench.reconciler.state = ledger.state
    attach(bench, "web")
    run = asyncio.ensure_future(bench.reconciler.run())
    flush = asyncio.ensure_future(bench.reconciler.flush())
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.dataplane.calls == []
    assert bench.report.sequence == 0
    bench.reconciler.stand(Standing.IN_SYNC)
    assert await flush == ledger.state.sequence
    run.cancel()


async def test_an_event_again_costs_no_write() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    before = bench.report.map_writes
    await bench.reconciler.tick()
    assert len(bench.dataplane.changes) == 1
    assert bench.report.map_writes == before


async def test_every_write_is_counted_by_its_map() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    assert dict(bench.report.map_writes) == {
        name: len(getattr(bench.dataplane.read(), name)) for name in MAP_NAMES
    }
    ledger.stop("web")
    await bench.reconciler.tick()
    assert dict(bench.report.map_writes)["endpoints"] == 2


@pytest.mark.parametrize(("mode", "writes"), [(Mode.OVERLAY, 0), (Mode.NATIVE, 1)])
async def test_a_pod_that_starts_elsewhere_costs(mode: Mode, writes: int) -> None:
    bench, ledger = Bench(mode=mode), Ledger()
    bound(ledger, WEB)
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    before = bench.report.writes.total()
    ledger.pod("default/farther", {"app": "web"}, node="n2", ip="10.244.2.6")
    await bench.reconciler.tick()
    assert bench.report.writes.total() - before == writes
    assert bench.report.sequence == ledger.state.sequence


async def test_a_pod_elsewhere_whom_an_egress_policy_names_costs_one_write() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    to_db = {"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}
    ledger.policy(network_policy("p", policyTypes=["Egress"], egress=[to_db]))
    ledger.pod("default/db1", {"app": "db"}, node="n2", ip="10.244.2.5")
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    before = bench.report.writes.total()
    ledger.pod("default/db2", {"app": "db"}, node="n2", ip="10.244.2.6")
    await bench.reconciler.tick()
    assert bench.report.writes.total() - before == 1


async def test_events_without_effect_on_maps_move_the_watermark_without_a_tick() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    tasks = [
        asyncio.ensure_future(work) for work in (bench.reconciler.run(), bench.follower.run(bus))
    ]
    await until(lambda: bench.report.sequence == end)
    ticks = bench.reconciler.ticks
    ledger.emit(events.CursorAdvanced("OBSERVED", 1))
    ledger.emit(events.WorkloadAccepted("Deployment", "default", "web", {}, ""))
    end = await ledger.write(bus)
    await until(lambda: bench.report.sequence == end)
    assert bench.reconciler.ticks == ticks
    for task in tasks:
        task.cancel()


async def enforcing(bench: Bench) -> Ledger:
    """A ledger with a pod, told to `bench` and enforced by it."""
    ledger = Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web", "db")
    assert await bench.reconciler.tick()
    ledger.untold.clear()
    return ledger


def told(bench: Bench, ledger: Ledger) -> None:
    bench.reconciler.folded(ledger.untold)
    ledger.untold.clear()


async def test_a_pod_that_starts_outside_the_span_moves_the_watermark_without_a_tick() -> None:
    bench = Bench()
    ledger = await enforcing(bench)
    run = asyncio.ensure_future(bench.reconciler.run())
    await bench.reconciler.flush()
    ticks = bench.reconciler.ticks
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    told(bench, ledger)
    assert bench.report.sequence == bench.reconciler.expected_at == ledger.state.sequence
    assert bench.reconciler.ticks == ticks
    run.cancel()


async def test_in_step_with_the_dataplane_a_tick_compares_no_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(mode=Mode.NATIVE)
    ledger = await enforcing(bench)
    monkeypatch.delattr(reconciler, "diff")
    bound(ledger, DB)
    ledger.pod("default/far", {"app": "far"}, node="n2", ip="10.244.2.5")
    ledger.stop("web")
    told(bench, ledger)
    assert await bench.reconciler.tick()
    assert bench.dataplane.changes[-1].counts() == {"identities": 2, "hosts": 1, "endpoints": 2}
    assert bench.dataplane.read() == compiled(
        ledger, bench.reconciler.attachments.attached, Mode.NATIVE
    )


async def test_after_a_write_and_a_read_that_failed_what_is_there_is_read_again() -> None:
    bench = Bench()
    ledger = await enforcing(bench)
    read = bench.dataplane.read
    stands = address("10.244.1.5")

    def gone() -> Maps:
        raise DataplaneError("nothing can be read")

    bench.dataplane.fail = DataplaneError("the kernel is on strike")
    bench.dataplane.read = gone  # type: ignore[method-assign]
    bound(ledger, DB)
    told(bench, ledger)
    assert not await bench.reconciler.tick()
    assert bench.reconciler.endpoint(stands) is None, "it is not known to stand"
    assert not await bench.reconciler.tick()
    bench.dataplane.fail, bench.dataplane.read = None, read  # type: ignore[method-assign]
    # Meanwhile someone meddled, or the write was half done.
    bench.dataplane.write(Change(endpoints_removed=frozenset({stands})))
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    told(bench, ledger)
    assert await bench.reconciler.tick()
    assert read() == compiled(ledger, bench.reconciler.attachments.attached)
    assert bench.reconciler.endpoint(stands) is not None
    assert bench.report.sequence == ledger.state.sequence


async def test_of_a_write_that_failed_what_was_done_is_counted() -> None:
    bench = Bench(Recorder(sizes=MapSizes(endpoints=1)))
    ledger = await enforcing(bench)
    before = bench.report.writes.copy()
    bound(ledger, DB)
    told(bench, ledger)
    assert not await bench.reconciler.tick()
    assert bench.report.writes - before == {"identities": 1}


async def test_the_watermark_moves_only_after_the_write() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    entered, go_on = threading.Event(), threading.Event()
    bench.dataplane.before_write = lambda: (entered.set(), go_on.wait(10))
    tick = asyncio.ensure_future(bench.reconciler.tick())
    await until(entered.is_set)
    # Events that come during the write are the next tick's.
    written_for = ledger.state.sequence
    bound(ledger, DB)
    assert bench.report.sequence == 0
    go_on.set()
    assert await tick
    assert bench.report.sequence == written_for


async def test_many_flushes_share_a_tick() -> None:
    bench, ledger = Bench(), Ledger()
    in_sync(bench, ledger)
    run = asyncio.ensure_future(bench.reconciler.run())
    await asyncio.gather(*(bench.reconciler.flush() for _ in range(100)))
    assert bench.reconciler.ticks <= 2
    run.cancel()


async def test_a_write_that_failed_is_told_and_tried_again() -> None:
    bench, ledger = Bench(), Ledger()
    in_sync(bench, ledger)
    bench.dataplane.fail = DataplaneError("the kernel is on strike")
    run = asyncio.ensure_future(bench.reconciler.run())
    with pytest.raises(DataplaneError, match="strike"):
        await bench.reconciler.flush()
    assert bench.report.error == "the kernel is on strike"
    assert bench.report.sequence == 0
    bench.dataplane.fail = None
    await until(lambda: bench.report.sequence == ledger.state.sequence)
    assert bench.report.error == ""
    run.cancel()


async def test_a_full_map_is_closed_and_told_and_recovers() -> None:
    bench = Bench(Recorder(sizes=MapSizes(endpoints=1)))
    ledger = Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web", "db")
    await bench.reconciler.tick()
    stands = bench.report.sequence
    bound(ledger, DB)
    assert not await bench.reconciler.tick()
    assert 'map "endpoints" is full (1 of 1); raise' in bench.report.error
    assert not await bench.reconciler.tick()
    assert bench.report.status().full == (("endpoints", 2),)
    assert bench.report.sequence == stands
    assert set(bench.dataplane.read().endpoints) == {address("10.244.1.5")}
    ledger.stop("web")
    assert await bench.reconciler.tick()
    assert bench.report.error == ""
    assert bench.report.sequence == ledger.state.sequence
    assert bench.dataplane.read() == compiled(ledger, bench.reconciler.attachments.attached)


async def test_when_a_map_is_full_nothing_that_allows_is_taken_from_who_stays() -> None:
    bench = Bench(Recorder(sizes=MapSizes(policies=1)))
    ledger = Ledger()
    bound(ledger, WEB)
    bound(ledger, DB)
    ledger.policy(network_policy("p", ingress=[{"ports": [{"port": 1}]}]))
    in_sync(bench, ledger)
    attach(bench, "web", "db")
    assert await bench.reconciler.tick()
    before = bench.dataplane.read()
    ledger.policy(network_policy("p", ingress=[{"ports": [{"port": 1}, {"port": 2}]}]))
    assert not await bench.reconciler.tick()
    assert bench.dataplane.read() == before


def ports(count: int) -> list[dict[str, int]]:
    return [{"port": 2 * number + 1} for number in range(count)]


PORTS = 12


@pytest.mark.parametrize("room", [0, 1, 2])
async def test_a_policy_that_just_fits_is_written_and_one_entry_more_is_not(room: int) -> None:
    """With `room` entries besides: the old ones stand until the new ones are in force."""
    bench = Bench(Recorder(sizes=MapSizes(policies=PORTS + room)))
    ledger = await enforcing(bench)
    ledger.policy(network_policy("p", ingress=[{"ports": ports(1)}]))
    told(bench, ledger)
    assert await bench.reconciler.tick()
    before = bench.dataplane.read()
    calls = list(bench.dataplane.calls)
    stands = bench.report.sequence
    ledger.policy(network_policy("p", ingress=[{"ports": ports(1)}, {"ports": ports(PORTS)}]))
    told(bench, ledger)
    if room:
        assert await bench.reconciler.tick()
        assert len(bench.dataplane.read().policies) == PORTS
        return
    assert not await bench.reconciler.tick()
    assert bench.dataplane.read() == before
    assert bench.dataplane.calls == calls, "nothing was written, and nothing tried"
    assert bench.report.sequence == stands
    assert bench.report.status().full == (("policies", 1),)
    assert bench.report.error == (
        'map "policies" has no room (13 of 12 while old and new entries are both there); of what '
        "is new NetworkPolicy default/p, spec.ingress[1] (12) asks for most; name fewer peers or "
        "ports there, or raise TABARD_POLICIES_MAX"
    )
    ledger.policy(network_policy("p", ingress=[{"ports": ports(2)}]))
    told(bench, ledger)
    assert await bench.reconciler.tick()
    assert bench.report.error == ""
    assert bench.dataplane.read() == compiled(ledger, bench.reconciler.attachments.attached)


async def test_a_pod_whose_policy_does_not_fit_stays_shut() -> None:
    bench = Bench(Recorder(sizes=MapSizes(policies=PORTS - 1)))
    ledger = await enforcing(bench)
    ledger.policy(
        network_policy(
            "p", podSelector={"matchLabels": {"app": "db"}}, ingress=[{"ports": ports(PORTS)}]
        )
    )
    bound(ledger, DB)
    told(bench, ledger)
    assert not await bench.reconciler.tick()
    assert "NetworkPolicy default/p, spec.ingress[0]" in bench.report.error
    assert set(bench.dataplane.read().endpoints) == {address("10.244.1.5")}


async def test_a_map_full_of_what_is_to_go_makes_room() -> None:
    bench = Bench(Recorder(sizes=MapSizes(endpoints=1)))
    ledger = Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web", "db")
    await bench.reconciler.tick()
    ledger.stop("web")
    bound(ledger, DB)
    assert await bench.reconciler.tick()
    assert set(bench.dataplane.read().endpoints) == {address("10.244.1.6")}
    assert bench.report.error == ""


async def test_offline_only_the_nodes_own_pods_are_written() -> None:
    bench, ledger = Bench(mode=Mode.NATIVE), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    stands = bench.dataplane.read()

    later = Bench(bench.dataplane, Mode.NATIVE)
    later.reconciler.actual = stands
    bound(ledger, DB)
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    later.reconciler.state = ledger.state
    attach(later, "web", "db")
    later.reconciler.stand(Standing.OFFLINE)
    assert await later.reconciler.tick()
    now = bench.dataplane.read()
    assert now.endpoints.keys() - stands.endpoints.keys() == {address("10.244.1.6")}
    assert now.hosts == stands.hosts
    assert now.identities - stands.identities == {ledger.state.endpoints["db"].identity}
    assert later.report.sequence == 0

    later.reconciler.stand(Standing.IN_SYNC)
    await later.reconciler.tick()
    attached = later.reconciler.attachments.attached
    assert bench.dataplane.read() == compiled(ledger, attached, Mode.NATIVE)


async def test_policies_of_a_node_whose_wire_nobody_guards_are_told() -> None:
    bench, ledger = Bench(), Ledger()
    bench.dataplane.guards_node = False
    ledger.policy(host_policy("p", {}, ingress=[]))
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    assert await bench.reconciler.tick()
    assert "set TABARD_UNDERLAY_DEVICE" in bench.report.error
    assert bench.report.endpoints == 1, "the node is no pod"
    ledger.forget("", "p", "CiliumClusterwideNetworkPolicy")
    assert await bench.reconciler.tick()
    assert bench.report.error == ""


async def test_standing_never_goes_back() -> None:
    bench = Bench()
    bench.reconciler.stand(Standing.IN_SYNC)
    bench.reconciler.stand(Standing.OFFLINE)
    assert bench.reconciler.standing is Standing.IN_SYNC


async def test_a_pod_that_stopped_leaves_the_maps_though_its_interface_is_attached() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    in_sync(bench, ledger)
    attach(bench, "web")
    await bench.reconciler.tick()
    ledger.stop("web")
    await bench.reconciler.tick()
    assert bench.dataplane.read().endpoints == {}
    assert bench.dataplane.calls == ["write", "write"]


class Server:
    """An egress-isolated pod on this node that answers a client on another, outside the span."""

    CLIENT = "10.244.2.5"

    def __init__(self) -> None:
        self.bench, self.ledger = Bench(), Ledger()
        bound(self.ledger, WEB)
        self.ledger.policy(network_policy("p", policyTypes=["Egress"], egress=[]))
        self.client = self.ledger.pod("default/old", {"app": "old"}, node="n2", ip=self.CLIENT)
        in_sync(self.bench, self.ledger)
        attach(self.bench, "web")

    async def asked(self) -> None:
        await self.bench.reconciler.tick()
        identity = self.ledger.state.endpoints[self.client].identity
        assert self.sent(self.CLIENT, WEB.addresses[0], 40_000, 80, identity).allowed
        assert self.answers()

    def sent(self, source: str, to: str, sport: int, dport: int, mark: int | None) -> Reason:
        packet = Packet(address(source), address(to), Protocol.TCP, sport, dport)
        if mark is None:
            return self.bench.dataplane.from_pod(100, packet).reason
        return self.bench.dataplane.to_pod(100, packet, mark).reason

    def answers(self) -> bool:
        return self.sent(WEB.addresses[0], self.CLIENT, 80, 40_000, None).allowed

    async def told(self, *events: object) -> None:
        """A tick after the ledger went on by `events`."""
        records = [Recorded("LEDGER", 1, Envelope(b"", "", 0), event) for event in events]
        self.bench.reconciler.folded(records)  # type: ignore[arg-type]
        assert await self.bench.reconciler.tick()


async def test_answers_stop_when_their_address_is_bound_to_another_identity() -> None:
    server = Server()
    await server.asked()
    server.ledger.stop(server.client)
    server.ledger.pod("default/new", {"app": "new"}, node="n2", ip=server.CLIENT)
    await server.told(server.ledger.events[-1][0])
    assert not server.answers()


async def test_answers_stop_when_their_peer_is_relabelled() -> None:
    server = Server()
    await server.asked()
    server.ledger.relabel(server.client, {"app": "suspect"})
    await server.told(server.ledger.events[-1][0])
    assert not server.answers()


async def test_answers_go_on_when_somebody_else_starts_or_the_address_is_nobodys() -> None:
    server = Server()
    await server.asked()
    server.ledger.pod("default/more", {"app": "new"}, node="n2", ip="10.244.2.6")
    await server.told(server.ledger.events[-1][0])
    assert server.answers()


@pytest.mark.parametrize("opened_by", ["peer", "pod"])
async def test_a_number_that_becomes_anothers_takes_no_flow_along(opened_by: str) -> None:
    """The rule set keeps its id, and the new peer takes over the address too."""
    bench = Bench(mode=Mode.NATIVE)
    ledger = await enforcing(bench)
    friend = {"podSelector": {"matchLabels": {"app": "friend"}}}
    ledger.policy(
        network_policy(
            "p",
            policyTypes=["Ingress", "Egress"],
            ingress=[{"from": [friend]}],
            egress=[{"to": [friend]}],
        )
    )
    far = "10.244.2.5"
    ledger.pod("default/friend", {"app": "friend"}, node="n2", ip=far)
    number = ledger.state.endpoints["default/friend"].identity
    told(bench, ledger)
    assert await bench.reconciler.tick()
    ifindex = bench.dataplane.read().endpoints[address("10.244.1.5")].ifindex

    def send() -> Reason | None:
        ends = address(far), address("10.244.1.5")
        if opened_by == "peer":
            return bench.dataplane.to_pod(
                ifindex, Packet(*ends, Protocol.TCP, 40_000, 80, tcp_flags=TcpFlag.ACK)
            ).reason
        ends = ends[1], ends[0]
        return bench.dataplane.from_pod(
            ifindex, Packet(*ends, Protocol.TCP, 40_000, 80, tcp_flags=TcpFlag.ACK)
        ).reason

    assert send() is Reason.ALLOWED_POLICY
    assert send() is Reason.ALLOWED_ESTABLISHED
    ledger.stop("default/friend")
    ledger.retire(number)
    told(bench, ledger)
    assert await bench.reconciler.tick()
    ledger.emit(events.IdentityReleased(number))
    ledger.pod("default/foe", {"app": "foe"}, node="n2", ip=far)
    assert ledger.state.endpoints["default/foe"].identity == number
    told(bench, ledger)
    assert await bench.reconciler.tick()
    assert send() is Reason.DENIED_POLICY


def test_a_tick_that_stood_still_is_not_followed_by_as_long_a_pause() -> None:
    """As where the process was stopped while it wrote: what came meanwhile waits no longer."""

    class Still(Worker):
        async def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
            if function == bench.dataplane.write:
                await asyncio.sleep(600)
            return function(*args, **kwargs)

    loop = VirtualLoop()
    with loop.running():
        bench = Bench()
        bench.reconciler.worker = Still(at_once=True)
        ledger = Ledger()
        bench.reconciler.state = ledger.state
        bench.reconciler.stand(Standing.IN_SYNC)
        loop.create_task(bench.reconciler.run())
        loop.advance(601)
        assert bench.dataplane.calls == ["write"]
        bench.reconciler.wake()
        loop.advance(2)
        assert bench.reconciler.ticks == 2
        loop.abandon()
