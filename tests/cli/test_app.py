import subprocess
import sys

import pytest

from command import Tabard

COMMANDS = [
    ["up"],
    ["down"],
    ["apply"],
    ["delete"],
    ["scale"],
    ["label"],
    ["get"],
    ["status"],
    ["wait"],
    ["drift"],
    ["events", "tail"],
    ["events", "show"],
    ["events", "quarantine"],
    ["events", "verify"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_one_example(tabard: Tabard, command: list[str]) -> None:
    result = tabard(*command, "--help")
    assert result.exit_code == 0
    assert result.output.count("Example: tabard " + " ".join(command)) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["get", "services"],
        ["get", "pods", "-o", "xml"],
        ["get", "pods", "-n", "shop", "-A"],
        ["get", "pods", "-l", "app=web,"],
        ["apply"],
        ["apply", "-f", "x", "--wait", "--no-wait"],
        ["delete"],
        ["delete", "pod"],
        ["delete", "pod", "web-0"],
        ["delete", "node", "n1"],
        ["delete", "pod", "shop/web-0", "-f", "x"],
        ["scale", "frontend", "--replicas", "2"],
        ["scale", "deployment/frontend", "--replicas", "-1"],
        ["label", "node", "n1", "a=b"],
        ["label", "pod", "web-0", "a=b"],
        ["label", "pod", "shop/web-0", "a b"],
        ["events", "show", "0"],
        ["events", "quarantine", "7", "--stream", "LEDGER"],
        ["events", "quarantine", "7", "--stream", "LEDGER", "--reason", " "],
        ["up", "--nodes", "0"],
        ["up", "--replicas", "2", "--nats", "nats://x"],
        ["up", "--replicas", "3"],
        ["up", "--name", "No Name"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_usage_error_exits_with_two(tabard: Tabard, words: list[str]) -> None:
    assert tabard(*words).exit_code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tabard', '--help']\n"
        "from tabard.cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('nats', 'pyroute2', 'pydantic', 'structlog', 'msgpack', 'yaml')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
