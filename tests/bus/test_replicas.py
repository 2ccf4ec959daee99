"""What counts say, from answers such as servers give; real ones are in cluster/test_repair."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from damage import answers
from tabard.bus.monitoring import ANSWER_BYTES_MAX, ask
from tabard.bus.port import Stream
from tabard.bus.replicas import (
    BEHIND_MAX,
    EXPIRY_SLACK_S,
    NANOSECONDS,
    Replica,
    Server,
    Standing,
    judge,
    server,
)
from tabard.cli import replicas as cli
from tabard.ledger.replicas import Survey

PEERS = frozenset({"a", "b", "c"})
NOW = 1_000_000 * NANOSECONDS


def replica(name: str, stream: Stream = Stream.LEDGER, last: int = 100, **values: Any) -> Replica:
    known: dict[str, Any] = {
        "leads": name == "a",
        "first": 1,
        "messages": last,
        "deleted": 0,
        "bytes": 10 * last,
        "first_at": NOW - 3600 * NANOSECONDS,
        "age_s_max": 0.0,
        "group": "S-R3F-x",
        "peers": PEERS,
        "wanted": 3,
    }
    return Replica(server=name, account="$G", stream=stream, last=last, **(known | values))


def judged(*replicas: Replica, failures: tuple[str, ...] = ()) -> dict[str, Standing]:
    servers = [
        Server(f"http://{each.server}", each.server, "/s", (each,), "t", NOW) for each in replicas
    ]
    silent = [Server("http://z", failure=failure) for failure in failures]
    return {each.server: each for each in judge([*servers, *silent])}


def faults(*replicas: Replica, failures: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    found = judged(*replicas, failures=failures)
    return {name: each.faults for name, each in found.items() if each.faults}


def three(**of_b: Any) -> tuple[Replica, ...]:
    return replica("a"), replace(replica("b"), **of_b), replica("c")


def test_replicas_that_count_the_same_are_good() -> None:
    assert all(each.good and not each.holes for each in judged(*three()).values())


@pytest.mark.parametrize("counts", [{"deleted": 3}, {"messages": 97}])
def test_each_of_the_two_counts_shows_a_hole(counts: dict[str, int]) -> None:
    found = judged(*three(**counts))
    assert found["b"].holes == 3
    assert found["b"].faults == ("3 of 1-100 are missing",)
    assert found["a"].good


def test_a_replica_that_begins_later_than_another_lost_what_is_before() -> None:
    found = judged(*three(first=41, messages=60, bytes=600))
    assert (found["b"].holes, found["b"].faults) == (40, ("it begins at 41, another at 1",))
    assert found["a"].good


def test_an_empty_replica_lacks_nothing_yet_but_is_behind() -> None:
    far = (replica("a", last=5000), replica("c", last=5000))
    found = judged(*far, replica("b", last=0, first=1, bytes=0, first_at=0))
    assert (found["b"].holes, found["b"].behind) == (0, 5000)
    assert found["b"].faults == ("5000 messages behind",)


def test_a_replica_is_behind_beyond_the_bound() -> None:
    assert not faults(replica("a", last=BEHIND_MAX + 1), replica("b", last=1), replica("c", last=1))
    told = faults(replica("a", last=BEHIND_MAX + 2), replica("b", last=1), replica("c", last=1))
    assert told == {name: (f"{BEHIND_MAX + 1} messages behind",) for name in ("b", "c")}


def test_what_is_about_to_expire_may_be_gone_from_one_replica() -> None:
    def observed(name: str, first: int, age_s: float) -> Replica:
        return replica(
            name,
            Stream.OBSERVED,
            first=first,
            messages=101 - first,
            age_s_max=7200.0,
            first_at=NOW - round(age_s * NANOSECONDS),
        )

    soon, later = 7200 - EXPIRY_SLACK_S, 7200 - EXPIRY_SLACK_S - 1
    assert not faults(observed("a", 1, soon), observed("b", 5, 60), observed("c", 5, 60))
    assert faults(observed("a", 1, later), observed("b", 5, 60), observed("c", 1, later)) == {
        "b": ("it begins at 5, another at 1",)
    }


def test_who_stores_something_else_for_the_same_messages_is_told_by_the_majority() -> None:
    assert faults(*three(bytes=999)) == {"b": ("it stores 999 bytes through 100, another 1000",)}
    two = faults(replica("a", peers=frozenset("ab")), replica("b", bytes=9, peers=frozenset("ab")))
    assert two.keys() >= {"a", "b"}  # nobody can say which


def test_of_a_stream_that_keeps_each_subjects_last_message_the_number_must_agree() -> None:
    status = [replica(name, Stream.STATUS, messages=3, first=40) for name in "abc"]
    assert not faults(*status)
    status[1] = replace(status[1], messages=2)
    assert faults(*status) == {"b": ("it stores 2 messages through 100, another 3",)}


def test_a_replica_that_its_server_does_not_speak_of_is_missing() -> None:
    there = (replica("a"), replica("c"))
    assert faults(*there) == {"b": ("its server's monitoring URL was not given",)}
    told = faults(*there, failures=("http://z: refused",))
    assert told == {"b": ("its server gives no answer: http://z: refused",)}
    other = replica("b", Stream.OBSERVED, wanted=1, peers=frozenset("b"), leads=True)
    found = judge(
        [
            Server(f"http://{each.server}", each.server, "/s", (each,), "t", NOW)
            for each in (*there, other)
        ]
    )
    assert [(each.server, each.faults) for each in found if each.faults] == [
        ("b", ("its server holds no replica, and is to hold one",))
    ]


def test_a_server_that_turned_jetstream_off_is_told_once_and_with_what_to_do() -> None:
    varz, _ = answers()
    off = server("http://b", varz | {"server_name": "b"}, {"disabled": True, "config": {}})
    assert "b: it has turned JetStream off" in off.failure
    assert "start the server again" in off.failure
    there = [
        Server(f"http://{each.server}", each.server, "/s", (each,), "t", NOW)
        for each in (replica("a"), replica("c"))
    ]
    (found,) = (each for each in judge([*there, off]) if each.faults)
    assert (found.server, found.faults, found.reachable) == ("b", (off.failure,), False)
    assert cli.faults(Survey((*there, off), judge([*there, off]))) == [off.failure]


def test_a_stream_with_fewer_replicas_than_it_is_to_have_is_told_at_its_leader() -> None:
    pair = frozenset("ab")
    told = faults(replica("a", peers=pair), replica("b", peers=pair))
    assert told == {"a": ("2 of 3 replicas are placed",)}


def test_a_servers_answers_are_read() -> None:
    found = server("http://a", *answers())
    (read,) = found.replicas
    assert (found.name, found.store) == ("a", "/data/jetstream")
    assert (read.first, read.last, read.messages, read.gaps) == (1, 7, 5, 2)
    assert (read.leads, read.group, read.peers) == (False, "S", PEERS)
    assert server("http://a", *answers(name="ORDERS")).replicas == ()
    others = {"subjects": ["ledger.>"], "num_replicas": 3, "max_age": 0}
    assert server("http://a", *answers(config=others)).replicas == ()
    started = server("http://a", *answers(cluster=None)).replicas[0]
    assert not started.leads


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "/varz answers"),
        (b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}', "no answer of a nats-server"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", "no answer of a nats-server"),
        (b"", "/varz answers"),
    ],
)
async def test_an_endpoint_that_is_no_servers_is_told(answer: bytes, why: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        (found,) = await ask([f"http://127.0.0.1:{port}"])
    assert not found.name
    assert why in found.failure
    assert str(port) in found.failure


async def test_an_endpoint_that_says_nothing_or_too_much_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (ANSWER_BYTES_MAX + 1))
        writer.close()

    for serve, timeout_s, why in ((silent, 0.05, "nothing within"), (endless, 20.0, "more than")):
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            (found,) = await ask([f"http://127.0.0.1:{port}"], timeout_s)
        assert why in found.failure
    (found,) = await ask(["nats://127.0.0.1:1"])
    assert "http://HOST:PORT" in found.failure
