"""Processes that are kept running: started in their namespace, logged, restarted, surely ended."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from tabard.bus.port import BusError
from tabard.cluster import pids
from tabard.cluster.errors import ClusterError
from tabard.process.privileges import keeping

log = structlog.get_logger(__name__)

STEADY_S = 10.0
"""A process that lived this long is not failing: its next restart waits the shortest time."""
HOLD_POLL_S = 0.1
"""How often it is looked whether a process that is held down may start again."""
LOG_TAIL_LINES = 15
"""Last lines of a log that an error shows."""
LOG_BYTES_MAX = 10 << 20
"""A log larger than this is begun anew at its process's next start; the one before is kept."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


class Process(Protocol):
    """What can be started again and again; `tabard.bus.server.EmbeddedServer` is one."""

    @property
    def pid(self) -> int:
        """0 if it does not run."""
        ...

    async def start(self) -> None: ...

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        ...

    async def stop(self) -> None:
        """End it if it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. `netns` is the path of a network namespace, or empty for this one;
    `descriptors` are those that the process inherits, under the same numbers, and `capabilities`
    all that it has (`tabard.process.privileges`)."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    netns: str = ""
    descriptors: tuple[int, ...] = ()
    capabilities: frozenset[str] = frozenset()


class Launched:
    """A process of `program`, in a group of its own, with its output appended to `log`, or to a new
    one if that has grown large: then `<log>.1` is the old one.

    It gets SIGTERM if the supervisor dies. It is to be started from a thread that lives as long:
    the parent-death signal hangs on the thread.
    """

    def __init__(self, program: Program, log: Path, stop_timeout_s: float) -> None:
        self.environment: Mapping[str, str] = {}
        """Of later starts, beside the program's own."""
        self._program = program
        self._log = log
        self._stop_timeout_s = stop_timeout_s
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    async def start(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.replace(f"{self._log}.1")
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.arguments,
                env={**self._program.environment, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self._program.descriptors,
                preexec_fn=_prepare(self._program),
            )

    async def wait(self) -> int:
        assert self._process is not None, "the process was not started"
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the time-out, to the whole group."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        # One that SIGSTOP holds takes its SIGTERM only when it goes on.
        _signal_group(process.pid, signal.SIGCONT)
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await process.wait()
        except TimeoutError:
            log.warning("cluster.process_killed", pid=process.pid, log=str(self._log))
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()


@dataclass(frozen=True, slots=True)
class Restarts:
    """Waits before restarts: the first, and the bound to which it doubles with exits in a row."""

    delay_ms: int
    delay_ms_max: int

    def delay_s(self, exits_in_a_row: int) -> float:
        doubled = self.delay_ms << min(exits_in_a_row - 1, 30)
        return min(doubled, self.delay_ms_max) / 1000


class Child:
    """Keeps one process running. `begin` starts it, `run` is the task that minds it from then on.

    `note` is the file that names the process to a later sweep, `log` the one that errors quote;
    while `hold` names a process that lives, this one is not started again (`holds`).
    """

    def __init__(
        self,
        name: str,
        process: Process,
        note: Path,
        log: Path,
        restarts: Restarts,
        hold: Path | None = None,
    ) -> None:
        self.name = name
        self.exits = 0
        """Exits that nobody asked for, since the beginning."""
        self.log = log
        self._process = process
        self._note = note
        self._restarts = restarts
        self._hold = hold
        self._stopping = False
        self._held = False
        self._asked = False
        self._go = asyncio.Event()

    @property
    def pid(self) -> int:
        """0 while it is down."""
        return self._process.pid

    async def begin(self) -> None:
        await self._process.start()
        with contextlib.suppress(ProcessLookupError):  # it may have ended already
            pids.record(self._note, self._process.pid)

    async def run(self) -> None:
        """Start the process again whenever it ends, until `stop`."""
        in_a_row = 0
        while True:
            begun = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            self._note.unlink(missing_ok=True)
            delay: float | None = 0.0
            if await self._held_by_another():
                pass
            elif self._held:
                delay = None
            elif not self._asked:
                self.exits += 1
                in_a_row = 1 if time.monotonic() - begun > STEADY_S else in_a_row + 1
                delay = self._restarts.delay_s(in_a_row)
                self._tell(f"exit code {code}", in_a_row)
            self._asked = False
            while not await self._begin_again(delay):
                if self._stopping:
                    return
                self.exits += 1
                in_a_row += 1
                delay = self._restarts.delay_s(in_a_row)

    async def _held_by_another(self) -> bool:
        """Wait while another process holds this one down; whether one did."""
        held = False
        while self._hold is not None and pids.noted(self._hold) and not self._stopping:
            held = True
            await asyncio.sleep(HOLD_POLL_S)
        return held

    async def _begin_again(self, delay_s: float | None) -> bool:
        """Start after `delay_s`, None being whenever `restart` says; whether it runs."""
        if not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._go.wait()
            self._go.clear()
        if self._stopping:
            return False
        try:
            await self.begin()
        except (OSError, BusError) as error:
            self._tell(f"not started: {error}", 0)
            return False
        if self._stopping:  # asked for while it was starting
            await self._process.stop()
        return not self._stopping

    def _tell(self, what: str, in_a_row: int) -> None:
        log.warning(
            "cluster.process_down",
            process=self.name,
            what=what,
            in_a_row=in_a_row,
            log=str(self.log),
        )

    def kill(self, number: signal.Signals, *, hold: bool = False) -> None:
        """Signal the process's group; with `hold` it stays down until `restart`."""
        self._held = hold
        if self.pid:
            _signal_group(self.pid, number)

    async def restart(self) -> None:
        """End the process if it runs, and start it again without delay."""
        self._asked = self._held = True
        await self._process.stop()
        self._held = False
        self._go.set()

    async def stop(self) -> None:
        """End the process for good."""
        self._stopping = True
        self._go.set()
        await self._process.stop()
        self._note.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The end of the log, for an error message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _prepare(program: Program) -> Callable[[], None]:
    """What the new process does before its program: enter its namespace, see that it dies with its
    parent, and give up what it does not need."""
    parent, netns = os.getpid(), program.netns
    give_up = keeping(program.capabilities)

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
        if netns:
            descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {netns}")
        give_up()

    return prepare


def end_all(found: Mapping[str, int], stop_timeout_s: float) -> None:
    """End recorded processes of a supervisor that is gone, with their groups. Blocks."""
    left = dict(found)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left.values():
            _signal_group(pid, number)
            _signal_group(pid, signal.SIGCONT)
        deadline = time.monotonic() + stop_timeout_s
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = {name: pid for name, pid in left.items() if pids.runs(pid)}
        if not left:
            return
    raise ClusterError(
        f"processes do not end: {', '.join(f'{name} ({pid})' for name, pid in left.items())}"
    )
