"""`tabard status` holds what the nodes folded against what the ledger says."""

import asyncio
import json
from typing import Any

import pytest

from command import Tabard
from ledgers import append, append_raw, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import digests
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State

WRONG = b"w" * 16


def at(store: MemoryStore, sequence: int) -> bytes:
    return asyncio.run(folded(store, sequence))


async def folded(store: MemoryStore, sequence: int) -> bytes:
    return digest(await catch_up(MemoryBus(store), State(), sequence))


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *small()))


def told(store: MemoryStore, node: str, sequence: int, word: bytes | None = None) -> None:
    """The node reports `word`, or the right digest."""

    async def tell() -> None:
        found = await folded(store, sequence) if word is None else word
        await say(MemoryBus(store), node, 8, digest=found, digest_at=sequence)

    asyncio.run(tell())


def status(tabard: Tabard) -> tuple[int, dict[str, Any]]:
    result = tabard("status", "-o", "json")
    return result.exit_code, json.loads(result.stdout)


def test_nodes_that_hold_what_the_ledger_says_agree_each_at_its_own_sequence(
    tabard: Tabard, store: MemoryStore
) -> None:
    told(store, "n1", 8)
    told(store, "n2", 5)
    code, found = status(tabard)
    assert code == 0
    assert found["ledger"]["digest"] == at(store, 8).hex()
    assert [
        (node["digest"], node["digest_at"], node["digest_agrees"]) for node in found["nodes"]
    ] == [(at(store, 8).hex(), 8, True), (at(store, 5).hex(), 5, True)]
    assert found["diverged"] == []
    lines = tabard("status").stdout.splitlines()
    assert f"digest     {at(store, 8).hex()} at 8" in lines
    assert f"{at(store, 5).hex()[:8]}@5" in lines[-1].split()


@pytest.mark.parametrize("sequence", [8, 5])
def test_a_node_that_holds_something_else_is_named_and_fails_the_command(
    tabard: Tabard, store: MemoryStore, sequence: int
) -> None:
    told(store, "n1", 8)
    told(store, "n2", sequence, WRONG)
    code, found = status(tabard)
    assert code == 1
    assert found["diverged"] == ["n2"]
    assert [node["digest_agrees"] for node in found["nodes"]] == [True, False]
    result = tabard("status")
    assert result.exit_code == 1
    assert f"{WRONG.hex()[:8]}@{sequence} DIFFERS" in result.stdout
    assert "DIVERGED   n2: " in result.stdout


def test_a_node_without_a_digest_and_one_ahead_of_the_ledger_are_not_compared(
    tabard: Tabard, store: MemoryStore
) -> None:
    told(store, "n1", 0, b"")
    told(store, "n2", 9, WRONG)
    code, found = status(tabard)
    assert code == 0
    assert [node["digest_agrees"] for node in found["nodes"]] == [None, None]
    assert f"{WRONG.hex()[:8]}@9?" in tabard("status").stdout


def test_nodes_are_compared_up_to_an_event_that_cannot_be_read(
    tabard: Tabard, store: MemoryStore
) -> None:
    told(store, "n1", 8)
    told(store, "n2", 5, WRONG)
    asyncio.run(append_raw(MemoryBus(store), b"\xc1"))
    code, found = status(tabard)
    assert code == 1
    assert [node["digest_agrees"] for node in found["nodes"]] == [True, False]


def test_of_many_sequences_those_of_most_nodes_are_compared(
    tabard: Tabard, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "POINTS_MAX", 1)
    told(store, "n1", 5)
    told(store, "n2", 6)
    told(store, "gone", 5)
    _, found = status(tabard)
    assert [node["digest_agrees"] for node in found["nodes"]] == [True, None]
