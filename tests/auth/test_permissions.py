"""Each role on a real server with the table's accounts: what it is denied, and what it does."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import nats.errors
import pytest

from guards import HASTY, HOLDERS, OTHER, Guarded, quiet, stored
from tabard.auth.accounts import CONNECTIONS_MAX, permissions, text
from tabard.auth.keys import read_key
from tabard.auth.roles import Holder, Role, accounts_rights, holder, rights
from tabard.bus.config import BUFFERED_MESSAGES_MAX, SUBSCRIPTIONS_MAX
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream
from tabard.bus.subjects import API, BUCKET_STREAM, GUARDED_API
from tabard.events.codec import TYPES
from tabard.events.observed import ObservedEvent
from tabard.ledger.messages import BY_NODES

pytestmark = pytest.mark.nats

STREAMS = (*Stream, BUCKET_STREAM)
NODES = ("n1", "n2")
VERBS = ["INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT"]
VERBS += ["RESTORE", "PEER.REMOVE", "LEADER.STEPDOWN"]
CONSUMER_VERBS = ["CREATE.{}.x", "DURABLE.CREATE.{}.x", "MSG.NEXT.{}.x", "INFO.{}.x"]
CONSUMER_VERBS += ["DELETE.{}.x", "NAMES.{}", "LIST.{}"]
SERVERS = (
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.TABARD.CONNZ",
    "$SYS.REQ.ACCOUNT.TABARD.SUBSZ",
    "$SYS._INBOX.x",
    "_R_.x",
    "$JS.ACK.LEDGER.x.1.1.1.1.1",
)


def every_publish(others: Iterable[str]) -> Iterator[str]:
    """A subject of each class that one could publish to; `others` are others' inboxes."""
    yield "tabard.ledger.identity.allocated"
    yield "tabard.ledger.quarantine.recorded.LEDGER.1"
    yield "tabard.status.allocator.a"
    for node in NODES:
        yield f"tabard.status.node.{node}"
        yield f"tabard.flows.{node}"
    yield "tabard.observed.what-else"
    for kind in get_args(ObservedEvent):
        name = f"tabard.observed.{TYPES[kind][0]}"
        yield from (f"{name}.{node}" for node in NODES) if kind in BY_NODES else (name,)
    yield "tabard.observed.quarantine.requested.LEDGER.1"
    yield from (f"$O.TABARD_SNAPSHOTS.{kind}.x" for kind in "CM")
    for prefix in (API, GUARDED_API):
        yield f"{prefix}.INFO"
        yield f"{prefix}.STREAM.NAMES"
        yield f"{prefix}.STREAM.LIST"
        yield f"{prefix}.STREAM.TEMPLATE.NAMES"
        yield f"{prefix}.META.LEADER.STEPDOWN"
        yield f"{prefix}.SERVER.REMOVE"
        yield f"{prefix}.STREAM.CREATE.ANOTHER"
        for stream in STREAMS:
            yield from (f"{prefix}.STREAM.{verb}.{stream}" for verb in VERBS)
            yield from (f"{prefix}.CONSUMER.{verb.format(stream)}" for verb in CONSUMER_VERBS)
            yield f"{prefix}.DIRECT.GET.{stream}"
        yield f"{prefix}.DIRECT.GET.LEDGER.tabard.ledger.quarantine.recorded.LEDGER.1"
        yield f"{prefix}.DIRECT.GET.LEDGER.tabard.ledger.epoch.claimed"
        yield f"{prefix}.DIRECT.GET.OBSERVED.tabard.observed.policy.set"
        yield from (f"{prefix}.DIRECT.GET.STATUS.tabard.status.node.{node}" for node in NODES)
        yield f"{prefix}.DIRECT.GET.STATUS.tabard.status.allocator.a"
    yield from (f"tabard.live.{stream.lower()}.x" for stream in Stream)
    yield from SERVERS
    yield from ("_INBOX.x", "anything", "tabard.anything")
    yield from (f"{inbox}.x" for inbox in others)


