"""What an allocator says of itself over HTTP, as a process whose bus comes and goes."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from deciding import joined, started, stopped
from scraping import service
from serving import publish
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Outgoing, Stream, subject
from tabard.bus.server import EmbeddedServer
from tabard.events.observed import QuarantineRequested
from tabard.ledger.messages import first_cause, observed

pytestmark = pytest.mark.nats


async def test_an_allocators_readiness_follows_its_bus_and_its_figures_the_ledger(
    own_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    url = own_nats_server.url
    bus = await JetStreamBus.connect(url, name="test")
    await bus.ensure_streams()
    await own_nats_server.stop()
    settings = {"NATS": url, "CLUSTER": "test", "TICK_MS": "20", "RETIRE_GRACE_MS": "0"}
    async with service("tabard.allocator", tmp_path, **settings) as one:
        reason = await one.becomes(503)
        assert "not connected to the bus" in reason
        assert "neither leads nor follows" in reason
        assert await one.value("tabard_allocator_leading") == 0

        await own_nats_server.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(bus.close)
            await one.becomes(200)
            assert await one.value("tabard_allocator_leading") == 1
            assert await one.value("tabard_allocator_epoch") == 1

            pods = [started(f"p{i}", {"app": f"a{i % 2}"}, f"10.1.0.{i}") for i in range(4)]
            sequences = await publish(bus, joined("n1"), *pods)
            await one.shows(sequences[-1], "tabard_allocator_cursor_sequence")
            sequences = await publish(bus, stopped("p1"), stopped("p3"))
            await one.shows(sequences[-1], "tabard_allocator_cursor_sequence")
            await one.shows(0, "tabard_allocator_cursor_lag_events")
            await one.shows(1, "tabard_allocator_identities", state="retired")
            # The state runs ahead by the batch that is being appended; what is counted is stored.
            await one.shows(1, "tabard_allocator_decisions_total", type="identity.retired")
            found = await one.scrape()

            def value(name: str, **labels: str) -> float:
                return found[f"tabard_allocator_{name}", tuple(sorted(labels.items()))]

            assert value("identities", state="live") == 1
            assert value("endpoints") == 2
            assert value("nodes", state="live") == 1
            assert value("nodes", state="lost") == 0
            assert value("numbers_exhausted") == 0
            assert value("decisions_total", type="endpoint.bound") == 4
            assert value("decisions_total", type="endpoint.unbound") == 2
            assert value("decisions_total", type="identity.allocated") == 2
            # All but the claim of the lead and what came with it were appended in batches.
            assert 0 < value("batch_events_sum") < value("ledger_sequence")
            assert await bus.last_sequence(Stream.LEDGER) == value("ledger_sequence")
            assert value("batch_events_count") == value("append_seconds_count")

            # An event that cannot be read stops it; an operator's word lets it go on.
            text = Outgoing(subject(Stream.OBSERVED, "pod.started"), b"not msgpack", "x")
            (bad,) = await bus.publish(Stream.OBSERVED, [text])
            assert f"stands before OBSERVED/{bad} (not msgpack" in await one.becomes(503)
            assert await one.value("tabard_allocator_stopped") == 1
            word = QuarantineRequested(Stream.OBSERVED.value, bad, "a test")
            await bus.publish(Stream.OBSERVED, [observed(word, first_cause("", 9))])
            await one.becomes(200)
            await one.shows(1, "tabard_allocator_decisions_total", type="quarantine.recorded")

            await own_nats_server.stop()
            reason = await one.becomes(503)
            assert reason.startswith("not connected to the bus")
            assert await one.value("tabard_allocator_bus_connected") == 0
            await own_nats_server.start()
            await one.becomes(200)
            assert await one.value("tabard_allocator_bus_connects_total") == 2
        assert await one.stop() == 0


async def test_a_port_in_use_ends_the_process_with_the_setting_named(tmp_path: Path) -> None:
    first = {"NATS": "nats://127.0.0.1:1", "CLUSTER": "a", "LOG_FORMAT": "console"}
    async with service("tabard.allocator", tmp_path, **first) as one:
        address = one.url.removeprefix("http://")
        await one.becomes(503)
        assert f"http.serving                   url={one.url}" in one.log.read_text()
        other = tmp_path / "other"
        other.mkdir()
        settings = {"NATS": "nats://127.0.0.1:1", "CLUSTER": "a", "HTTP": address}
        async with service("tabard.allocator", other, **settings) as second:
            async with asyncio.timeout(30):
                assert await second.process.wait() == 1
            assert f"TABARD_HTTP={address} cannot be served: Address already in use" in (
                second.log.read_text()
            )


async def test_a_wrong_address_is_named_like_any_wrong_setting(tmp_path: Path) -> None:
    settings = {"NATS": "nats://127.0.0.1:1", "CLUSTER": "a", "HTTP": "9100", "LOG_FORMAT": "xml"}
    async with service("tabard.allocator", tmp_path, **settings) as one:
        async with asyncio.timeout(30):
            assert await one.process.wait() == 2
        said = one.log.read_text()
        assert "TABARD_HTTP: " in said
        assert "'9100' is neither host:port nor fd:N" in said
        assert "TABARD_LOG_FORMAT: Input should be 'auto', 'json' or 'console'" in said
