import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from command import Tabard
from tabard.cli.failing import Exit
from tabard.cluster.settings import AGENT_SETTINGS, ALLOCATOR_SETTINGS, SERVICE_SETTINGS


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
        ["delete", "service", "n1"],
        ["delete", "pod", "shop/web-0", "-f", "x"],
        ["scale", "frontend", "--replicas", "2"],
        ["scale", "deployment/frontend", "--replicas", "-1"],
        ["label", "node", "n1", "a=b"],
        ["label", "pod", "web-0", "a=b"],
        ["label", "pod", "shop/web-0", "a b"],
        ["label", "pod", "shop/web-0", "a=b,c"],
        ["get", "nodes", "-n", "shop"],
        ["scale", "daemonset/dns", "--replicas", "2"],
        ["scale", "service/dns", "--replicas", "2"],
        ["events", "show", "0"],
        ["events", "quarantine", "7", "--stream", "LEDGER"],
        ["events", "quarantine", "7", "--stream", "LEDGER", "--reason", " "],
        ["up", "--nodes", "0"],
        ["up", "--replicas", "2", "--nats", "nats://x"],
        ["up", "--replicas", "3"],
        ["up", "--bus-servers", "2"],
        ["up", "--bus-servers", "3", "--nats", "nats://x"],
        ["up", "--name", "No Name"],
        ["policy", "check", "--from", "shop/web"],
        ["policy", "check", "--from", "web", "--to", "shop/web"],
        ["policy", "check", "--from", "shop/web", "--to", "shop/web", "--port", "80/GRE"],
        ["policy", "check", "--from", "a/b", "--to", "a/b", "-f", "x", "--at", "7"],
        ["policy", "matrix", "-f", "x", "--at", "7"],
        ["policy", "matrix", "--outside", "web"],
        ["policy", "matrix", "--by", "node"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_usage_error_exits_with_two(tabard: Tabard, words: list[str]) -> None:
    assert tabard(*words).exit_code == 2


@pytest.mark.parametrize("group", ["", "auth", "bus", "events", "ledger", "policy", "snapshots"])
def test_help_of_all_commands_has_an_example_and_cuts_no_line(tabard: Tabard, group: str) -> None:
    result = tabard(*filter(None, [group]), "--help")
    assert result.output.count("Example: tabard") == 1
    assert "..." not in result.output.partition("Commands:")[2]


def test_help_of_up_names_every_setting(tabard: Tabard) -> None:
    told = set(re.findall(r"[A-Z_]+", tabard("up", "--help").output))
    assert {*SERVICE_SETTINGS, *ALLOCATOR_SETTINGS, *AGENT_SETTINGS} <= told


def test_help_says_what_exit_codes_mean(tabard: Tabard) -> None:
    for code in Exit:
        assert f" {code.value} " in tabard("--help").output.partition("Exit codes:")[2]


def test_the_version_is_the_installed_one(tabard: Tabard) -> None:
    result = tabard("--version")
    assert (result.exit_code, result.output) == (0, f"tabard {version('tabard')}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["up", "--nodes", "abc"], "'--nodes': 'abc' is no whole number"),
        (["wait", "--timeout", "soon"], "'--timeout': 'soon' is no number"),
        (
            ["get", "pods", "-o", "xml"],
            "'--output': 'xml' is not one of 'table', 'wide', 'json', 'yaml', 'name'",
        ),
        (["get", "services"], "there is no kind 'services'; there are pods (pod, po)"),
        (["label", "pod", "shop/web-0", "role=a,b"], "'role=a,b': a value has up to 63 letters"),
        (["scale", "daemonset/dns", "--replicas", "2"], "a DaemonSet has one pod per node"),
    ],
    ids=" ".join,
)
def test_a_wrong_value_is_told_in_words_of_its_user(
    tabard: Tabard, words: list[str], told: str
) -> None:
    result = tabard(*words)
    assert told in result.stderr
    assert "Value error" not in result.stderr


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
