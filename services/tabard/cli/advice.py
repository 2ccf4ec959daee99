"""What to type next, for the same cluster and point of its history that this command was given."""

import shlex
from contextvars import ContextVar

_options: ContextVar[str] = ContextVar("options", default="")
_moment: ContextVar[str] = ContextVar("moment", default="")
_first: ContextVar[str] = ContextVar("first", default="")
_OF_A_MOMENT = ("get", "describe")
"""Commands that look for what another did not find."""
_OWN_CLUSTER = ("up", "demo")
"""Commands that speak to no running cluster."""


def forget() -> None:
    """Begin a command: nothing is chosen yet."""
    _options.set("")
    _moment.set("")
    _first.set("")


def keep(option: str, value: str) -> None:
    """This command was given `option`, which chooses a cluster."""
    _options.set(f"{_options.get()} {option} {shlex.quote(value)}")


def keep_first(option: str, value: str) -> None:
    """This command was given `option`, which stands before its name."""
    _first.set(f"{_first.get()} {option} {shlex.quote(value)}")


def keep_moment(text: str) -> None:
    """This command was given `--at text`."""
    _moment.set(f" --at {shlex.quote(text)}")


def following(command: str) -> str:
    """`command` with the options by which this one chose its cluster, unless it names its own, and
    with its --at, if it looks for what was not found then."""
    program, _, rest = command.partition(" ")
    name = rest.split(" ")[0]
    if program != "tabard" or "--cluster" in rest or name in _OWN_CLUSTER:
        return command
    then = _moment.get() if name in _OF_A_MOMENT and "--at" not in rest else ""
    return program + _first.get() + command[len(program) :] + then + _options.get()
