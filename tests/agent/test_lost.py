"""A node that nobody waited for any more, and which is back: in memory, each write seen."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.rig import NODE, Bench, Ledger, at_work, bound, compiled, pod, until
from tabard.agent.attachments import Held
from tabard.agent.checkpoints import Checkpoints
from tabard.bus.memory import MemoryBus
from tabard.dataplane.maps import Maps, Mode, Protocol, Reason, address
from tabard.dataplane.packet import Packet, TcpFlag
from tabard.events import ledger as events
from tabard.ledger.checkpoint import Checkpoint, CheckpointError
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import follow
from world import attachment, network_policy

WEB = pod("web", "10.244.1.5", app="web")
FAR = "10.244.2.5"
MORE = 300
"""Events of others, so that what a node missed comes in several batches."""


class Cut:
    """A node that enforces the ledger, with a flow from a friend; then it is cut off and lost, and
    the friend's number and address become a foe's."""

    ifindex = 100

    def __init__(self, bench: Bench | None = None) -> None:
        self.bench = bench or Bench(mode=Mode.NATIVE)
        self.ledger, self.bus = Ledger(), MemoryBus()
        self.enforced: list[int] = []
        self.watch(self.bench)
        bound(self.ledger, WEB)
        friend = {"podSelector": {"matchLabels": {"app": "friend"}}}
        rules = {"ingress": [{"from": [friend]}], "egress": [{"to": [friend]}]}
        self.ledger.policy(network_policy("p", policyTypes=["Ingress", "Egress"], **rules))
        self.ledger.pod("default/friend", {"app": "friend"}, node="n2", ip=FAR)
        self.number = self.ledger.state.endpoints["default/friend"].identity

    def watch(self, bench: Bench) -> None:
        told = bench.report.enforced

        def enforced(sequence: int, endpoints: int) -> None:
            self.enforced.append(sequence)
            told(sequence, endpoints)

        bench.report.enforced = enforced  # type: ignore[method-assign]

    async def come_up(self) -> None:
        self.bench.reconciler.attachments.put(Held(attachment("web", self.ifindex), "tbweb"))
        end = await self.ledger.write(self.bus)
        async with at_work(self.bench, bus=MemoryBus(self.bus.store)):
            await until(lambda: self.bench.report.sequence == end)
        assert self.sent() is Reason.ALLOWED_POLICY
        assert self.sent() is Reason.ALLOWED_ESTABLISHED

    async def go_by(self, *, removed: bool = False) -> int:
        """What happens while it is cut off; the ledger's end."""
        ledger = self.ledger
        self._more("before")
        gone = events.NodeRemoved(NODE) if removed else events.NodeLost(NODE, self.enforced[-1])
        ledger.emit(gone)
        ledger.stop("default/friend")
        ledger.retire(self.number)
        ledger.emit(events.IdentityReleased(self.number))
        self._more("between")
        ledger.pod("default/foe", {"app": "foe"}, node="n2", ip=FAR)
        assert ledger.state.endpoints["default/foe"].identity == self.number
        self._more("after")
        return await ledger.write(self.bus)

    def _more(self, when: str) -> None:
        for number in range(MORE):
            self.ledger.emit(events.NamespaceLabelled(f"{when}-{number}", ()))

    async def come_back(self, end: int) -> None:
        async with at_work(self.bench, bus=MemoryBus(self.bus.store)):
            await until(lambda: self.bench.report.sequence == end)

    async def read_until_lost(self) -> list[LedgerRecord]:
        """Fold as a follower does, through the batch in which the node is given up."""
        seen: list[LedgerRecord] = []
        state = self.bench.reconciler.state
        async with aclosing(follow(self.bus, state)) as batches:
            async for records in batches:
                seen += records
                if any(isinstance(record.event, events.NodeLost) for record in records):
                    return seen
        raise AssertionError("it was not lost")

    def sent(self) -> Reason | None:
        """A packet from the friend's address, in the middle of a connection."""
        ends = address(FAR), address("10.244.1.5")
        packet = Packet(*ends, Protocol.TCP, 40_000, 80, tcp_flags=TcpFlag.ACK)
        return self.bench.dataplane.to_pod(100, packet).reason


async def test_a_lost_node_enforces_nothing_between_what_it_had_and_the_ledgers_end() -> None:
    cut = Cut()
    await cut.come_up()
    before, lost_at = cut.enforced[-1], cut.ledger.state.sequence + MORE + 1
    end = await cut.go_by()
    cut.enforced.clear()
    writes: list[Maps] = []
    cut.bench.dataplane.before_write = lambda: writes.append(cut.bench.dataplane.read())
    await cut.come_back(end)
    assert [at for at in cut.enforced if at >= lost_at] == [end]
    assert max(at for at in cut.enforced if at < lost_at) <= before + MORE
    assert cut.bench.dataplane.read() == compiled(
        cut.ledger, cut.bench.reconciler.attachments.attached, Mode.NATIVE
    )
    assert writes
    assert cut.bench.report.error == ""


async def test_the_old_meaning_of_a_number_is_gone_before_the_new_one_comes() -> None:
    """Flows too, at the same address, under the same rule set."""
    cut = Cut()
    await cut.come_up()
    end = await cut.go_by()
    cut.bench.dataplane.changes.clear()
    await cut.come_back(end)
    first, *rest = cut.bench.dataplane.changes
    assert first.identities_removed == {cut.number}
    assert first.hosts_removed == {address(FAR)}
    assert {key.identity for key in first.policies_removed} == {cut.number}
    assert any(cut.number in change.identities_added for change in rest)
    assert cut.sent() is Reason.DENIED_POLICY