def every_subscription(others: Iterable[str]) -> Iterator[str]:
    yield from (">", "*", "*.>", "tabard.>", "tabard.live.>", "tabard.live.*.x", "_INBOX.>")
    yield from ("$JS.>", "$SYS.>", "$JS.API.>", "tabard.api.>", "$O.>", "_R_.>", "$JS.ACK.>")
    yield from (f"tabard.{stream.lower()}.>" for stream in Stream)
    yield from (f"tabard.live.{stream.lower()}.>" for stream in Stream)
    yield from (f"{inbox}.>" for inbox in others)


def within(subject: str, pattern: str) -> bool:
    """Whether all that `subject`, which may hold wildcards, matches is matched by `pattern` too."""
    tokens, wanted = subject.split("."), pattern.split(".")
    for at, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > at
        if at == len(tokens) or tokens[at] == ">" or (tokens[at] == "*" and want != "*"):
            return False
        if want not in ("*", tokens[at]):
            return False
    return len(tokens) == len(wanted)


def mapped(who: Holder, subject: str) -> str:
    """The subject at which the server looks: in the streams' account questions are mapped."""
    if rights(who).account == accounts_rights(Role.ADMIN).account:
        return subject.replace(f"{GUARDED_API}.", f"{API}.", 1)
    return subject


async def state(guarded: Guarded) -> dict[str, dict[str, int]]:
    """What the streams hold, once nothing comes any more."""
    async with guarded.raw("admin") as admin:
        found = await stored(admin.client, STREAMS)
        while True:
            await quiet()
            before, found = found, await stored(admin.client, STREAMS)
            if found == before:
                return found


@pytest.mark.parametrize("who", [each for each in HOLDERS if each.role is not Role.SYSTEM], ids=str)
async def test_a_role_is_denied_all_that_the_table_does_not_give_it(
    guarded: Guarded, who: Holder
) -> None:
    key = read_key(guarded.auth.seed(who))
    others = [read_key(guarded.auth.seed(each)).inbox for each in (*HOLDERS, OTHER) if each != who]
    publish, subscribe = permissions(who, key.public)
    forbidden = {
        subject
        for subject in every_publish(others)
        if not any(within(mapped(who, subject), pattern) for pattern in publish)
    }
    unheard = {
        subject
        for subject in every_subscription(others)
        if not any(within(subject, pattern) for pattern in subscribe)
    }
    assert len(forbidden) > 40
    before = await state(guarded)
    async with guarded.raw(str(who)) as raw:
        await raw.publish(forbidden)
        assert {each.lower() for each in {mapped(who, subject) for subject in forbidden}} == (
            raw.denied
        )
        raw.denied.clear()
        await raw.subscribe(unheard)
        assert {each.lower() for each in unheard} == raw.denied
    assert await state(guarded) == before


FACTS: tuple[tuple[str, set[str]], ...] = (
    ("tabard.ledger.identity.allocated", {"allocator"}),
    ("tabard.status.node.n1", {"agent.n1"}),
    ("tabard.status.node.n2", set()),
    ("tabard.status.allocator.a", {"allocator"}),
    ("tabard.flows.n1", {"agent.n1"}),
    ("tabard.flows.n2", set()),
    ("tabard.observed.node.joined.n1", {"agent.n1"}),
    ("tabard.observed.node.joined.n2", set()),
    ("tabard.observed.name.answered.n1", {"agent.n1"}),
    ("tabard.observed.node.left", {"operator"}),
    ("tabard.observed.policy.set", {"operator"}),
    ("tabard.observed.pod.started", {"source"}),
    ("tabard.observed.quarantine.requested.OBSERVED.1", {"operator"}),
    ("$JS.API.STREAM.DELETE.LEDGER", {"admin"}),
    ("$JS.API.STREAM.UPDATE.LEDGER", {"admin"}),
    ("$JS.API.STREAM.MSG.DELETE.LEDGER", {"admin"}),
    ("$JS.API.CONSUMER.CREATE.LEDGER.x", {"admin", "allocator"}),
    ("$JS.API.CONSUMER.CREATE.STATUS.x", {"admin"}),
    ("$SYS.REQ.SERVER.PING", set()),
)


