"""What to type next, for the same cluster that this command was told to speak to."""

import shlex
from contextvars import ContextVar

_options: ContextVar[str] = ContextVar("options", default="")
_OWN_CLUSTER = ("up", "demo")
"""Commands that speak to no running cluster."""


def forget() -> None:
    """Begin a command: nothing is chosen yet."""
    _options.set("")


def keep(option: str, value: str) -> None:
    """This command was given `option`, which chooses a cluster."""
    _options.set(f"{_options.get()} {option} {shlex.quote(value)}")


def following(command: str) -> str:
    """`command` with the options by which this one chose its cluster, unless it names its own."""
    program, _, rest = command.partition(" ")
    if program != "tabard" or "--cluster" in rest or rest.split(" ")[0] in _OWN_CLUSTER:
        return command
    return command + _options.get()
