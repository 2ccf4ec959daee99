"""The proxy between a device (a pair of sockets), a ledger and a bus, both in memory."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import dns.rrset
import pytest

from agent.rig import NODE, Bench, Ledger, Recorder, at_work, bound, pod, until
from domains import to_names
from packets import UDP, packet
from tabard.agent.attachments import Held
from tabard.agent.dns import proxy as module
from tabard.agent.dns.frames import MARK, read
from tabard.agent.dns.proxy import DnsProxy
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.dataplane.maps import Direction
from tabard.dataplane.port import DataplaneError
from tabard.events.ledger import NameResolved
from tabard.events.observed import NameAnswered
from tabard.ledger.messages import recorded
from tabard.policy.compile import Provisional
from tabard.policy.names import ADDRESSES_MAX
from world import attachment

WEB, SERVER = "10.244.1.5", "10.244.2.53"
ADDRESS = "203.0.113.7"
FOREVER = 1 << 62


class Diverting(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.setblocking(False)
        self.failing = 0

    def divert(self) -> int:
        if self.failing:
            self.failing -= 1
            raise DataplaneError("no device today")
        return os.dup(self.theirs.fileno())


@dataclass
class Scene:
    bench: Bench
    proxy: DnsProxy
    ledger: Ledger
    bus: MemoryBus
    dataplane: Diverting

    async def tell(self) -> None:
        """What the ledger says is folded and enforced."""
        end = await self.ledger.write(self.bus)
        await until(lambda: self.bench.report.sequence >= end)

    async def resolved(self, name: str, *addresses: str) -> None:
        self.ledger.emit(NameResolved(name, tuple((one, FOREVER) for one in addresses)))
        await self.tell()

    def query(self, name: str, kind: str = "A", *, port: int = 4000, **more: Any) -> bytes:
        """Sent by the pod; the message."""
        message = dns.message.make_query(name, kind, id=7)
        self.send(message.to_wire(), port=port, **more)
        wire: bytes = message.to_wire()
        return wire

    def send(self, wire: bytes, *, port: int = 4000, source: str = WEB) -> None:
        frame = packet(source, SERVER, UDP, port, 53, payload=wire)
        self.dataplane.ours.send(MARK + bytes([Direction.EGRESS]) + frame[6:])

    def answer(self, query: bytes, *records: str, ttl: int = 60, port: int = 4000) -> None:
        """By the server: `records` are addresses."""
        asked = dns.message.from_wire(query)
        message = dns.message.make_response(asked)
        owner = asked.question[0].name
        for text in records:
            kind = "AAAA" if ":" in text else "A"
            message.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, text))
        frame = packet(SERVER, WEB, UDP, 53, port, payload=message.to_wire())
        self.dataplane.ours.send(MARK + bytes([Direction.INGRESS]) + frame[6:])

    async def came(self, *outcomes: str) -> None:
        """Wait until the proxy has counted these, and no others, since the last call."""
        await until(lambda: self.proxy.messages.total() >= len(outcomes))
        assert sorted(self.proxy.messages.elements()) == sorted(outcomes)
        self.proxy.messages.clear()

    async def passed(self) -> tuple[Direction, dns.message.Message]:
        """The next frame that goes on."""
        frame = await asyncio.to_thread(self.dataplane.ours.recv, 1 << 16)
        datagram = read(frame)
        assert datagram is not None
        return datagram.direction, dns.message.from_wire(datagram.payload)

    def is_silent(self) -> bool:
        """Whether no frame waits that the proxy let go on."""
        return not select.select([self.dataplane.ours], [], [], 0)[0]

    def observed(self) -> list[NameAnswered]:
        messages = self.bus.store.logs[Stream.OBSERVED].messages
        return [recorded(Stream.OBSERVED, message).event for message in messages]


@asynccontextmanager
async def scene(*documents: dict[str, Any], connected: bool = True) -> AsyncIterator[Scene]:
    dataplane = Diverting()
    dataplane.ours.settimeout(10)
    bench, ledger, bus = Bench(dataplane), Ledger(), MemoryBus()
    ledger.pod("kube-system/dns", {"k8s-app": "kube-dns"}, ip=SERVER, node="n2")
    bound(ledger, pod("web", WEB, "shop", app="web"))
    for document in documents:
        ledger.policy(document)
    await ledger.write(bus)
    proxy = DnsProxy(
        bench.reconciler, bench.follower, bench.report, lambda: bus if connected else None
    )
    made = Scene(bench, proxy, ledger, bus, dataplane)
    async with at_work(bench, proxy.run(), bus=bus):
        await made.tell()
        yield made
    dataplane.ours.close()
    dataplane.theirs.close()


ASKING = to_names("*.example.com", lookups=("*.example.com", "other.org"))


async def test_a_query_that_policies_allow_goes_on_and_its_answer_comes_back() -> None:
    async with scene(ASKING) as s:
        query = s.query("other.org")
        direction, message = await s.passed()
        assert direction is Direction.EGRESS
        assert message == dns.message.from_wire(query)
        s.answer(query, ADDRESS)
        direction, message = await s.passed()
        assert direction is Direction.INGRESS
        assert ADDRESS in str(message.answer[0])
        await s.came("allowed", "answered")
        assert s.observed() == [], "no policy asks where it is"


async def test_nothing_goes_along_with_an_allowed_name() -> None:
    async with scene(ASKING) as s:
        secret = [dns.edns.GenericOption(65_001, b"secret")]
        plain = dns.message.make_query("other.org", "A", id=7, use_edns=0, payload=1232)
        query = dns.message.make_query("other.org", "A", id=7, use_edns=0, options=secret)
        s.send(query.to_wire() + b"secret")
        await s.came("dropped")
        s.send(query.to_wire())
        direction, message = await s.passed()
        assert direction is Direction.EGRESS
        assert message.to_wire() == plain.to_wire()
        s.answer(plain.to_wire(), ADDRESS)
        await s.passed()
        await s.came("allowed", "answered")


async def test_a_query_for_another_name_is_refused_in_the_servers_name() -> None:
    async with scene(ASKING) as s:
        query = s.query("evil.org")
        direction, message = await s.passed()
        assert direction is Direction.INGRESS
        assert message.rcode() == dns.rcode.REFUSED
        assert dns.message.from_wire(query).is_response(message)
        await s.came("refused")


async def test_an_answer_waits_until_its_addresses_are_enforced_here() -> None:
    async with scene(ASKING) as s:
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS, "10.244.2.9", ttl=30)
        await until(lambda: s.observed())
        assert s.observed() == [NameAnswered(NODE, "a.example.com", (ADDRESS,), 30)]
        await s.came("allowed")
        assert s.is_silent()
        await s.resolved("a.example.com", ADDRESS)
        await s.passed()
        await s.came("answered")


async def test_an_answer_that_says_nothing_new_costs_no_event() -> None:
    async with scene(ASKING) as s:
        await s.resolved("a.example.com", ADDRESS)
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "answered")
        assert s.observed() == []


async def test_an_answer_that_the_ledger_does_not_take_up_goes_on_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_WAIT_S_MAX", 0.05)
    async with scene(ASKING) as s:
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "late")


async def test_without_a_bus_an_answer_goes_on_at_once() -> None:
    async with scene(ASKING, connected=False) as s:
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "late")


async def test_beyond_the_bound_answers_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_WAITING_MAX", 1)
    async with scene(ASKING) as s:
        queries = [s.query("a.example.com", port=port) for port in (4000, 4001)]
        for port, query in enumerate(queries, 4000):
            await s.passed()
            s.answer(query, ADDRESS, port=port)
        await s.passed()
        await s.came("allowed", "allowed", "late")
        await s.resolved("a.example.com", ADDRESS)
        await s.passed()
        await s.came("answered")


async def test_a_pod_that_asks_too_often_is_not_heard_and_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUERIES_PER_S_MAX", 0)
    monkeypatch.setattr(module, "QUERIES_BURST_MAX", 2)
    async with scene(ASKING) as s:
        bound(s.ledger, pod("other", "10.244.1.6", "shop", app="other"))
        await s.tell()
        for _ in range(3):
            s.query("other.org")
        s.query("other.org", source="10.244.1.6")
        await s.came("allowed", "allowed", "dropped", "allowed")


async def test_a_pod_that_brings_too_much_news_has_its_answers_unpublished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "NEWS_PER_S_MAX", 0)
    monkeypatch.setattr(module, "NEWS_BURST_MAX", 1)
    async with scene(ASKING) as s:
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await until(lambda: s.observed())
        await s.resolved("a.example.com", ADDRESS)
        await s.passed()
        query = s.query("b.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "answered", "allowed", "late")
        assert len(s.observed()) == 1
        # What is known already costs nothing.
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "answered")


async def test_what_is_no_query_or_answers_none_is_dropped() -> None:
    async with scene(ASKING) as s:
        s.send(b"no message")
        await s.came("dropped")
        s.dataplane.ours.send(b"no frame")
        await s.came("dropped")
        s.query("a.example.com", source="10.244.1.77")
        await s.came("dropped")
        query = dns.message.make_query("a.example.com", "A", id=7).to_wire()
        s.answer(query, ADDRESS)
        await s.came("dropped")
        query = s.query("other.org")
        await s.passed()
        for _ in range(2):
            s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "answered", "dropped")


async def test_a_pod_that_started_ahead_of_the_ledger_may_ask_too() -> None:
    async with scene(ASKING) as s:
        number = s.ledger.state.endpoints["web"].identity
        assumed = Provisional(number, ("10.244.1.6",))
        s.bench.reconciler.attachments.put(Held(attachment("new", 7, assumed), "tbnew"))
        s.query("other.org", source="10.244.1.6")
        await s.passed()
        await s.came("allowed")


async def test_a_policy_that_is_accepted_later_counts_at_once() -> None:
    async with scene(ASKING) as s:
        s.query("evil.org")
        await s.passed()
        s.ledger.policy(to_names("evil.org", name="more", lookups=("evil.org",)))
        await s.tell()
        query = s.query("evil.org")
        assert (await s.passed())[0] is Direction.EGRESS
        s.answer(query, ADDRESS)
        await until(lambda: s.observed())
        await s.resolved("evil.org", ADDRESS)
        await s.passed()
        await s.came("refused", "allowed", "answered")


async def test_the_device_is_opened_when_a_policy_asks_for_it() -> None:
    async with scene() as s:
        s.query("a.example.com")
        await s.resolved("x", ADDRESS)
        assert s.proxy.messages.total() == 0
        s.ledger.policy(ASKING)
        await s.tell()
        await s.passed()
        await s.came("allowed")


async def test_a_device_that_cannot_be_made_is_a_trouble_until_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    async with scene() as s:
        s.dataplane.failing = 2
        s.ledger.policy(ASKING)
        await s.tell()
        await until(lambda: "no device today" in s.bench.report.error)
        s.query("a.example.com")
        await s.passed()
        assert s.bench.report.error == ""


async def test_where_no_more_addresses_are_taken_the_status_says_so_and_nothing_waits() -> None:
    async with scene(ASKING) as s:
        every = tuple((f"198.18.{n // 256}.{n % 256}", FOREVER) for n in range(ADDRESSES_MAX))
        for at in range(0, ADDRESSES_MAX, 50):
            s.ledger.emit(NameResolved(f"n{at}.example.com", every[at : at + 50]))
        await s.tell()
        query = s.query("a.example.com")
        await s.passed()
        s.answer(query, ADDRESS)
        await s.passed()
        await s.came("allowed", "answered")
        assert "addresses stand for names" in s.bench.report.error
        assert s.observed() == []
