"""The tick: compile what is to be enforced, compare with what is, write the difference."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import structlog

from tabard.agent.attachments import Attachments
from tabard.agent.changes import carried_out, local, relief, reused
from tabard.agent.figures import Figures
from tabard.agent.report import Report
from tabard.agent.worker import Worker
from tabard.dataplane.maps import (
    Address,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    address_text,
    is_of_node,
)
from tabard.dataplane.port import Change, Dataplane, DataplaneError, MapFull, PoliciesFull
from tabard.events import ledger
from tabard.events.codec import type_name
from tabard.identity.numbers import is_pod
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State
from tabard.policy.compile import Compiler
from tabard.policy.diff import diff

log = structlog.get_logger(__name__)

RETRY_S_MIN = 0.05
RETRY_S_MAX = 1.0
"""Wait after a write that failed; doubles with each one in a row."""

PAUSE_S_MAX = 1.0
"""Longest pause after a tick: one that took longer may have stood still, with its process or in its
kernel, and all that came meanwhile waits."""

GIVEN_UP = (ledger.NodeLost, ledger.NodeRemoved)
"""Events after which nobody waits for a node, and numbers that it enforces may become others'."""
MOVES = (ledger.EndpointBound, ledger.EndpointRelabelled, ledger.EndpointsRebound)
"""Events after which an address may be another identity's."""


UNGUARDED = (
    "policies select this node, and nothing sees what it sends to other machines or gets from "
    "them; set TABARD_UNDERLAY_DEVICE to the device that has its addresses"
)


class Standing(Enum):
    """What the agent may write."""

    WAITING = "waiting"
    """Nothing: it does not know yet what the ledger says."""
    OFFLINE = "offline"
    """It has a checkpoint, but the ledger's end is out of reach: its own pods only."""
    IN_SYNC = "in_sync"
    """Everything: it has read all that was in the ledger when it began to follow."""