@pytest.mark.parametrize(("subject", "who"), FACTS)
def test_who_may_publish_what_is_as_it_was_meant(subject: str, who: set[str]) -> None:
    assert {
        str(each)
        for each in HOLDERS
        if each.role is not Role.SYSTEM  # whose account has no streams
        and any(within(subject, pattern) for pattern in permissions(each, "U")[0])
    } == who


def test_an_auditor_writes_nothing_and_no_other_reader_leaves_its_account() -> None:
    assert rights(holder("auditor")).writes == ()
    own = {role: accounts_rights(role).account for role in Role}
    assert {role for role, account in own.items() if account == "TABARD"} == {
        Role.ALLOCATOR,
        Role.ADMIN,
    }
    assert len({account for account in own.values()}) == len(Role) - 1


# Injection: an answer goes to whatever subject the question names.

TARGETS = (
    "tabard.ledger.forged",
    "tabard.status.node.n1",
    "tabard.status.node.n2",
    "tabard.status.allocator.a",
    "tabard.flows.n2",
    "tabard.observed.policy.set",
    "tabard.observed.pod.started",
    "tabard.observed.node.joined.n2",
    "$O.TABARD_SNAPSHOTS.C.forged",
    "$JS.API.STREAM.PURGE.STATUS",
    "tabard.api.STREAM.PURGE.STATUS",
)


async def test_a_reader_of_the_streams_own_account_can_forge_and_so_none_is_in_it(
    guarded: Guarded,
) -> None:
    """The reason for accounts: an allocator's key stands for a reader that may ask, and is denied
    to write where the answer goes."""
    async with guarded.bus("allocator") as allocator:
        last = await allocator.last_sequence(Stream.LEDGER)
        await allocator.append([Outgoing("tabard.ledger.x", b"of the ledger")], last)
    before = await state(guarded)
    forged = "tabard.observed.policy.set"
    async with guarded.raw("allocator") as reader:
        await reader.publish([forged])
        assert reader.denied == {forged}
        await reader.publish([f"{GUARDED_API}.DIRECT.GET.LEDGER"], b'{"seq":1}', to=forged)
    after = await state(guarded)
    assert after["OBSERVED"].get(forged, 0) == before["OBSERVED"].get(forged, 0) + 1


@pytest.mark.parametrize("who", ["agent.n1", "source", "operator", "auditor"])
async def test_from_an_account_of_its_own_no_answer_is_forged_into_a_stream(
    guarded: Guarded, who: str
) -> None:
    of = rights(holder(who))
    async with guarded.bus("allocator") as allocator:
        last = await allocator.last_sequence(Stream.LEDGER)
        await allocator.append([Outgoing("tabard.ledger.x", b"of the ledger")], last)
    # What it may write it may write: what comes back to it must not go anywhere else.
    own = {subject.replace("*", "x").replace(">", "x") for subject in of.writes}
    before = await state(guarded)
    async with guarded.raw(who) as raw:
        for target in set(TARGETS) - own:
            for question in of.asks:
                for body in (b'{"seq":1}', b'{"seq":1,"batch":9}', b""):
                    await raw.publish([f"{GUARDED_API}.{question}".rstrip(".>")], body, to=target)
            for subject in own:
                await raw.publish([subject], to=target)
            # Nor does the server's word on what became of a message, which it sends on request.
            traced = {"Nats-Trace-Dest": target}
            await raw.publish([*own, f"{GUARDED_API}.{of.asks[0]}"], headers=traced)
    after = await state(guarded)
    for stream, subjects in after.items():
        new = {at: n - before[stream].get(at, 0) for at, n in subjects.items()}
        assert {at for at, more in new.items() if more} <= own, (stream, new)
    assert after["LEDGER"] == before["LEDGER"]


