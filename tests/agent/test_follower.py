from agent.rig import Bench, Ledger, at_work, bound, compiled, pod, until
from tabard.agent.attachments import Held
from tabard.agent.follower import stand_offline
from tabard.agent.reconciler import Standing
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Outgoing, Stream
from tabard.events import chain
from tabard.events import ledger as events
from tabard.ledger import archive
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from world import attachment

WEB = pod("web", "10.244.1.5", app="web")


async def poison(bus: MemoryBus, ledger: Ledger) -> int:
    """An event of a type that nobody knows yet, rightly chained; its sequence."""
    body = b"\x98\xa6future\x01\xc4\x10" + b"i" * 16 + b"\xa0\x00\xa0\xc4\x00\x80"
    payload, ledger.chain = chain.link(ledger.chain, body)
    ledger.written = await bus.append([Outgoing("tabard.ledger.future", payload)], ledger.written)
    ledger.events.insert(ledger.written - 1, ledger.events[0])  # keeps its place
    return ledger.written


async def quarantine(bus: MemoryBus, ledger: Ledger, sequence: int) -> None:
    ledger.state.sequence = ledger.written  # the builder's own state skips it as well
    ledger.emit(events.EventQuarantined("LEDGER", sequence, "from the future"))
    await ledger.write(bus)


async def test_an_agent_is_in_sync_when_it_has_read_what_was_there() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with at_work(bench, bus=bus):
        await until(lambda: bench.reconciler.standing is Standing.IN_SYNC)
        assert bench.reconciler.state.sequence == end
        assert bench.follower.events == end


async def test_an_empty_ledger_is_in_sync_at_once() -> None:
    bench = Bench()
    async with at_work(bench, bus=MemoryBus()):
        await until(lambda: bench.reconciler.standing is Standing.IN_SYNC)


async def test_a_node_that_is_refused_says_so_until_it_is_taken() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    name, taken = bench.reconciler.node, ("192.0.2.1",)
    ledger.emit(events.NodeRefused(name, taken, (), (), "192.0.2.1 is node other's"))
    await ledger.write(bus)
    async with at_work(bench, bus=bus):
        await until(lambda: "192.0.2.1 is node other's" in bench.report.error)
        ledger.emit(events.NodeAdded(name, taken, ()))
        await ledger.write(bus)
        await until(lambda: not bench.report.error)


async def test_a_node_whose_join_is_passed_over_says_why() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    async with at_work(bench, bus=bus):
        bench.reconciler.joined_at = 7
        ledger.emit(events.EventQuarantined("OBSERVED", 6, "another's"))
        await ledger.write(bus)
        await until(lambda: bench.reconciler.state.sequence == ledger.written)
        assert not bench.report.error
        ledger.emit(events.EventQuarantined("OBSERVED", 7, "127.0.0.1 is no address of a node"))
        await ledger.write(bus)
        await until(lambda: "127.0.0.1 is no address of a node" in bench.report.error)


async def test_a_node_that_is_taken_out_says_so_until_it_is_back() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    name = bench.reconciler.node
    async with at_work(bench, bus=bus):
        ledger.emit(events.NodeAdded(name, (), ()))
        await ledger.write(bus)
        await until(lambda: bench.reconciler.state.sequence == ledger.written)
        assert not bench.report.error
        ledger.emit(events.NodeRemoved(name))
        await ledger.write(bus)
        await until(lambda: "was taken out of the cluster" in bench.report.error)
        ledger.emit(events.NodeAdded(name, (), ()))
        await ledger.write(bus)
        await until(lambda: not bench.report.error)


async def test_before_poison_it_stops_and_after_quarantine_it_goes_on() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == ledger.written)
        before, maps = bench.report.sequence, bench.dataplane.read()
        bad = await poison(bus, ledger)
        await until(lambda: bench.report.error)
        assert bench.report.error.startswith(f"stopped before LEDGER/{bad}")
        assert "tabard events quarantine" in bench.report.error
        assert bench.report.sequence == before
        assert bench.dataplane.read() == maps
        await quarantine(bus, ledger, bad)
        ledger.stop("web")
        end = await ledger.write(bus)
        await until(lambda: bench.report.sequence == end)
        assert bench.report.error == ""
        assert bench.dataplane.read().endpoints == {}


async def test_what_comes_before_poison_in_its_batch_is_enforced() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == ledger.written)
        bound(ledger, WEB)
        end = await ledger.write(bus)
        await poison(bus, ledger)
        await until(lambda: bench.report.error)
        await until(lambda: bench.report.sequence == end)
        assert len(bench.dataplane.read().endpoints) == 1


async def test_stopped_before_it_was_in_sync_it_only_adds() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    await ledger.write(bus)
    bad = await poison(bus, ledger)
    async with at_work(bench, bus=bus):
        await until(lambda: bench.reconciler.standing is Standing.OFFLINE)
        assert bench.reconciler.state.sequence == bad - 1
        assert bench.report.sequence == 0