class Reconciler:
    """Owns the folded state, the attachments and the known content of the dataplane's maps.

    Whoever changes `state` or `attachments` calls `wake`. Both may change while a write is under
    way: it is the next tick's business.
    """

    def __init__(
        self,
        *,
        node: str,
        mode: Mode,
        dataplane: Dataplane,
        worker: Worker,
        report: Report,
        spacing_s: float,
    ) -> None:
        self.node = node
        self.mode = mode
        self.dataplane = dataplane
        self.worker = worker
        self.report = report
        self.state = State()
        self.attachments = Attachments()
        self.actual: Maps | None = Maps()
        """What the dataplane holds, as far as its only writer knows; None while that is open."""
        self.expected = Maps()
        """What it should hold at `expected_at`; drift is measured against it."""
        self.expected_at = 0
        self.joined_at = 0
        """OBSERVED sequence of what this process said of its node; 0: nothing."""
        self.standing = Standing.WAITING
        self.ready = asyncio.Event()
        """Not WAITING."""
        self.in_sync = asyncio.Event()
        self.started = asyncio.Event()
        """A tick in sync has ended, well or not: what could wait need not compete with it."""
        self.lock = asyncio.Lock()
        """Held from compiling to written, and while the maps are read."""
        self.listeners: list[Callable[[Sequence[LedgerRecord]], None]] = []
        """Told of what was folded, as it was; of nothing where another state took its place."""
        self.stale_after_s = 0
        """The shortest bound that policies set on a local pod (Endpoint.stale_after_s); 0: none."""
        self.refolding = False
        """`state` is on its way to the ledger's end, over events by which nobody waited for this
        node: until it is there nothing of it is enforced or kept."""
        self.unwaited = 0
        """How often `state` came over events by which nobody waited for this node, or may have:
        numbers that it knew before may be others' since."""
        self.ticks = 0
        self.figures = Figures()
        self._compiler = Compiler()
        self._pods = 0
        """Local pods that are enforced, and whether any of them is for egress."""
        self._is_egress_enforced = False
        self._moved = False
        """Whether an address changed hands since the flows were last looked through."""
        self._retired: frozenset[int] = frozenset()
        """Identities that went since then: their numbers may become others'."""
        self._is_whole = False
        """A change was written that left nothing out: a dataplane may have waited for it before it
        had packets judged by these maps."""
        self._unwaited = False
        """It was, and no tick has ended since: numbers may stand for others than in the maps."""
        self._settled = asyncio.Event()
        self._settled.set()
        """Not refolding."""
        self._spacing_s = spacing_s
        self._wake = asyncio.Event()
        self._flushing: list[asyncio.Future[int]] = []

    def stand(self, standing: Standing) -> None:
        """From WAITING on to OFFLINE or IN_SYNC, and from OFFLINE to IN_SYNC; never back."""
        if standing is self.standing or self.standing is Standing.IN_SYNC:
            return
        log.info("agent.standing", standing=standing.value, sequence=self.state.sequence)
        self.standing = standing
        self.ready.set()
        if standing is Standing.IN_SYNC:
            self.in_sync.set()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    @property
    def is_woken(self) -> bool:
        """Whether a tick is due."""
        return self._wake.is_set()

    def restored(self, state: State) -> None:
        """`state` takes the place of what was known: events between the two were not seen."""
        self.unwaited += 1
        if self.standing is not Standing.WAITING:
            self._refold("events that it did not see were trimmed away")
        before, self.state = self.state.identities, state
        after = state.identities
        self._moved = True
        self._retired |= {
            number
            for number, held in before.items()
            if number not in after or after[number].labels != held.labels
        }
        for listener in self.listeners:
            listener(())
        self.wake()

    def folded(self, records: Iterable[LedgerRecord]) -> None:
        """`state` has gone on by `records`. Costs no tick if no map depends on them."""
        records = list(records)
        for listener in self.listeners:
            listener(records)
        for record in records:
            if isinstance(record.event, GIVEN_UP) and record.event.name == self.node:
                self._refold(f"LEDGER/{record.sequence} gave it up ({type_name(record.event)})")
        self._moved |= any(isinstance(record.event, MOVES) for record in records)
        is_touched = self._compiler.note(records)
        settled = not (self._wake.is_set() or self.lock.locked() or self.report.troubles)
        if (
            settled
            and not self._unwaited
            and self.standing is Standing.IN_SYNC
            and not is_touched
            and not self._has_flows_to_forget
        ):
            self.expected_at = self.state.sequence
            self.report.enforced(self.state.sequence, self._pods)
        else:
            if self.standing is Standing.IN_SYNC:  # else they are the past, read again
                self.figures.came(records)
            self.wake()

    def _refold(self, why: str) -> None:
        self.unwaited += 1
        if self.refolding:
            return
        log.warning(
            "agent.refolding", reason=why, enforced=self.report.sequence, read=self.state.sequence
        )
        self.refolding = self._unwaited = True
        self._settled.clear()
        if self.standing is not Standing.WAITING:
            self.report.fail(
                "lost", f"nothing newer is enforced until the ledger is read to its end: {why}"
            )

    def refolded(self) -> None:
        """`state` is at the ledger's end, as it was when the refolding began, or later."""
        if self.refolding:
            log.info("agent.refolded", sequence=self.state.sequence)
            self.refolding = False
            self.report.clear("lost")
            self._settled.set()
            self.wake()

    async def flush(self) -> int:
        """Wait until a tick that began after this call has written; the sequence it wrote for.

        Raises the tick's DataplaneError.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._flushing.append(done)
        self.wake()
        return await done

    async def run(self) -> None:
        """Tick for ever, whenever woken."""
        loop = asyncio.get_running_loop()
        retry_s = RETRY_S_MIN
        while True:
            await self._wake.wait()
            await self.ready.wait()
            await self._settled.wait()
            self._wake.clear()
            begun = loop.time()
            is_whole = self.standing is Standing.IN_SYNC
            done = await self.tick()
            if is_whole:
                self.started.set()
            self.figures.ticked(loop.time() - begun, self.report.sequence if done else None)
            if done:
                retry_s = RETRY_S_MIN
                # As much pause as work: a node that falls behind folds more into each tick.
                pause_s = max(self._spacing_s, min(loop.time() - begun, PAUSE_S_MAX))
            else:
                pause_s, retry_s = retry_s, min(retry_s * 2, RETRY_S_MAX)
                self.wake()
            await asyncio.sleep(pause_s)

    async def tick(self) -> bool:
        """Bring the dataplane to the present state; False if it could not be done."""
        async with self.lock:
            flushing, self._flushing = self._flushing, []
            self.ticks += 1
            try:
                sequence = await self._enforce()
            except DataplaneError as error:
                kind = "agent.dataplane_failed"
                if isinstance(error, MapFull):
                    kind = "agent.map_full"
                    self.report.full[error.name] += 1
                if self.report.fail("dataplane", str(error)):
                    log.error(kind, error=str(error), sequence=self.report.sequence)
                for done in flushing:
                    if not done.done():
                        done.set_exception(error)
                return False
            except BaseException:
                for done in flushing:
                    done.cancel()
                raise
            if self.report.clear("dataplane"):
                log.info("agent.dataplane_recovered", sequence=sequence)
            for done in flushing:
                if not done.done():
                    done.set_result(sequence)
            return True

    async def _enforce(self) -> int:
        actual = self.actual if self.actual is not None else await self._read()
        if self.standing is Standing.IN_SYNC:
            actual = await self._forget_numbers(actual)
        self.attachments.settle(self.state)
        sequence = self.state.sequence
        change = self._compiler.update(self.state, self.node, self.mode, self.attachments.attached)
        desired, self.actual = self._compiler.maps, None
        if change is None or actual is not desired:
            change = diff(actual, desired)
            self._count(desired)
        elif change.endpoints_set or change.endpoints_removed:
            self._count(desired)
        if self.standing is not Standing.IN_SYNC:
            if actual.identities:
                change = local(actual, change, self.attachments.ifindexes())
            # Else nothing is enforced yet, so there is nothing that the checkpoint could be behind.
            await self._write(change)
            self.actual = self.expected = await self._read()
            self.expected_at = sequence
            self._count(self.actual)
            self.report.enforced(self.report.sequence, self._pods)
            return sequence
        self.expected, self.expected_at = desired, sequence
        self._retired |= change.identities_removed
        try:
            self._have_room(change, desired)
            await self._write(change)
        except MapFull:
            # It may be full of what is to go: entries are added first so that nothing is missing
            # in between, and then there is no room.
            actual = self.actual if self.actual is not None else await self._read()
            if not (room := relief(actual, diff(actual, desired))):
                raise
            await self._write(room)
            change = diff(await self._read(), desired)
            self._have_room(change, desired)
            await self._write(change)
        self.actual = desired
        await self._forget_flows()
        self._unwaited = self.refolding  # which may have begun since this tick did
        if change:
            log.debug("agent.applied", sequence=sequence, **change.counts())
        self.report.enforced(sequence, self._pods)
        return sequence

    async def _forget_numbers(self, actual: Maps) -> Maps:
        """Take out of the maps, and of the flows, what is about numbers that stand for others now;
        the maps as they are then. A node that somebody waits for has none."""
        while (since := self._unwaited_since()) is not None:
            change = reused(actual, self.state.identities, since)
            if not change:
                break
            numbers = change.identities_removed
            log.warning("agent.numbers_reused", numbers=len(numbers), since=since)
            self.actual = None
            await self._write(change)
            self._retired |= numbers
            await self._forget_flows()
            actual = await self._read()
        return actual

    def _unwaited_since(self) -> int | None:
        """Through which sequence the maps' numbers are what they were; None: all are."""
        lost = self.state.lost.get(self.node)
        if lost is not None:
            return self.report.sequence or lost.watermark
        if self.node not in self.state.nodes:
            return self.report.sequence
        return self.report.sequence if self._unwaited and self.report.sequence else None

    def _have_room(self, change: Change, desired: Maps) -> None:
        """PoliciesFull if the policy map cannot hold what it will have been told, before anything
        of it is: half a rule set, which nobody uses, would be all that fits."""
        size = self.dataplane.sizes.policies
        needed = len(desired.policies) + len(change.policies_removed)
        if change.policies_set and needed > size:
            raise PoliciesFull(needed, size, str(self._compiler.growth(change.policies_set) or ""))

    def endpoint(self, address: Address) -> Endpoint | None:
        """The entry that stands in the dataplane, as far as is known."""
        return None if self.actual is None else self.actual.endpoints.get(address)

    def _count(self, maps: Maps) -> None:
        endpoints = maps.endpoints.values()
        self._pods = len({one.incarnation for one in endpoints if not is_of_node(one)})
        self._is_egress_enforced = any(
            EndpointFlag.EGRESS_ENFORCED in endpoint.flags for endpoint in endpoints
        )
        bounds = (endpoint.stale_after_s for endpoint in endpoints)
        self.stale_after_s = min(filter(None, bounds), default=0)
        if self.dataplane.guards_node or not any(map(is_of_node, endpoints)):
            self.report.clear("node")
        elif self.report.fail("node", UNGUARDED):
            log.error("agent.node_unguarded", error=UNGUARDED, sequence=self.state.sequence)

    @property
    def _has_flows_to_forget(self) -> bool:
        is_blind = self._is_egress_enforced and self.mode is Mode.OVERLAY
        return bool(self._retired) or (self._moved and is_blind)

    async def _forget_flows(self) -> None:
        """Let no packet pass for an identity that its peer has not any more.

        In overlay mode this node need not know its peers' bindings: an egress-enforced pod's
        answers are judged by the identity that opened the flow. In native mode each packet's peer
        is known. In both, a retired identity's number is another's after this node's watermark has
        passed the retirement, and flows know numbers.
        """
        if not self._has_flows_to_forget:
            return
        moved, retired = self._moved, self._retired
        self._moved, self._retired = False, frozenset()

        def is_another(address: Address, identity: int) -> bool:
            return identity in retired or (moved and self._is_another(address, identity))

        try:
            forgotten = await self.worker.call(self.dataplane.forget, is_another)
        except DataplaneError:
            self._moved |= moved
            self._retired |= retired
            raise
        if forgotten:
            log.info("agent.flows_forgotten", flows=forgotten, sequence=self.state.sequence)

    def _is_another(self, address: Address, identity: int) -> bool:
        """Whether the ledger has bound `address` to another identity than `identity`."""
        holder = self.state.endpoints.get(self.state.bindings.get(address_text(address), ""))
        return holder is not None and is_pod(identity) and holder.identity != identity

    async def _write(self, change: Change) -> None:
        if not change and (self._is_whole or change.is_part):
            return
        try:
            await self.worker.call(self.dataplane.write, change)
        except DataplaneError:
            # Some of it may be written. What is there now decides what comes next.
            self.actual = await self._read()
            self.report.wrote(carried_out(change, self.actual).counts())
            raise
        self._is_whole |= not change.is_part
        self.report.wrote(change.counts())

    async def _read(self) -> Maps:
        return await self.worker.call(self.dataplane.read)
