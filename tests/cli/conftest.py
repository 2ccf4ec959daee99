"""The command line on a memory bus, without a cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context

import pytest
from typer.testing import CliRunner, Result

from command import Tabard
from ledgers import Answering
from tabard.bus.memory import MemoryStore
from tabard.bus.port import Bus
from tabard.cli import advice
from tabard.cli.app import app


@pytest.fixture(autouse=True)
def nothing_was_chosen() -> None:
    """A test's command knows nothing of what another's was given."""
    advice.forget()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What stands on the bus that the commands reach."""
    store = MemoryStore()

    @asynccontextmanager
    async def connected(urls: tuple[str, ...], timeout_s: float = 10) -> AsyncIterator[Bus]:
        yield Answering(store)

    monkeypatch.setattr("tabard.cli.reach.connected", connected)
    return store


@pytest.fixture
def tabard(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Tabard:
    """Run a command; where no cluster runs, the bus at `nats://nowhere` is meant."""
    monkeypatch.setenv("TABARD_RUN_DIR", str(tmp_path_factory.mktemp("run")))
    monkeypatch.setenv("TABARD_NATS", "nats://nowhere")
    monkeypatch.delenv("TABARD_CLUSTER", raising=False)

    def run(*words: str) -> Result:
        # A command is a process of its own: what it was told must not reach the next.
        return copy_context().run(CliRunner().invoke, app, list(words))

    return run
