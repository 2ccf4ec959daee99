"""Options that several commands take, and what is wrong with a value, told as its user sees it."""

import os
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tabard.cli import advice, completion
from tabard.cli.moments import At, MomentError, parse
from tabard.cli.printing import Output

if TYPE_CHECKING:
    from tabard.cli.change import Until


class StreamName(StrEnum):
    OBSERVED = "OBSERVED"
    LEDGER = "LEDGER"
    STATUS = "STATUS"
    FLOWS = "FLOWS"


class ModeName(StrEnum):
    OVERLAY = "overlay"
    NATIVE = "native"


class PodsName(StrEnum):
    NETNS = "netns"
    MEMORY = "memory"
    NONE = "none"


class DataplaneName(StrEnum):
    AUTO = "auto"
    EBPF = "ebpf"
    MEMORY = "memory"


class FiguresName(StrEnum):
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def _kept(option: str) -> Callable[[str], str]:
    """For what is suggested to be typed next, remember that `option` chose the cluster."""

    def keep(value: str) -> str:
        if value:
            advice.keep(option, value)
        return value

    return keep


Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Which of this machine's clusters.",
        autocompletion=completion.clusters,
        callback=_kept("--cluster"),
    ),
]
Nats = Annotated[
    str,
    typer.Option(
        "--nats",
        metavar="URL",
        help="Bus of a cluster that runs elsewhere; file:ARCHIVE for what was trimmed.",
        callback=_kept("--nats"),
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--filename", metavar="FILE|DIR", help="Manifests; - for stdin. Repeatable."
    ),
]


def _there(paths: list[str] | None) -> list[str] | None:
    """Paths of manifests, which must be there."""
    for path in paths or ():
        if path != "-" and not os.path.exists(path):
            usage(f"there is no file or directory {path}")
    return paths


Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE|DIR",
        show_default=False,
        help="Manifests; - for stdin.",
        callback=_there,
        autocompletion=completion.paths,
    ),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait", help="Return once it is published; else once the allocator has decided."
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Return once every live node enforces what the allocator has decided."
    ),
]
Timeout = Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Longest wait.")]
Namespace = Annotated[
    str,
    typer.Option(
        "-n",
        "--namespace",
        metavar="NS",
        help="Only this namespace.",
        autocompletion=completion.namespaces,
    ),
]
Form = Annotated[Output, typer.Option("-o", "--output", help="Form of the output.")]
Follow = Annotated[
    bool, typer.Option("-w", "--watch", help="Go on with what changes, until Ctrl-C or --timeout.")
]
WatchTimeout = Annotated[
    float | None, typer.Option(min=0.0, metavar="SECONDS", help="End -w after so long.")
]
NodeSelector = Annotated[
    str,
    typer.Option(
        "-l",
        "--selector",
        metavar="SELECTOR",
        help="Only these nodes, by their labels, kubernetes.io/hostname among them.",
    ),
]
Stream = Annotated[StreamName, typer.Option("--stream", case_sensitive=False, help="Which stream.")]


def moment(text: str) -> At:
    """A point of history, as an option gives it."""
    try:
        at = parse(text)
    except MomentError as error:
        usage(str(error))
    advice.keep_moment(text)
    return at


Moment = Annotated[
    At | None,
    typer.Option(
        "--at",
        parser=moment,
        metavar="SEQ|TIME|-5m",
        help="As of then: a LEDGER sequence, a time (UTC; with seconds or finer, through the end "
        "of what is written), or so long ago.",
    ),
]


def usage(message: str) -> NoReturn:
    raise typer.BadParameter(message)


def fault(name: str) -> str:
    """A fault that the simulator can plant, or none ("")."""
    if name:
        from difflib import get_close_matches

        from tabard.simulator.faults.catalogue import FAULTS

        if name not in FAULTS:
            close = get_close_matches(name, FAULTS, 1)
            meant = f", perhaps {close[0]!r}" if close else ""
            usage(f"there is no fault {name!r}{meant}; --list-faults shows all")
    return name


def until(no_wait: bool, wait: bool) -> "Until":
    from tabard.cli.change import Until

    if no_wait and wait:
        usage("--no-wait and --wait exclude each other")
    return Until.PUBLISHED if no_wait else Until.ENFORCED if wait else Until.TAKEN


def check_watch(watch: bool, timeout: float | None, past: bool) -> None:
    """-w is of the present, and a time-out is for nothing but -w."""
    if watch and past:
        usage("-w and --at exclude each other: the past does not change")
    if timeout is not None and not watch:
        usage("--timeout ends -w; without it leave --timeout out")


def place(name: str) -> None:
    """`name` must be namespace/name."""
    namespace, separator, pod = name.partition("/")
    if not (namespace and separator and pod) or "/" in pod:
        usage(f"{name!r} is not NS/NAME, such as shop/web-0")
