"""`python -m tabard.server` is a server, `python -m tabard.server.streams` makes its streams."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stream

pytestmark = pytest.mark.nats


def started(module: str, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if "TABARD" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env={**environment, **variables},
        stderr=subprocess.PIPE,
        process_group=0,
    )


def free_place() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


async def test_streams_are_made_once_the_server_is_up_and_left_alone_the_next_time(
    tmp_path: Path,
) -> None:
    place = free_place()
    maker = {"TABARD_NATS": f"nats://{place}", "TABARD_LOG_FORMAT": "json"}
    early = started("tabard.server.streams", maker)
    server = started(
        "tabard.server",
        {
            "TABARD_CLUSTER": "c",
            "TABARD_DATA": str(tmp_path / "data"),
            "TABARD_SERVER_NAME": "nats-1",
            "TABARD_SERVER_LISTEN": place,
            "TABARD_SERVER_MONITORING": free_place(),
        },
    )
    try:
        for making in (early, started("tabard.server.streams", maker)):
            _, said = await asyncio.to_thread(making.communicate)
            assert making.returncode == 0, said
        bus = await JetStreamBus.connect([f"nats://{place}"], name="test")
        try:
            assert [(await bus.info(stream)).replicas for stream in Stream] == [1] * len(Stream)
        finally:
            await bus.close()
        assert os.readlink(f"/proc/{server.pid}/exe").endswith("/nats-server")
    finally:
        server.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.communicate)


def test_a_wrong_setting_is_named() -> None:
    process = started("tabard.server", {"TABARD_CLUSTER": "c", "TABARD_DATA": "/x"})
    _, said = process.communicate()
    assert process.returncode == 2
    assert b"TABARD_SERVER_NAME" in said
