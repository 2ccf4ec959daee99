"""`policy check -w` and `policy matrix -w`: the answer again whenever the ledger changes it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from command import Tabard
from ledgers import POLICY, WEB_LABELS, append, append_raw, bound, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import check, naming, watching, where
from tabard.cli.failing import Failure
from tabard.cli.printing import Output
from tabard.cli.questions import Question
from tabard.events import ledger as events
from tabard.ledger.follow import follow
from tabard.ledger.provenance import Provenance
from tabard.ledger.state import State

OPEN = POLICY | {
    "metadata": {"name": "open", "namespace": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"ports": [{"port": 80}]}],
    },
}
SECOND = OPEN | {
    "metadata": {"name": "wide", "namespace": "shop"},
    "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
}
ACCEPTED = events.PolicyAccepted("NetworkPolicy", "shop", "open", OPEN, "open.yaml:1")
FORGOTTEN = events.PolicyForgotten("NetworkPolicy", "shop", "open")
OTHER = events.IdentityAllocated(257, ("k8s:app=other", WEB_LABELS[1]))
THIRD = events.IdentityAllocated(258, ("k8s:app=third", WEB_LABELS[1]))
CLIENT = bound("client", identity=257, address="10.244.1.9", labels=(("app", "other"),))


def question(source: str = "shop/client", port: str = "80") -> Question:
    return Question(naming.place(source), naming.place("shop/web-0"), (naming.port(port),))


async def seen(changes: check.Rulings, *later: events.LedgerEvent) -> None:
    """Show `changes` the small ledger with a client (10 events), then each of `later`."""
    bus, state, provenance = MemoryBus(), State(), Provenance()
    await append(bus, *small(), OTHER, CLIENT)
    steps = follow(bus, state, 1)
    while state.sequence < 10:
        for record in await anext(steps):
            provenance.observe(record)
    changes.see(state, provenance, None)
    if later:
        await append(bus, *later)
    for _ in later:
        for record in await anext(steps):
            provenance.observe(record)
            changes.see(state, provenance, record)
    await steps.aclose()


async def test_the_answer_comes_again_after_the_event_that_changed_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = check.Rulings(question(), Output.TABLE)
    await seen(changes, events.CursorAdvanced("OBSERVED", 0), ACCEPTED, THIRD, FORGOTTEN)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith(("changed by", "allowed", "DENIED"))]
    flow = "shop/client → shop/web-0, 80/TCP"
    assert [line.split("   ")[0].removesuffix(f"  {flow}") for line in told] == [
        "DENIED",
        "changed by LEDGER/12",
        "allowed",
        "changed by LEDGER/14",
        "DENIED",
    ]
    assert "policy.accepted" in told[1]
    assert "name=open" in told[1]
    assert "00:00:00.000" in told[1]  # when it was stored: the bus's clock counts from 1970
    assert "policy.forgotten" in told[3]
    assert changes.allowed is False


async def test_in_json_the_sequence_is_of_the_event_that_changed_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = check.Rulings(question(), Output.JSON)
    await seen(changes, ACCEPTED, THIRD)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["sequence"], each["allowed"]) for each in found] == [(10, False), (11, True)]
    assert changes.allowed is True


async def test_the_install_s_enforcement_changes_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    never = events.SettingsAdopted("default", 0, 8, (), (), (), 300_000, "never")
    await seen(check.Rulings(question(), Output.JSON), never)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["allowed"] for each in found] == [False, True]


async def test_a_policy_that_decides_nothing_of_the_flow_is_no_news(
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = events.PolicyAccepted("NetworkPolicy", "shop", "wide", SECOND, "wide.yaml:1")
    await seen(check.Rulings(question(), Output.JSON), ACCEPTED, again)
    await seen(check.Rulings(replace(question(), wanted=()), Output.JSON), ACCEPTED, again)
    found = [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()]
    # Of any port the second one lets more pass.
    assert found == [10, 11, 10, 11, 12]


async def test_an_end_that_goes_is_told_once_and_comes_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = check.Rulings(question(), Output.JSON)
    gone = events.EndpointUnbound("uid-client")
    await seen(changes, gone, ACCEPTED, CLIENT)
    out, err = capsys.readouterr()
    assert err.splitlines() == ["LEDGER/11: there is no pod or workload shop/client"]
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [10, 13]


async def test_what_holds_of_nobody_at_first_is_no_question() -> None:
    with pytest.raises(Failure, match="no pod or workload shop/clinet"):
        await seen(check.Rulings(question("shop/clinet"), Output.TABLE))


async def test_events_of_others_cost_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    class Counting(check.Engine):
        def __init__(self, state: State) -> None:
            nonlocal made
            made += 1
            super().__init__(state)

    monkeypatch.setattr(check, "Engine", Counting)
    others = [bound(f"web-{n}", address=f"10.244.1.{n + 20}") for n in range(9)]
    await seen(check.Rulings(question(), Output.JSON), *others[1:])
    assert made == 1
    # An address that a pod takes is that pod's by then.
    made = 0
    await seen(check.Rulings(question("10.244.1.25"), Output.JSON), *others[1:])
    assert made == 2


async def test_a_node_that_takes_an_end_s_address_changes_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = events.NodeAdded("n3", ("198.18.0.13",), ())
    await seen(check.Rulings(question("198.18.0.13"), Output.JSON), node)
    found = [json.loads(line)["from"]["role"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["world", "node"]


@pytest.fixture
def ledger(store: MemoryStore) -> MemoryBus:
    bus = MemoryBus(store)
    asyncio.run(append(bus, *small(), OTHER, CLIENT))
    return bus


ASKED = ("policy", "check", "--from", "shop/client", "--to", "shop/web-0")


def test_a_watch_of_a_check_ends_with_the_last_answer(tabard: Tabard, ledger: MemoryBus) -> None:
    watched = tabard(*ASKED, "-w", "--timeout", "0.05", "-o", "json")
    assert watched.exit_code == 4, watched.stderr
    assert json.loads(watched.stdout) == json.loads(tabard(*ASKED, "-o", "json").stdout)
    assert tabard(*ASKED, "-w", "--timeout", "0", "-o", "name").stdout == "networkpolicy/shop/web\n"
    result = tabard("policy", "check", "--from", "shop/x", "--to", "shop/web-0", "-w")
    assert result.exit_code == 1
    assert "there is no pod or workload shop/x" in result.stderr


def test_a_watch_of_a_check_ends_before_what_cannot_be_taken(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    asyncio.run(append_raw(ledger, b"\xc1"))
    result = tabard(*ASKED, "-w", "--timeout", "5")
    assert result.exit_code == 1
    assert "  next: tabard events show 11" in result.stderr


@pytest.mark.parametrize("command", [ASKED, ("policy", "matrix")], ids=["check", "matrix"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-w", "--at", "5"), "-w and --at exclude each other"),
        (("-w", "-f", "shop.yaml"), "manifests are read once"),
        (("--timeout", "5"), "--timeout ends -w"),
    ],
)
def test_what_cannot_be_watched_says_why(
    tabard: Tabard, command: tuple[str, ...], words: tuple[str, ...], told: str
) -> None:
    result = tabard(*command, *words)
    assert result.exit_code == 2
    assert told in result.stderr


def watched_matrix(
    monkeypatch: pytest.MonkeyPatch, tabard: Tabard, bus: MemoryBus, *words: str
) -> Any:
    """What is printed while two events come, one after the other was seen."""
    later = [ACCEPTED, FORGOTTEN]
    original = watching.watch

    async def watch(
        bus_: Any, state: Any, known: Any, show: Callable[[Any], None], *rest: Any
    ) -> None:
        done = asyncio.Event()

        def look(reading: Any) -> None:
            show(reading)
            if state.sequence == 12:
                done.set()
            elif state.sequence == 12 - len(later):
                tasks.append(asyncio.create_task(append(bus_, later.pop(0))))

        tasks: list[Any] = [asyncio.create_task(original(bus_, state, known, look, *rest))]
        async with asyncio.timeout(10):
            await done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    monkeypatch.setattr(watching, "SPACING_S", 0.0)
    monkeypatch.setattr(where, "watch", watch)
    result = tabard("policy", "matrix", "-w", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_pairs_come_as_they_are_added_and_deleted(
    monkeypatch: pytest.MonkeyPatch, tabard: Tabard, ledger: MemoryBus
) -> None:
    head, *lines = watched_matrix(monkeypatch, tabard, ledger).splitlines()
    assert head.split() == ["EVENT", "FROM", "TO", "CONNECTIONS"]
    assert [line.split() for line in lines] == [
        ["ADDED", "shop/web", "shop/client", "all"],
        ["ADDED", "shop/client", "shop/web", "80/TCP"],
        ["ADDED", "shop/web", "shop/web", "80/TCP"],
        ["DELETED", "shop/client", "shop/web", "80/TCP"],
        ["DELETED", "shop/web", "shop/web", "80/TCP"],
    ]


def test_pairs_in_json_say_at_which_sequence(
    monkeypatch: pytest.MonkeyPatch, tabard: Tabard, ledger: MemoryBus
) -> None:
    lines = watched_matrix(monkeypatch, tabard, ledger, "-o", "json", "-l", "app=other")
    found = [json.loads(line) for line in lines.splitlines()]
    assert [(each["sequence"], each["event"], each["item"]["to"]) for each in found] == [
        (10, "ADDED", "shop/client"),
        (11, "ADDED", "shop/web"),
        (12, "DELETED", "shop/web"),
    ]
    assert found[1]["item"]["rules"][0]["event"] == "LEDGER/11"
