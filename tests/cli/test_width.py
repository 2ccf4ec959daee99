"""What is shown at a terminal fits it; what is piped, or asked for whole, is never cut."""

import asyncio
import json

import pytest

from command import Tabard
from ledgers import append, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli.printing import capped, table
from tabard.events import ledger as events

WIDTH = 120
SHOWN = (
    ("get", "pods"),
    ("get", "nodes"),
    ("get", "streams"),
    ("get", "policies"),
    ("describe", "pod", "shop/web-0"),
    ("describe", "policy", "shop/many"),
    ("policy", "check", "--from", "shop/web-0", "--to", "shop/web-1"),
    ("policy", "matrix"),
)
PORTS = tuple(range(8000, 8090, 2))


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    """Nodes of two families, and a policy of 45 ports."""
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "many", "namespace": "shop"},
        "spec": {
            "podSelector": {},
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": n} for n in PORTS]}],
        },
    }
    origin = f"{'deep/' * 15}many.yaml:1"

    async def build() -> None:
        bus = MemoryBus(store)
        head = await append(
            bus,
            *small(),
            events.NodeAdded(
                "n3", ("198.18.0.13", "fd00:c612::d"), ("10.244.3.0/24", "fd00:10:244:3::/64")
            ),
            bound("web-1", address="10.244.1.3", owner="Deployment/shop/web"),
            events.PolicyAccepted("NetworkPolicy", "shop", "many", document, origin),
        )
        await say(bus, "n3", head, error="a long story " * 10)

    asyncio.run(build())


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "typer.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False
    )
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_no_line_is_longer_than_the_terminal(tabard: Tabard, words: tuple[str, ...]) -> None:
    shown = tabard(*words).stdout
    assert [line for line in shown.splitlines() if len(line) > WIDTH] == []


@pytest.mark.usefixtures("at_a_terminal")
def test_what_is_cut_is_whole_where_it_is_asked_for(tabard: Tabard) -> None:
    check = ("policy", "check", "--from", "shop/web-0", "--to", "shop/web-1")
    assert "8008/TCP, … (+40, -o wide)\n" in tabard(*check).stdout
    assert "8086/TCP, 8088/TCP\n" in tabard(*check, "-o", "wide").stdout
    assert len(json.loads(tabard(*check, "-o", "json").stdout)["connections"]) == len(PORTS)
    assert "8008,… (+40, -o wide)" in tabard("policy", "matrix").stdout
    assert ("a long story " * 10).strip() in tabard("get", "nodes", "-o", "wide").stdout


def test_what_is_piped_is_not_cut_to_any_width(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert ("a long story " * 10).strip() in tabard("get", "nodes").stdout


def test_the_widest_columns_are_cut_and_of_a_list_it_is_said_how_many_more() -> None:
    rows = [["x" * 8, ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "y" * 40]]
    assert table(["A", "B", "C"], rows, 50) == [
        f"A          B{' ' * 17}C",
        f"xxxxxxxx   10.0.0.1,… (+2)   {'y' * 17}…",
    ]
    # A column keeps what tells its rows apart.
    assert max(map(len, table(["A", "B", "C"], rows, 10))) == 8 + 3 + 12 + 3 + 12


def test_of_a_list_that_is_capped_all_are_there_or_the_rest_is_counted() -> None:
    assert capped(["a", "b"], 2) == ["a", "b"]
    assert capped(["a", "b", "c"], 2) == ["a", "b", "… (+1, -o wide)"]