async def test_a_checkpoint_of_another_ledger_is_thrown_away() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    end = await ledger.write(bus)
    bench.reconciler.state = State(sequence=end, chain=b"x" * 16)
    async with at_work(bench, bus=bus):
        await until(lambda: bench.reconciler.standing is Standing.IN_SYNC)
        assert bench.follower.events == end
        assert bench.reconciler.state.chain == ledger.chain


async def test_a_checkpoint_ahead_of_the_ledger_is_thrown_away() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    end = await ledger.write(bus)
    bench.reconciler.state = State(sequence=end + 5, chain=ledger.chain)
    async with at_work(bench, bus=bus):
        await until(lambda: bench.reconciler.standing is Standing.IN_SYNC)
        assert bench.reconciler.state.sequence == end


async def test_a_running_agent_does_not_take_up_another_ledger() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == end)
        maps = bench.dataplane.read()
        bus.store.logs[Stream.LEDGER] = type(bus.store.logs[Stream.LEDGER])(Stream.LEDGER)
        other = Ledger(nodes=1)
        while len(other.events) < end + 3:
            other.emit(events.CursorAdvanced("OBSERVED", 1))
        await other.write(bus)
        await until(lambda: "restart the agent" in bench.report.error)
        assert bench.dataplane.read() == maps
        assert bench.report.sequence == end


async def test_redelivery_of_the_whole_ledger_leaves_the_maps_as_they_are() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == end)
    maps, writes = bench.dataplane.read(), len(bench.dataplane.changes)
    again = Bench(bench.dataplane)
    again.reconciler.actual = maps
    again.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(again, bus=bus):
        await until(lambda: again.report.sequence == end)
    assert again.dataplane.read() == maps == compiled(ledger, {"web": attachment("web")})
    assert not any(again.dataplane.changes[writes:])
    assert again.report.writes.total() == 0


async def test_without_a_checkpoint_an_agent_without_a_bus_stays_waiting() -> None:
    bench = Bench()
    await stand_offline(bench.reconciler, 0)
    assert bench.reconciler.standing is Standing.WAITING


async def test_with_a_checkpoint_an_agent_without_a_bus_serves_from_it() -> None:
    bench, ledger = Bench(), Ledger()
    bench.reconciler.state = ledger.state
    await stand_offline(bench.reconciler, 0)
    assert bench.reconciler.standing is Standing.OFFLINE


async def snapshot(bus: MemoryBus) -> int:
    """Take one of the ledger's end; its sequence."""
    state = await catch_up(bus, State(), observe=lambda record: None)
    return (await archive.store(bus, archive.Frozen.of(state), "test")).sequence


async def test_an_agent_that_knows_nothing_begins_at_a_snapshot_and_reads_the_tail() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    await ledger.write(bus)
    taken = await snapshot(bus)
    ledger.pod("default/late", {"app": "late"}, node="n2", ip="10.244.2.5")
    end = await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == end)
        assert bench.follower.events == end - taken
        assert bench.dataplane.read() == compiled(ledger, {"web": attachment("web")})


async def test_an_agent_that_was_away_while_the_ledger_was_trimmed_goes_on_at_a_snapshot() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(bench, bus=bus):
        await until(lambda: bench.report.sequence == end)
        later = MemoryBus()
        later.store.logs[Stream.LEDGER].messages += bus.store.logs[Stream.LEDGER].messages
        later.store.logs[Stream.LEDGER].last = end
        for number in range(3, 9):
            ledger.pod(f"default/p{number}", {"app": "late"}, node="n2", ip=f"10.244.2.{number}")
        await ledger.write(later)
        taken = await snapshot(later)
        await later.trim(taken)
        ledger.pod("default/last", {"app": "late"}, node="n2", ip="10.244.2.9")
        await ledger.write(later)
        bus.store.logs, bus.store.objects = later.store.logs, later.store.objects
        bus.store.notify()
        await until(lambda: bench.report.sequence == ledger.written)
        assert not bench.report.error
        assert bench.dataplane.read() == compiled(ledger, {"web": attachment("web")})
    # Its checkpoint may have been older still.
    again = Bench()
    again.reconciler.state = State(sequence=1, chain=b"x" * 16)
    again.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    async with at_work(again, bus=bus):
        await until(lambda: again.report.sequence == ledger.written)
        assert again.dataplane.read() == bench.dataplane.read()


async def test_where_no_snapshot_leads_on_an_agent_says_so_and_enforces_what_it_has() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    bench.reconciler.state = State(sequence=1, chain=b"x" * 16)
    await snapshot(bus)
    await bus.trim(end)
    info, content = bus.store.objects[str(end)]
    bus.store.objects[str(end)] = info, content[:-1]
    async with at_work(bench, bus=bus):
        await until(lambda: "no snapshot leads on" in bench.report.error)
        assert bench.reconciler.standing is Standing.WAITING
        bus.store.objects[str(end)] = info, content
        await until(lambda: bench.report.sequence == end)
        assert not bench.report.error
