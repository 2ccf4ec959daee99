"""What of the bus's replicas `status` and `doctor` tell, beside what real servers count."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from clusters import running
from command import Tabard
from damage import answers
from ledgers import append, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.replicas import Server, server
from tabard.cli import replicas
from tabard.cli.reach import Target

METRICS = b"""\
# TYPE tabard_bus_replica_holes gauge
tabard_bus_replica_holes{server="a",stream="LEDGER"} 7.0
tabard_bus_replica_holes{server="b",stream="OBSERVED"} 1.0
tabard_bus_replica_holes{server="c",stream="LEDGER"} 0.0
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests' output is theirs."""


@pytest.fixture
def page() -> Iterator[str]:
    """Where an allocator serves METRICS."""
    served = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def chosen(**http: str) -> Target:
    profile = replace(running("a"), http=http, monitoring=("http://a", "http://z"))
    return Target(profile.nats, profile)


def test_what_allocators_found_is_asked_of_those_that_answer(page: str) -> None:
    found = replicas.found_by_allocators(
        chosen(**{"allocator.1": "http://127.0.0.1:1", "allocator.2": page, "source": page})
    )
    assert found == {("a", "LEDGER"): 7, ("b", "OBSERVED"): 1}
    assert replicas.found_by_allocators(Target(("nats://somewhere",))) == {}


async def test_what_only_reading_found_is_told_beside_what_servers_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(urls: tuple[str, ...]) -> tuple[Server, ...]:
        return server(urls[0], *answers()), Server(urls[1], failure="http://z: refused")

    monkeypatch.setattr("tabard.ledger.replicas.ask", ask)
    word = await replicas.word(chosen(), {("a", "LEDGER"): 7, ("b", "OBSERVED"): 1})
    assert word is not None
    assert (word["servers"], word["answering"]) == (2, 1)
    assert word["faults"] == [
        "http://z: refused",
        "a LEDGER: 2 of 1-7 are missing",
        "b OBSERVED: 1 messages are missing, as an allocator found by reading",
    ]
    assert await replicas.word(Target(("nats://somewhere",)), {}) is None


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (["http://z: refused"], "2 of 3 servers answer, replicas as they must be, by their counts"),
        (["http://z: refused", "a LEDGER: 2 of 1-7 are missing"], "2 of 3 servers answer, DAMAGED"),
    ],
)
def test_a_server_that_gives_no_answer_is_not_called_damaged(
    tabard: Tabard,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    faults: list[str],
    said: str,
) -> None:
    async def word(*_: object) -> dict[str, object]:
        return {"servers": 3, "answering": 2, "faults": faults}

    asyncio.run(append(MemoryBus(store), *small()))
    monkeypatch.setattr("tabard.cli.status.word", word)
    lines = tabard("status").stdout.splitlines()
    assert f"bus        {said}" in lines
    assert "           http://z: refused" in lines
