"""What all tests share: the real nats-server, and the rule that root on Linux skips nothing.

A test marked `nats` or `ebpf` is skipped, with the reason, where its parts are missing. As root on
Linux, where all of them can be there, such a skip fails the run: what was not run is not tested.
Deselecting (`-m "not ebpf"`) is not skipping.
"""

import asyncio
import importlib
import os
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.read import api
from tabard.bus.port import Stream
from tabard.bus.server import EmbeddedServer
from tabard.bus.subjects import BUCKET_STREAM

MUST_RUN = ("nats", "ebpf")
ROOT_ON_LINUX = sys.platform == "linux" and os.geteuid() == 0

_skipped: list[str] = []


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command or service run within a test configures logging for the whole process."""
    yield
    structlog.reset_defaults()


def _missing_for_nats() -> str:
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    return "" if os.access(binary, os.X_OK) else f"there is no nats-server at {binary}"


def _missing_for_ebpf() -> str:
    if not ROOT_ON_LINUX:
        return "eBPF needs root on Linux"
    try:
        importlib.import_module("bcc")
    except (ImportError, OSError) as error:
        return f"bcc cannot be imported: {error}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    checks = {"nats": _missing_for_nats, "ebpf": _missing_for_ebpf}
    for mark, missing in checks.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        if marked and (reason := missing()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"NOT TESTED: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    must_run = any(item.get_closest_marker(mark) for mark in MUST_RUN)
    if must_run and report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(item.nodeid)
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    # A module that skips itself does not say which marks its tests bear.
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    passed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ROOT_ON_LINUX and _skipped and session.exitstatus in passed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROOT_ON_LINUX and _skipped:
        terminalreporter.section("skipped, but must run as root on Linux", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One real nats-server for the whole run; for clean streams ask for `nats_url`."""
    server = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def nats_url(nats_server: EmbeddedServer) -> str:
    """The run's server, without any of Tabard's streams."""
    connection = Connection([nats_server.url], "clean", Options())
    try:
        # nats-server removes the folder of its last stream in the background, and may hit the next.
        keep = b'{"name":"KEEP","subjects":["keep"]}'
        await connection.request("$JS.API.STREAM.CREATE.KEEP", keep, "making stream KEEP")
        for stream in (*Stream, BUCKET_STREAM):
            await api(connection, "STREAM.DELETE", stream)
    finally:
        await connection.close()
    return nats_server.url


@pytest.fixture
async def own_nats_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A real nats-server of this test's own, to kill, stop and start again; it is running."""
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def nats_bus(nats_url: str) -> AsyncIterator[JetStreamBus]:
    """A bus on the run's server, with fresh streams."""
    bus = await JetStreamBus.connect(nats_url, name="test")
    await bus.ensure_streams()
    yield bus
    await bus.close()
