"""The proxy at work: frames in, frames out, and in between what the ledger has to say of a name."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from tabard.agent.dns.frames import Datagram, answering, asking, read
from tabard.agent.dns.lookups import Lookups, is_proxied
from tabard.agent.dns.pending import Pending
from tabard.agent.dns.rates import Rates
from tabard.agent.follower import Follower
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.bus.port import Bus, BusError, BusUnavailable, Stream
from tabard.dataplane.maps import Direction
from tabard.dataplane.port import DataplaneError
from tabard.events.ledger import PolicyAccepted
from tabard.events.observed import NameAnswered
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State
from tabard.policy.names import ADDRESSES_MAX, Asked, acceptable, has_room, is_news
from tabard.policy.patterns import is_name

if TYPE_CHECKING:
    from tabard.agent.dns.messages import Answer

log = structlog.get_logger(__name__)

FRAME_BYTES_MAX = 1 << 16
FRAMES_AT_ONCE = 16
"""Frames that are read before others have their turn: under a flood the agent's own work goes on,
and the device drops what does not fit into its queue."""
QUERIES_PER_S_MAX, QUERIES_BURST_MAX = 500, 500
"""Of each pod; more are dropped, as by any busy server."""
NEWS_PER_S_MAX, NEWS_BURST_MAX = 20, 100
"""Answers of each pod that say what the ledger does not; further ones go on unpublished."""
LINES_PER_S_MAX, LINES_BURST_MAX = 1, 10
"""Lines in the log for each pod."""
ANSWERS_WAITING_MAX = 256
"""Most answers that wait for the ledger; further ones go on at once."""
ANSWER_WAIT_S_MAX = 1.0
"""How long an answer waits until its addresses are enforced. Then it goes on all the same, and a
pod that speaks to them is denied until they are. Resolvers wait for 5 s."""

RETRY_S = 1.0
"""Wait before the device is tried again that could not be made."""

OUTCOMES = ("allowed", "refused", "answered", "late", "dropped")
"""Of messages: queries let through and refused; answers let through as they are enforced, and
without; what is no message that may pass."""


class DnsProxy:
    """One node's. `bus` gives the agent's bus, once there is one."""

    def __init__(
        self,
        reconciler: Reconciler,
        follower: Follower,
        report: Report,
        bus: Callable[[], Bus | None],
    ) -> None:
        self.messages: Counter[str] = Counter()
        """By outcome."""
        self._reconciler = reconciler
        self._follower = follower
        self._report = report
        self._bus = bus
        self._pending = Pending()
        self._state: State | None = None
        """What the two below are in step with."""
        self._known: tuple[Asked, Lookups] | None = None
        """Made when the first message comes."""
        self._waiting = 0
        self._queries = Rates(QUERIES_PER_S_MAX, QUERIES_BURST_MAX)
        self._news = Rates(NEWS_PER_S_MAX, NEWS_BURST_MAX)
        self._lines = Rates(LINES_PER_S_MAX, LINES_BURST_MAX)
        self._needed = asyncio.Event()
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Serve what the dataplane diverts, for ever, once a policy asks for it. While nobody does
        that is dropped."""
        reconciler, loop = self._reconciler, asyncio.get_running_loop()
        reconciler.listeners.append(self._note)
        try:
            await reconciler.ready.wait()
            if not any(map(is_proxied, reconciler.state.policies.values())):
                await self._needed.wait()
            while (descriptor := await self._divert()) is not None:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        loop.add_reader(descriptor, self._serve, descriptor, tasks)
                        await self._gone.wait()
                        loop.remove_reader(descriptor)
                finally:
                    loop.remove_reader(descriptor)
                    os.close(descriptor)
        finally:
            reconciler.listeners.remove(self._note)

    def _note(self, records: Sequence[LedgerRecord]) -> None:
        if not records and any(map(is_proxied, self._reconciler.state.policies.values())):
            self._needed.set()
        for record in records:
            for one in self._known or ():
                one.note(record.event)
            if isinstance(record.event, PolicyAccepted) and is_proxied(record.event):
                self._needed.set()

    async def _divert(self) -> int | None:
        """The dataplane's descriptor; None where packets are only told of."""
        self._gone.clear()
        while True:
            try:
                dataplane = self._reconciler.dataplane
                descriptor = await self._reconciler.worker.call(dataplane.divert)
            except DataplaneError as error:
                if self._report.fail("dns", str(error)):
                    log.error("dns.failed", error=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                self._report.clear("dns")
                return descriptor

    def _knowing(self) -> tuple[Asked, Lookups]:
        """What policies ask for, and what they let pods ask for, by the state of now."""
        state = self._reconciler.state
        if self._known is None or self._state is not state:
            self._state, self._known = state, (Asked(state), Lookups(state, self._reconciler.node))
        return self._known

    def _serve(self, descriptor: int, tasks: asyncio.TaskGroup) -> None:
        for _ in range(FRAMES_AT_ONCE):
            try:
                frame = os.read(descriptor, FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # somebody has deleted the device
                log.error("dns.device_gone", reason=str(error))
                self._gone.set()
                return
            datagram = read(frame)
            if datagram is None:
                self.messages["dropped"] += 1
            elif datagram.direction is Direction.EGRESS:
                self._ask(descriptor, datagram)
            else:
                self._answer(descriptor, frame, datagram, tasks)

    # ---- queries

    def _ask(self, descriptor: int, query: Datagram) -> None:
        from tabard.agent.dns import messages  # see there

        now = time.monotonic()
        identity = self._identity(query.source)
        if identity is None or not self._queries.take(query.source, now):
            self.messages["dropped"] += 1
            return
        asked = messages.question(query.payload)
        if asked is None:
            self.messages["dropped"] += 1
            return
        _, lookups = self._knowing()
        if asked.name in lookups.names(identity, query.destination, query.destination_port):
            self._pending.add(query, asked, now)
            self.messages["allowed"] += 1
            _send(descriptor, asking(query, messages.bare(query.payload)))
        else:
            self.messages["refused"] += 1
            if self._lines.take(query.source, now):
                log.info("dns.refused", name=asked.name, pod=query.source, server=query.destination)
            _send(descriptor, answering(query, messages.refusal(query.payload)))

    def _identity(self, address: str) -> int | None:
        """Of the pod at an address of this node; what it asks was let through by that identity."""
        state, attached = self._reconciler.state, self._reconciler.attachments.attached
        holder = state.endpoints.get(state.bindings.get(address, ""))
        if holder is not None:
            return holder.identity
        for one in attached.values():
            if one.provisional is not None and address in one.provisional.addresses:
                return one.provisional.identity
        return None

    # ---- answers

    def _answer(
        self, descriptor: int, frame: bytes, datagram: Datagram, tasks: asyncio.TaskGroup
    ) -> None:
        from tabard.agent.dns import messages

        answer = messages.answer(datagram.payload)
        if answer is None or not self._pending.take(datagram, answer.question, time.monotonic()):
            self.messages["dropped"] += 1
            return
        asked, _ = self._knowing()
        name = answer.question.name
        if not answer.addresses or not is_name(name) or name not in asked:
            self.messages["answered"] += 1
            _send(descriptor, frame)
        elif self._waiting == ANSWERS_WAITING_MAX:
            self.messages["late"] += 1
            _send(descriptor, frame)
        else:
            self._waiting += 1
            holding = self._hold(descriptor, frame, datagram.destination, answer)
            tasks.create_task(holding, name="dns answer")

    async def _hold(self, descriptor: int, frame: bytes, pod: str, answer: "Answer") -> None:
        """Let an answer go on when what it says is enforced here."""
        try:
            async with asyncio.timeout(ANSWER_WAIT_S_MAX):
                await self._enforced(pod, answer)
        except (TimeoutError, BusError, DataplaneError, _TooMuch) as error:
            self.messages["late"] += 1
            if self._lines.take(pod, time.monotonic()):
                log.warning(
                    "dns.late",
                    name=answer.question.name,
                    addresses=answer.addresses,
                    pod=pod,
                    reason=str(error) or f"not enforced within {ANSWER_WAIT_S_MAX:g} s",
                )
        else:
            self.messages["answered"] += 1
        finally:
            self._waiting -= 1
        _send(descriptor, frame)

    async def _enforced(self, pod: str, answer: "Answer") -> None:
        """Have the answer's addresses stand for its name, here too."""
        reconciler, name = self._reconciler, answer.question.name
        said = acceptable(reconciler.state, name, answer.addresses)
        if self._is_news(answer, said):
            said = self._with_room(name, said)
        if self._is_news(answer, said):
            if not self._news.take(pod, time.monotonic()):
                raise _TooMuch(f"the pod has more than {NEWS_PER_S_MAX} new answers a second")
            await self._publish(NameAnswered(reconciler.node, name, tuple(said), answer.ttl_s))
            while not _stand(reconciler.state, name, said):
                await self._follower.folded()
        if self._report.sequence < reconciler.state.sequence:
            await reconciler.flush()

    def _is_news(self, answer: "Answer", addresses: list[str]) -> bool:
        state, name = self._reconciler.state, answer.question.name
        return is_news(state, name, addresses, answer.ttl_s, time.time_ns())

    async def _publish(self, event: NameAnswered) -> None:
        bus = self._bus()
        if bus is None:
            raise BusUnavailable("there was no connection to the bus yet")
        envelope = first_cause(event.name, time.time_ns())
        await bus.publish(Stream.OBSERVED, [observed(event, envelope)])

    def _with_room(self, name: str, addresses: list[str]) -> list[str]:
        """Those of `addresses` that can stand for the name: where no more are taken those that do
        already, and the node's status says so."""
        state = self._reconciler.state
        if has_room(state, name, addresses):
            self._report.clear("names")
            return addresses
        self._report.fail(
            "names",
            f"{ADDRESSES_MAX} addresses stand for names, and no more are taken; narrow the patterns"
            " of toFQDNs, or lower TABARD_NAMES_KEPT_MS",
        )
        return [address for address in addresses if address in state.names.get(name, {})]


class _TooMuch(Exception):
    """A pod has more answers published than it may."""


def _stand(state: State, name: str, addresses: Iterable[str]) -> bool:
    held = state.names.get(name, {})
    return all(address in held for address in addresses)


def _send(descriptor: int, frame: bytes) -> None:
    """A device that is gone or full loses the frame, as any network may."""
    try:
        os.write(descriptor, frame)
    except OSError as error:
        log.warning("dns.unsent", reason=str(error))