async def test_what_a_node_has_answered_to_where_others_hear_the_ledger_is_not_taken_for_it(
    guarded: Guarded,
) -> None:
    """Nodes share an account, in which an answer goes to whatever subject is named; a node may ask
    for its own word of STATUS, so its content and, by how often it speaks, its sequence are its."""
    payload = b"chained to the ledger as well"
    own = "tabard.status.node.n1"
    async with guarded.bus("allocator") as allocator, guarded.raw("agent.n1") as node:
        last = await allocator.last_sequence(Stream.LEDGER)
        last = await allocator.append([Outgoing("tabard.ledger.x", b"last")], last)
        said = await allocator.last_sequence(Stream.STATUS)
        if said > last:
            made = [Outgoing("tabard.ledger.x", b"")] * (said - last)
            last = await allocator.append(made, last)
        async with guarded.bus("agent.n2") as victim:
            tail = victim.tail(Stream.LEDGER, last)
            assert [each.sequence for each in await anext(tail)] == [last]
            await node.publish([own] * (last + 1 - said), payload)
            while await allocator.last_sequence(Stream.STATUS) <= last:
                await quiet(1)
            question = f"{GUARDED_API}.DIRECT.GET.STATUS.{own}"
            for to in ("tabard.live.ledger.policy.removed", "tabard.live.ledger.x"):
                await node.publish([question], b"", to=to)
            await quiet()
            await allocator.append([Outgoing("tabard.ledger.x", b"true")], last)
            assert [each.payload for each in await anext(tail)] == [b"true"]
            await tail.aclose()


async def test_a_key_takes_no_memory_of_the_server_by_subscriptions(guarded: Guarded) -> None:
    async with guarded.raw("agent.n1") as node, guarded.bus("operator") as operator:
        with pytest.raises((TimeoutError, OSError, nats.errors.Error)):
            await node.subscribe(f"{node.inbox}.{at}" for at in range(SUBSCRIPTIONS_MAX + 1))
        assert await operator.last_sequence(Stream.LEDGER) >= 0


def test_no_key_outside_of_the_streams_account_takes_all_connections() -> None:
    made = text({each: ["U"] for each in HOLDERS})
    foreign = {accounts_rights(role).account for role in Role} - {"TABARD", "SYS"}
    assert made.count("limits { max_connections: 10000 }") == len(foreign)
    assert CONNECTIONS_MAX * len(foreign) < 65_536


async def test_a_flood_by_a_nodes_key_is_refused_and_what_others_write_is_stored_after_it(
    guarded: Guarded,
) -> None:
    answers: list[bytes] = []
    async with guarded.raw("agent.n2") as node, guarded.bus("operator") as operator:

        async def note(message: Any) -> None:
            answers.append(message.data)

        await node.client.subscribe(f"{node.inbox}.flood", cb=note)
        joined = "tabard.observed.node.joined.n2"
        flood = 3 * BUFFERED_MESSAGES_MAX
        await node.publish([joined] * flood, to=f"{node.inbox}.flood")
        set_ = Outgoing("tabard.observed.policy.set", b"1", "after the flood")
        while True:
            try:
                (sequence,) = await operator.publish(Stream.OBSERVED, [set_])
                break
            except BusUnavailable:
                continue
        while len(answers) < flood:
            await quiet(1)
    refused = sum(b"too many requests" in answer for answer in answers)
    assert refused
    assert sequence >= flood - refused


# What each is for works.