async def test_a_number_that_stands_for_the_same_is_left_alone() -> None:
    cut = Cut()
    await cut.come_up()
    cut.ledger.emit(events.NodeLost(NODE, cut.enforced[-1]))
    end = await cut.ledger.write(cut.bus)
    cut.bench.dataplane.changes.clear()
    await cut.come_back(end)
    assert not cut.bench.dataplane.changes
    assert cut.sent() is Reason.ALLOWED_ESTABLISHED


async def test_an_agent_started_again_goes_by_what_its_node_was_lost_at() -> None:
    """It knows nothing but what the kernel holds; so too where the node was removed."""
    for removed in (False, True):
        cut = Cut()
        await cut.come_up()
        end = await cut.go_by(removed=removed)
        before = cut.bench.dataplane
        before.changes.clear()
        cut.bench = Bench(before)
        cut.bench.reconciler.mode = Mode.NATIVE
        cut.bench.reconciler.actual = None
        cut.bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
        await cut.come_back(end)
        assert cut.number in before.changes[0].identities_removed
        assert cut.sent() is Reason.DENIED_POLICY


async def test_while_it_refolds_it_keeps_nothing_and_says_why(tmp_path: Path) -> None:
    cut = Cut()
    await cut.come_up()
    reconciler, report = cut.bench.reconciler, cut.bench.report
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        checkpoints = Checkpoints(checkpoint, reconciler, report, 60)
        await checkpoints.save()
        assert checkpoints.saved == report.sequence
        await cut.go_by()
        records = await cut.read_until_lost()
        reconciler.folded(records)
        assert "until the ledger is read to its end: LEDGER/" in report.error
        assert await checkpoints.acknowledged(report.sequence) == report.sequence
        await checkpoints.save()
        assert checkpoints.saved == 0
        state = await checkpoint.load()
        assert state is not None
        assert state.sequence == 0
        ticking = asyncio.ensure_future(reconciler.run())
        flushing = asyncio.ensure_future(reconciler.flush())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not flushing.done()
        reconciler.refolded()
        assert await flushing == reconciler.state.sequence
        assert report.error == ""
        await checkpoints.save()
        assert checkpoints.saved == reconciler.state.sequence
        ticking.cancel()


async def test_nobody_waits_again_for_a_node_whose_old_checkpoint_still_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash could bring back what its numbers stood for: no retirement tells of them."""
    cut = Cut()
    await cut.come_up()
    reconciler, report = cut.bench.reconciler, cut.bench.report
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        checkpoints = Checkpoints(checkpoint, reconciler, report, 60)
        await checkpoints.save()
        before = await checkpoints.acknowledged(report.sequence)
        assert before == report.sequence
        lost_at = await cut.go_by()

        async def full(*_: object) -> None:
            raise CheckpointError("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "_write", full)
            await cut.come_back(lost_at)
            assert await checkpoints.acknowledged(report.sequence) == before
            assert "no space left" in report.error
            started_again = Checkpoints(checkpoint, reconciler, report, 60)
            started_again.saved = before
            assert await started_again.acknowledged(report.sequence) == before
        state = await checkpoint.load()
        assert state is not None
        assert cut.number in state.identities
        assert await checkpoints.acknowledged(report.sequence) == report.sequence
        assert checkpoints.saved == report.sequence


async def test_a_node_that_nobody_waits_for_says_no_more_than_it_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers come free without its word, and no retirement tells of them afterwards."""
    cut = Cut()
    await cut.come_up()
    await cut.come_back(await cut.go_by())
    reconciler, report = cut.bench.reconciler, cut.bench.report
    assert NODE in reconciler.state.lost
    assert not reconciler.state.retired
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        # Started again, from what it saved a while ago.
        checkpoints = Checkpoints(checkpoint, reconciler, report, 60)
        checkpoints.saved, checkpoints._unwaited = report.sequence - 1, reconciler.unwaited

        async def full(*_: object) -> None:
            raise CheckpointError("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "_write", full)
            assert await checkpoints.acknowledged(report.sequence) == report.sequence - 1
        assert await checkpoints.acknowledged(report.sequence) == report.sequence


async def test_what_was_trimmed_away_is_gone_by_without_steps_too() -> None:
    """A snapshot takes the place of what it missed: its numbers are held against the maps."""
    cut = Cut()
    await cut.come_up()
    await cut.go_by()
    reconciler = cut.bench.reconciler
    reconciler.restored(cut.ledger.state)
    assert reconciler.refolding
    reconciler.refolded()
    cut.bench.dataplane.changes.clear()
    assert await reconciler.tick()
    assert cut.number in cut.bench.dataplane.changes[0].identities_removed
    assert cut.sent() is Reason.DENIED_POLICY


async def test_what_is_missed_while_a_write_is_under_way_counts_at_the_next() -> None:
    cut = Cut()
    await cut.come_up()
    await cut.go_by()
    cut.ledger.emit(events.NodeReturned(NODE, 0))  # as if it were waited for again
    reconciler = cut.bench.reconciler
    cut.bench.dataplane.before_write = lambda: (
        reconciler.refolding or reconciler.restored(cut.ledger.state)
    )
    reconciler.actual = Maps()  # so that this tick writes
    assert await reconciler.tick()
    cut.bench.dataplane.before_write = lambda: None
    reconciler.refolded()
    cut.bench.dataplane.changes.clear()
    assert await reconciler.tick()
    assert cut.number in cut.bench.dataplane.changes[0].identities_removed
