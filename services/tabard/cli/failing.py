"""Errors for people: what failed, the observed fact, the next command to type; and exit codes."""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import structlog
import typer

from tabard.bus.port import BusError, Denied, SequenceGap, StreamMismatch
from tabard.cli.advice import following
from tabard.cli.printing import tell
from tabard.cluster.errors import ClusterError, NotReached
from tabard.ledger.reader import Stopped
from tabard.ledger.start import TrimmedAway
from tabard.manifests.errors import ManifestError
from tabard.netns.enter import NamespaceError
from tabard.process.failures import leaves

T = TypeVar("T")


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    TIMEOUT = 3
    DENIED = 4
    """The question was answered, and the answer is no."""
    INTERRUPTED = 130
    """128 and SIGINT, as shells have it."""


class Failure(ClusterError):
    """A command's own error, with its exit code."""

    def __init__(self, message: str, next: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message, next)
        self.code = code


class Unfinished(Failure):
    """What the command was to do is under way, and goes on without it; `title` says how far."""

    def __init__(self, title: str, error: NotReached) -> None:
        super().__init__(str(error), error.next, Exit.TIMEOUT)
        self.title = title


class Interrupted(ClusterError):
    """Someone ended the command before it was done."""


def run(
    what: str,
    work: Coroutine[Any, Any, T],
    around: AbstractContextManager[object] | None = None,
    log_level: str = "error",
) -> T:
    """Run a command's work on an event loop; a known error becomes a message and an exit code.

    `what` is what the command was to do, as it stands after "cannot": "read the ledger". The event
    loop runs inside `around`.
    """
    _log_to_stderr(log_level)
    try:
        with around or nullcontext():
            return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BaseExceptionGroup as group:
        # A task group wraps what its tasks raised; the first known error is what happened.
        if isinstance(first := next(leaves(group)), BrokenPipeError):
            raise first from None  # nobody reads on: the command's frame ends it quietly
        known, _ = group.split(_KNOWN)
        if known is None:
            raise
        fail(what, next(leaves(known)))
    except _KNOWN as error:
        fail(what, error)
    finally:
        work.close()


def fail(what: str, error: BaseException) -> NoReturn:
    """Tell the error in its three parts and exit with its code."""
    fact, next_command = str(error), ""
    code = Exit.FAILED
    match error:
        case Failure():
            next_command, code = error.next, error.code
        case NotReached():
            next_command, code = error.next, Exit.TIMEOUT
        case Interrupted():
            next_command, code = error.next, Exit.INTERRUPTED
        case ClusterError():
            next_command = error.next
        case Stopped():
            fact = f"LEDGER/{error.sequence} cannot be taken: {error.reason}"
            next_command = f"tabard events show {error.sequence}"
        case TrimmedAway():
            next_command = "tabard snapshots list"
        case Denied():
            next_command = "tabard auth roles -o wide"
        case SequenceGap():
            next_command = "tabard bus check"
        case StreamMismatch():
            next_command = "tabard up --nats with another server, or mend the stream"
        case ManifestError():
            next_command = "mend the manifest and type the command again"
        case BusError():
            next_command = "tabard doctor"
        case _:
            next_command = "tabard status"
    match error:
        case Unfinished():
            title = error.title
        case Interrupted():
            title = "interrupted"
        case _:
            title = f"cannot {what}"
    tell(f"tabard: {title}")
    tell(f"  {fact}")
    if next_command:
        tell(f"  next: {following(next_command)}")
    raise typer.Exit(code)


_KNOWN = (ClusterError, BusError, Stopped, ManifestError, NamespaceError)


def _log_to_stderr(level: str) -> None:
    """Logs are not output: those from `level` upwards go to stderr, and the rest nowhere."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
