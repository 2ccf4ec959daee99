"""What is printed as JSON has exactly the keys, and the types, that `tabard explain` documents."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import guards
from clusters import running
from command import Tabard
from damage import answers
from domains import to_names
from ledgers import POLICY, append, append_raw, bound, replica, say, small, speak
from rehearsals import outcome
from shops import SHOP
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Outgoing, Stream
from tabard.bus.replicas import Server, server
from tabard.chaos.report.outcome import Outcome
from tabard.cli.documents import COMMANDS
from tabard.cli.fields import OBJECTS, Field
from tabard.cluster import profile
from tabard.dataplane.maps import Maps
from tabard.dataplane.plain import plain
from tabard.events import ledger as events
from tabard.invariants.verdict import Invariant, Violation
from tabard.ledger import archive
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State

SCALARS: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
UNREADABLE = "events tail, of an unreadable event"
UNREADABLE_SHOWN = "events show, of an unreadable event"


def check(value: Any, fields: tuple[Field, ...], where: str) -> set[int]:
    """Fails unless `value` is an object with exactly `fields`; which kinds of object were seen."""
    assert set(value) == {each.name for each in fields}, where
    seen = {id(fields)}
    for each in fields:
        seen |= check_type(value[each.name], each.type, each.fields, f"{where}.{each.name}")
    return seen


def check_type(value: Any, said: str, fields: tuple[Field, ...], where: str) -> set[int]:
    seen: set[int] = set()
    if said.endswith("?"):
        if value is None:
            return seen
        said = said[:-1]
    if said == "any":
        return seen
    if said.startswith("["):
        assert isinstance(value, list), where
        for each in value:
            seen |= check_type(each, said[1:-1], fields, f"{where}[]")
    elif said.startswith("{"):
        assert isinstance(value, dict), where
        for each in value.values():
            seen |= check_type(each, said[1:-1].partition(": ")[2], fields, f"{where}{{}}")
    elif said == "object":
        assert isinstance(value, dict), where
        seen |= check(value, fields, where)
    else:
        assert isinstance(value, SCALARS[said]), f"{where} is {value!r}, not {said}"
        assert said == "boolean" or not isinstance(value, bool), where
    return seen


def kinds(fields: tuple[Field, ...]) -> Iterator[tuple[int, str]]:
    """Each kind of object that they say, and the names of its keys."""
    yield id(fields), ", ".join(each.name for each in fields)
    for each in fields:
        if each.fields:
            yield from kinds(each.fields)


@pytest.fixture
def ledger(store: MemoryStore) -> None:
    """Something of everything that can be printed."""
    peer = {"podSelector": {"matchLabels": {"app": "web"}}}
    blocks = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    spec = {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [peer, blocks], "ports": [{"port": 80}]}, {}],
    }
    policy = {**POLICY, "metadata": {"name": "open", "namespace": "shop"}, "spec": spec}
    named = to_names("a.io", labels={"app": "other"})
    waiting = events.PodRefused(
        "uid-w", "shop", "w", "no number", True, "n1", (), (), 1, "default", (), "", False
    )

    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small(), waiting, bound("web-1", address="10.244.1.3", node="n2"))
        await append(
            bus,
            events.IdentityAllocated((1 << 24) + 1, ("cidr:10.0.0.0/8",)),
            events.IdentityAllocated(300, ("k8s:app=old",)),
            events.IdentityRetired(300),
            events.PolicyAccepted("NetworkPolicy", "shop", "open", policy, "x.yaml:1"),
            events.PolicyRefused("NetworkPolicy", "shop", "bad", "spec.x: unknown", "x.yaml:9"),
            events.PolicyAccepted("CiliumNetworkPolicy", "shop", "names", named, ""),
            events.NameResolved("a.io", (("192.0.2.7", 5), ("10.0.0.1", 7))),
            events.RelabelPlanned("uid-web-0", 256, (("app", "new"),)),
            events.NumbersExhausted(1, (("k8s:app", 1),)),
        )
        await archive.store(bus, archive.Frozen.of(await catch_up(bus, State())), "test")
        await say(bus, "n1", 8, endpoints=1, map_writes=(("hosts", 2),), full=(("hosts", 1),))
        await say(bus, "n2", 7)
        await speak(bus, replica("h-1", "leading"))
        await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.junk", b"\xc1")])

    asyncio.run(build())


def own_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cluster on this machine, one of whose two agents answers."""

    async def ask(socket: Path, operation: str, timeout_s: float) -> dict[str, Any]:
        if "n2" in str(socket):
            raise profile.ClusterError("it is away")
        if operation == "contents":
            return {"ok": True, "sequence": 7, "maps": plain(Maps()), "attached": []}
        entry = {"map": "hosts", "key": "10.0.0.1", "held": "5", "wanted": None}
        return {"ok": True, "sequence": 7, "entries": [entry], "count": 1}

    http = {"allocator": "http://127.0.0.1:1"}
    monitoring = ("http://127.0.0.1:2",)
    data = tmp_path / "data"
    data.mkdir()
    found = replace(
        running("a"), netns="", data=str(data), http=http, monitoring=monitoring, nkey="operator's"
    )
    monkeypatch.delenv("TABARD_NATS")
    profile.claim(found, profile.run_directory())

    async def counts(urls: tuple[str, ...]) -> tuple[Server, ...]:
        return (server(urls[0], *answers()),)

    monkeypatch.setattr("tabard.ledger.replicas.ask", counts)
    monkeypatch.setattr("tabard.cli.drift.ask", ask)
    monkeypatch.setattr("tabard.cluster.kernels.ask", ask)


def rehearsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run in which something did not hold, instead of one on a real cluster."""

    async def run(*_: object) -> Outcome:
        return outcome(fold=[Violation(Invariant.FOLD, "n1 differs")])

    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "")
    monkeypatch.setattr("tabard.cli.chaos._rehearsed", run)
    monkeypatch.chdir(tmp_path)


NAMES = {
    "describe pod": [["shop/web-0"], ["shop/w"]],
    "describe identity": [["256"], [str((1 << 24) + 1)], ["300"]],
    "describe node": [["n1"], ["n2"]],
    "describe policy": [["shop/web"], ["shop/open"], ["shop/bad"]],
    "describe binding": [["10.244.1.2"]],
    "describe name": [["A.io."]],
    "describe workload": [["shop/web"]],
    "describe stream": [["ledger"], ["flows"]],
    "events show": [["7"], ["--at", "7"]],
    "wait": [["--sequence", "7", "--timeout", "0"]],
    "policy check": [
        ["--from", "shop/web-0", "--to", "shop/web-1", "--port", "80", "--port", "ICMP"],
        ["--from", "8.8.8.8", "--to", "shop/web-0"],
        ["--from", "shop/frontend", "--to", "data/postgres", "-f", str(SHOP)],
    ],
    "policy explain": [
        ["--from", "shop/web-0", "--to", "shop/web-1", "--port", "80", "--port", "ICMP"],
        ["--from", "shop/frontend", "--to", "data/postgres", "--port", "5432", "-f", str(SHOP)],
    ],
    "policy lint": [[], [str(SHOP)]],
    "policy diff": [["cluster", str(SHOP / "policies-shop.yaml")]],
    "chaos run": [["all"]],
    "chaos simulate": [
        ["--seeds", "1", "--steps", "9"],
        ["--seeds", "9", "--steps", "200", "--fault", "swaps-without-waiting"],
    ],
    "policy matrix": [[], ["--outside", "8.8.8.8"], ["-f", str(SHOP)]],
}
EXITS = {
    "drift": (1,),
    "policy lint": (0, 1),
    "policy diff": (1,),
    "policy check": (0, 4),
    "policy explain": (0, 4),
    "chaos simulate": (0, 1),
    "doctor": (0, 1),
    "metrics": (1,),
    "bus status": (1,),
    "chaos run": (1,),
}
"""One of two agents is away, as are two of three servers of the bus; flows may be denied, and this
machine may lack something."""
ONLY_NOW = (["streams"], *([kind, "--watch"] for kind in OBJECTS))


def asked(command: str) -> Iterator[list[str]]:
    """Ways to type `command`, of what is in the ledger now and was."""
    words = command.split()
    if "--watch" in words:
        yield [*words, "--timeout", "0"]
    elif command == "events tail":
        yield [*words, "--no-follow"]
    else:
        for name in NAMES.get(command, [[]]):
            yield [*words, *name]
    if command in ("status", "drift") or (words[0] == "get" and words[1:] not in ONLY_NOW):
        yield [*words, "--at", "10"]
        yield [*words, "--at", "0"]


ELSEWHERE = ("ledger trim", "bus check")
"""Not printed here: they take an allocator (see test_snapshots), and real servers (test_repair)."""


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if "," not in each and each not in ELSEWHERE]
)
@pytest.mark.usefixtures("ledger")
def test_what_is_printed_has_the_keys_that_are_documented(
    tabard: Tabard, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_cluster(monkeypatch, tmp_path)
    if command == "chaos run":
        rehearsed(monkeypatch, tmp_path)
    if command == "auth list":
        guards.directory(tmp_path / "data" / "auth")
    seen: set[int] = set()
    for words in asked(command):
        result = tabard(*words, "-o", "json")
        assert result.exit_code in EXITS.get(command, (0,)), (words, result.stderr)
        many = "--watch" in words or "tail" in words
        for text in result.stdout.splitlines() if many else [result.stdout]:
            seen |= check(json.loads(text), COMMANDS[command], " ".join(words))
    unseen = [names for known, names in kinds(COMMANDS[command]) if known not in seen]
    assert not unseen, "the test must print one of each"


def test_an_unreadable_event_has_the_keys_that_are_documented(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1"))
    line = tabard("events", "tail", "--no-follow", "-o", "json").stdout
    check(json.loads(line), COMMANDS[UNREADABLE], "tail")
    shown = tabard("events", "show", "1", "-o", "json")
    assert shown.exit_code == 1
    check(json.loads(shown.stdout), COMMANDS[UNREADABLE_SHOWN], "show")


def test_a_ledger_that_is_bad_has_the_keys_that_are_documented(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1"))
    result = tabard("events", "verify", "-o", "json")
    assert result.exit_code == 1
    check(json.loads(result.stdout), COMMANDS["events verify"], "verify")


def test_explain_shows_every_key_of_a_kind(tabard: Tabard) -> None:
    told = tabard("explain", "po").stdout
    for command in ("get pods", "get pods --watch", "describe pod"):
        assert f"tabard {command} -o json" in told
        for field in COMMANDS[command]:
            assert f"  {field.name} " in told
    assert "tabard get nodes" not in told


def test_explain_finds_commands_by_their_words(tabard: Tabard) -> None:
    def commands(*words: str) -> list[str]:
        return list(json.loads(tabard("explain", *words, "-o", "json").stdout))

    assert commands("status") == ["status", "bus status"]
    assert commands("verify") == ["events verify", "snapshots verify"]
    assert commands("describe", "node") == ["describe node"]
    assert len(commands("events")) == 5
    assert commands() == list(COMMANDS)
    result = tabard("explain", "nonsense")
    assert result.exit_code == 2
    assert "get pods" in result.stderr


def test_every_key_is_explained_in_a_line_of_at_most_a_hundred_characters(tabard: Tabard) -> None:
    assert max(map(len, tabard("explain").stdout.splitlines())) <= 100
    for command, fields in COMMANDS.items():
        for field in fields:
            assert field.doc, f"{command}: {field.name}"