async def test_each_role_does_its_work(guarded: Guarded) -> None:
    async with guarded.bus("allocator") as allocator:
        last = await allocator.last_sequence(Stream.LEDGER)
        last = await allocator.append([Outgoing("tabard.ledger.x", b"1")] * 3, last)
        await allocator.publish(Stream.STATUS, [Outgoing("tabard.status.allocator.a", b"1")])
        await allocator.keep_flows()
        snapshot = await allocator.objects.put("s", b"x" * 300_000, {})
        snapshot = await allocator.objects.put("s", b"y" * 300_000, {})
        await works_as_agent(guarded, last, snapshot)
        async with guarded.bus("source") as source:
            assert await source.last_sequence(Stream.LEDGER) > last
            many = [Outgoing("tabard.observed.pod.started", b"1", f"s{n}") for n in range(40)]
            first = await source.publish(Stream.OBSERVED, many)
            assert await source.publish(Stream.OBSERVED, many) == first
            assert await source.last_sequence(Stream.OBSERVED) == first[-1]
            assert [each.name for each in await source.objects.listed()] == ["s"]
        async with guarded.bus("operator") as operator:
            set_ = Outgoing("tabard.observed.policy.set", b"1", "o")
            await operator.publish(Stream.OBSERVED, [set_])
            wanted = "tabard.observed.quarantine.requested.LEDGER.1"
            await operator.publish(Stream.OBSERVED, [Outgoing(wanted, b"1")])
            assert await allocator.last_on_subject(Stream.OBSERVED, wanted) is not None
        for who in ("operator", "auditor"):
            async with guarded.bus(who) as reader:
                for stream in Stream:
                    info = await reader.info(stream)
                    assert await reader.read(stream, info.first)
                    assert await reader.faults(stream) == []
                assert [each.name for each in await reader.objects.listed()] == ["s"]
                where = "tabard.status.node.n1"
                assert await reader.last_on_subject(Stream.STATUS, where) is not None
        asked = Outgoing("tabard.observed.trim.requested", b"1", "t")
        async with guarded.bus("operator", HASTY) as operator:
            for trimming in (operator.publish(Stream.OBSERVED, [asked]), operator.trim(2)):
                with pytest.raises(BusError):
                    await trimming
        async with guarded.bus("admin") as admin:
            await admin.publish(Stream.OBSERVED, [asked])
            assert await admin.trim(2) == 2
            await admin.objects.delete(await admin.objects.put("t", b"z", {}))
        await allocator.objects.delete(snapshot)


async def works_as_agent(guarded: Guarded, last: int, snapshot: Any) -> None:
    async with guarded.bus("agent.n1") as agent, guarded.bus("allocator") as allocator:
        said = Outgoing("tabard.status.node.n1", b"1")
        assert await agent.publish(Stream.STATUS, [said])
        assert await agent.publish(Stream.FLOWS, [Outgoing("tabard.flows.n1", b"1")])
        joined = [Outgoing("tabard.observed.node.joined.n1", b"1", "j")]
        sequence = await agent.publish(Stream.OBSERVED, joined)
        assert await agent.publish(Stream.OBSERVED, joined) == sequence
        named = Outgoing("tabard.observed.name.answered.n1", b"1")
        await agent.publish(Stream.OBSERVED, [named])
        own = await agent.last_on_subject(Stream.STATUS, said.subject)
        assert own is not None
        leave = "tabard.ledger.quarantine.recorded.LEDGER.1"
        assert await agent.last_on_subject(Stream.LEDGER, leave) is None
        assert [each.name for each in await agent.objects.listed()] == ["s"]
        content = b"".join([piece async for piece in agent.objects.get(snapshot)])
        assert content == b"y" * 300_000
        tail = agent.tail(Stream.LEDGER, last)
        assert [each.sequence for each in await anext(tail)] == [last]
        new = await allocator.append([Outgoing("tabard.ledger.x", b"2")], last)
        assert [each.sequence for each in await anext(tail)] == [new]
        await tail.aclose()
