"""Whose a node is on this machine: a lock that dies with its process, and who holds it."""

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tabard.agent.errors import AgentError, AlreadyRunning
from tabard.events.status import Holder
from tabard.process.places import own

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def held(directory: Path, node: str, data: Path, since: int) -> Iterator[Holder]:
    """Hold `node` in `directory`, the same for all agents of a cluster on this machine, and the
    directory `data`. AlreadyRunning if another process has either.

    The node's lock stays as a file: to remove one that somebody waits for would make two of it.
    """
    boot = BOOT_ID.read_text().strip()
    host, pid, token = socket.gethostname(), os.getpid(), uuid.uuid4().bytes
    try:
        path = own(directory) / node
    except OSError as error:
        raise AgentError(
            f"{directory} cannot hold the locks of nodes: {error}; set TABARD_RUN_DIR to a "
            "directory of this user's that every agent of this machine uses"
        ) from error
    with _locked(path) as lock:
        if isinstance(lock, str):
            raise AlreadyRunning(
                f"node {node} is held by another agent on this machine: {lock}; stop that one, or "
                "give this one a node of its own (TABARD_NODE)"
            )
        found = os.fstat(lock)
        name = f"{found.st_dev:x}:{found.st_ino}"
        me = Holder(host, boot, pid, since, str(data), name, token)
        _write(lock, me)
        with _locked(data / "agent.lock") as other:
            if isinstance(other, str):
                raise AlreadyRunning(
                    f"the data directory {data} is held by another agent: {other}; stop that one, "
                    "or use another directory (TABARD_DATA)"
                )
            _write(other, me)
            yield me


def described(holder: Holder) -> dict[str, str | int]:
    """What people and other agents are told of a holder."""
    since = datetime.fromtimestamp(holder.since // 1_000_000_000, UTC)
    return {
        "host": holder.host,
        "pid": holder.pid,
        "since": since.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "data": holder.data,
    }


def told(holder: Holder) -> str:
    """The same as a line."""
    return _line(described(holder))


def _line(said: dict[str, str | int]) -> str:
    return (
        f"process {said['pid']} on {said['host']}, since {said['since']}, with the data directory "
        f"{said['data']}"
    )


@contextmanager
def _locked(path: Path) -> Iterator[int | str]:
    """The descriptor of `path`, locked; or, if another process has it, what it left there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield _read(descriptor)
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(described(holder)).encode(), 0)


def _read(descriptor: int) -> str:
    try:
        return _line(json.loads(os.pread(descriptor, 1 << 16, 0)))
    except (ValueError, KeyError, TypeError):
        return "a process that has only just started"
