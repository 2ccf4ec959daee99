"""What shells are offered: in a real bash, by the protocols of zsh and fish, and from a bus."""

import asyncio
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clusters import running
from ledgers import append, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import completion
from tabard.cli.app import app
from tabard.cluster import profile

SCRIPTS = sysconfig.get_path("scripts")

Offered = Callable[[str], list[str]]


@pytest.fixture
def offered(tabard: Any, store: MemoryStore) -> Offered:
    """What is offered at the end of a line, on a bus with the small ledger."""
    asyncio.run(_small(store))

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            "_TABARD_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        result = CliRunner().invoke(app, [], prog_name="tabard", env=environment)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split()

    return complete


async def _small(store: MemoryStore) -> None:
    await append(MemoryBus(store), *small())


def test_names_are_those_of_the_running_cluster(offered: Offered) -> None:
    assert offered("tabard label pod ") == ["shop/web-0"]
    assert offered("tabard label pod other/") == []
    assert offered("tabard label ") == ["pod"]
    assert offered("tabard delete ") == ["node", "pod"]
    assert offered("tabard delete node n") == ["n1", "n2"]
    assert offered("tabard delete pod shop/") == ["shop/web-0"]
    assert offered("tabard scale ") == ["deployment/web"]
    assert offered("tabard get pods -n ") == ["shop"]
    assert offered("tabard get p") == ["pods", "policies"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("pod ", ["shop/web-0"]),
        ("-n shop pod ", ["web-0"]),
        ("pod -n other ", []),
        ("policies shop/", ["shop/web"]),
        ("workload ", ["shop/web"]),
        ("node ", ["n1", "n2"]),
        ("id 2", ["256"]),
        ("binding ", ["10.244.1.2"]),
        ("stream ST", ["STATUS"]),
        ("nonsense ", []),
    ],
)
def test_describe_offers_the_names_of_its_kind(
    offered: Offered, line: str, names: list[str]
) -> None:
    assert offered(f"tabard describe {line}") == names


def test_explain_offers_the_commands_word_by_word(offered: Offered) -> None:
    assert offered("tabard explain po") == ["policy"]
    assert {"check", "matrix"} <= set(offered("tabard explain policy "))


def test_clusters_nodes_and_services_are_those_of_this_machine(offered: Offered) -> None:
    assert offered("tabard status --cluster ") == []
    assert offered("tabard metrics ") == []
    http = {"allocator": "http://127.0.0.1:1", "agent.n1": "http://127.0.0.1:2"}
    for name in ("a", "b"):
        found = replace(running(name), netns="", http=http if name == "b" else {})
        profile.claim(found, profile.run_directory())
    assert offered("tabard status --cluster ") == ["a", "b"]
    assert offered("tabard drift --cluster a --node n") == ["n1", "n2"]
    # Two run: which is meant must be typed before.
    assert offered("tabard metrics ") == []
    assert offered("tabard metrics --cluster b agent") == ["agent.n1"]


def test_a_bus_that_is_not_there_offers_nothing_and_says_nothing(
    offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("TABARD_RUN_DIR", "/does/not/exist")
    monkeypatch.setenv("TABARD_NATS", "nats://127.0.0.1:1")
    monkeypatch.setattr(completion, "COMPLETE_S_MAX", 0.2)
    assert offered("tabard label pod ") == []
    monkeypatch.delenv("TABARD_NATS")
    assert offered("tabard label pod ") == []


def test_a_bus_that_does_not_answer_is_waited_for_no_longer_than_the_bound(
    offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def connected(urls: tuple[str, ...], timeout_s: float) -> Any:
        await asyncio.Event().wait()
        yield None

    monkeypatch.setattr("tabard.cli.reach.connected", connected)
    monkeypatch.setattr(completion, "COMPLETE_S_MAX", 0.05)
    assert offered("tabard label pod ") == []


def shell(*words: str, **environment: str) -> str:
    """What a command prints; `tabard` is this environment's."""
    done = subprocess.run(
        list(words),
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("TABARD_")},
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


needs_command = pytest.mark.skipif(
    not (Path(SCRIPTS) / "tabard").exists(), reason="the command is not installed"
)


@needs_command
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_real_bash_completes_what_show_completion_prints(tmp_path: Path) -> None:
    script = """
        source <(tabard --show-completion)
        complete -p tabard
        COMP_WORDS=(tabard get po) COMP_CWORD=2
        _tabard_completion tabard
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    registered, *replies = shell("bash", "-c", script, TABARD_RUN_DIR=str(tmp_path)).splitlines()
    assert registered == "complete -o default -F _tabard_completion tabard"
    assert replies == ["pods", "policies"]


@needs_command
@pytest.mark.parametrize(
    ("name", "registers", "action"),
    [
        ("bash", "complete -o default -F _tabard_completion tabard", {}),
        ("zsh", "compdef _tabard_completion tabard", {}),
        ("fish", "complete --command tabard", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_each_shell_gets_its_script_and_its_answers(
    tmp_path: Path, name: str, registers: str, action: dict[str, str]
) -> None:
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert registers in shell("tabard", "--show-completion", name, **named)
    told = {"COMP_WORDS": "tabard get po", "COMP_CWORD": "2"}
    told |= {"_TYPER_COMPLETE_ARGS": "tabard get po", "_TABARD_COMPLETE": f"complete_{name}"}
    answer = shell("tabard", TABARD_RUN_DIR=str(tmp_path), **told, **action)
    assert "pods" in answer
    assert "policies" in answer
    assert "nodes" not in answer
