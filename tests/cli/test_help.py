"""Every command's help has one example, and the example is one that its command takes."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from command import Tabard
from tabard.cli.app import app


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with its words, `tabard` itself being ()."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))


ROOT = typer.main.get_command(app)
EVERY = list(walk(ROOT))


def called(path: tuple[str, ...]) -> str:
    return " ".join(path) or "tabard"


def examples(command: Any) -> list[str]:
    lines = (line.strip() for line in (command.help or "").splitlines())
    return [line.removeprefix("Example: ") for line in lines if line.startswith("Example:")]


def test_all_commands_are_walked() -> None:
    assert {called(path) for path, _ in EVERY} >= {"tabard", "up", "get", "events", "events tail"}


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[called(path) for path, _ in EVERY])
def test_help_has_exactly_one_example(tabard: Tabard, path: tuple[str, ...], command: Any) -> None:
    result = tabard(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout.count("Example:") == 1
    (example,) = examples(command)
    assert example in " ".join(result.stdout.split())


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[called(path) for path, _ in EVERY])
def test_the_example_is_of_that_command_and_parses(path: tuple[str, ...], command: Any) -> None:
    (example,) = examples(command)
    program, *words = shlex.split(example)
    assert program == "tabard"
    assert tuple(words[: len(path)]) == path
    taking, context = ROOT, None
    while hasattr(taking, "commands"):
        context = taking.make_context("tabard", words[:1], parent=context, resilient_parsing=True)
        taking, words = taking.commands[words[0]], words[1:]
    # Raises for an option that is not there, a value that is none, an argument too many or few.
    taking.make_context(taking.name, list(words), parent=context)


def test_an_example_with_an_option_that_is_not_there_would_be_found() -> None:
    wait = dict(EVERY)["wait",]
    with pytest.raises(Exception, match="No such option"):
        wait.make_context("wait", ["--time-out", "10"])
