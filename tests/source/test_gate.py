"""Asking an agent over its socket: only a whole, positive answer counts."""

from pathlib import Path
from typing import Any

import pytest

from gates import OK, StubGate
from tabard.events.observed import PodStarted
from tabard.source.errors import PodFailed
from tabard.source.pods import gate as gating
from tabard.source.pods.gate import Gate
from tabard.source.pods.runtime import Attached, MemoryRuntime, Wanted, attach, detach

UID = "0b1c2d3e-4f50-4161-8273-8495a6b7c8d9"
POD = PodStarted(UID, "shop", "web", "n1", ("10.0.0.2",), (("app", "web"),), 1)


async def test_attach_sends_the_pod_and_its_interface_and_reads_the_figures(tmp_path: Path) -> None:
    stub = StubGate()
    async with stub.serve(tmp_path, "n1"):
        assert await attach(Gate(tmp_path), POD) == Attached(300, 7, True, 0.1, 0.2)
        await detach(Gate(tmp_path), POD)
    attached, detached = stub.requests
    assert attached["pod"]["labels"] == [["app", "web"]]
    assert attached["interface"] == "tb0b1c2d3e4f50"
    assert attached["mac"] == "02:0b:1c:2d:3e:4f"
    assert attached["timeout_ms"] == 5000
    assert (detached["op"], detached["uid"]) == ("detach", UID)


async def test_without_an_agent_the_pod_fails(tmp_path: Path) -> None:
    with pytest.raises(PodFailed, match=r"agent of n1 cannot be reached at .*is it running"):
        await attach(Gate(tmp_path), POD)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"ok": False, "code": "timeout", "error": "no identity"}, "refused attach .timeout.: no"),
        ({}, "refused attach"),
        ({**OK, "ok": 1}, "refused attach"),
        ({"ok": True}, "without 'identity'"),
        (b"[]\n", "refused attach"),
        (b"what\n", "no JSON line"),
        (b"\n", "no JSON line"),
    ],
)
async def test_any_answer_but_a_whole_ok_fails(tmp_path: Path, answer: Any, said: str) -> None:
    stub = StubGate()
    stub.answer = lambda request: answer
    async with stub.serve(tmp_path, "n1"):
        with pytest.raises(PodFailed, match=said):
            await attach(Gate(tmp_path), POD)


async def test_an_agent_that_does_not_answer_is_not_waited_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gating, "GRACE_MS", 20)
    stub = StubGate()
    stub.answer = lambda request: None
    async with stub.serve(tmp_path, "n1"):
        with pytest.raises(PodFailed, match="gave no answer to status within 1 ms"):
            await Gate(tmp_path).ask("n1", {"op": "status"}, 1)


async def test_pods_in_memory_pass_the_gate_and_those_in_their_nodes_network_have_none(
    tmp_path: Path,
) -> None:
    stub = StubGate()
    runtime = MemoryRuntime(Gate(tmp_path))
    host = PodStarted("u", "shop", "host", "n1", (), (), 1, host_network=True)
    async with stub.serve(tmp_path, "n1"):
        assert await runtime.start(Wanted(POD, ())) == Attached(300, 7, True, 0.1, 0.2)
        assert await runtime.start(Wanted(host, ())) is None
        await runtime.stop(POD)
        await runtime.stop(host)
    assert [request["op"] for request in stub.requests] == ["attach", "detach"]
