"""Making, entering, listing and deleting network namespaces, by name (as iproute2 keeps them).

A namespace belongs to a thread: whoever must come back works on a thread that is thrown away
(`call`), and only a thread that stays there for good uses `enter`. Nothing here forks, so a process
with threads may use it. Needs CAP_SYS_ADMIN; system call errors come out as NamespaceError.
"""

import ctypes
import fcntl
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

RUN_DIR = "/run/netns"
"""Where iproute2 binds named namespaces (its NETNS_RUN_DIR)."""

# linux/sched.h and linux/mount.h
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_MNT_DETACH = 2

# CPython 3.11 has no os.setns.
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """A namespace could not be made, entered or deleted; says which, and what the kernel said."""


class NamespaceAbsent(NamespaceError):
    """There is no namespace of that name."""


def path(name: str) -> str:
    """The file that stands for the namespace `name`."""
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is no namespace name")
    return f"{RUN_DIR}/{name}"


def exists(name: str) -> bool:
    return os.path.exists(path(name))


def names(prefix: str = "") -> list[str]:
    """The namespaces whose name begins with `prefix`, sorted."""
    try:
        return sorted(name for name in os.listdir(RUN_DIR) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def enter(name: str) -> None:
    """Move the calling thread into the namespace, for good."""
    descriptor = hold(name)
    try:
        enter_held(descriptor, name)
    finally:
        os.close(descriptor)


def hold(name: str) -> int:
    """A descriptor of the namespace, which stays while it is open, whatever becomes of its name."""
    try:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NamespaceAbsent(f"there is no network namespace {name!r}") from error
    except OSError as error:
        raise NamespaceError(f"network namespace {name!r} cannot be opened: {error}") from error
    # Its file comes first, and then the namespace that is mounted on it.
    if os.fstat(descriptor).st_dev == os.stat(RUN_DIR).st_dev:
        os.close(descriptor)
        raise NamespaceAbsent(f"network namespace {name!r} is not there yet, only its name is")
    return descriptor


def enter_held(descriptor: int, name: str) -> None:
    """Move the calling thread into a namespace that is held; it was called `name`."""
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise _failed(f"network namespace {name!r} cannot be entered")


def call(name: str, function: Callable[[], T]) -> T:
    """`function()` inside the namespace, on a thread of its own that ends with it; blocks.

    What it opens (sockets) stays in the namespace wherever it is used later.
    """

    def inside() -> T:
        enter(name)
        return function()

    return on_own_thread(inside)


def create(name: str, inside: Callable[[], T]) -> T:
    """Make the namespace and return `inside()`, called within it; blocks.

    NamespaceError if the name is taken. If `inside` raises, the namespace is deleted again.
    """

    def make() -> T:
        _prepare_run_dir()
        try:
            os.close(os.open(path(name), os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
        except FileExistsError as error:
            raise NamespaceError(f"network namespace {name!r} exists already") from error
        try:
            if _libc.unshare(_CLONE_NEWNET) != 0:
                raise _failed(f"network namespace {name!r} cannot be made")
            _mount("/proc/thread-self/ns/net", path(name), _MS_BIND)
            return inside()
        except BaseException:
            delete(name)
            raise

    return on_own_thread(make)


def delete(name: str) -> None:
    """Delete the name; the kernel frees the rest once nothing has it open. Absent is no error."""
    where = path(name)
    _libc.umount2(where.encode(), _MNT_DETACH)  # not mounted: a half-made one, only a file
    try:
        os.unlink(where)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NamespaceError(f"network namespace {name!r} cannot be deleted: {error}") from error


def on_own_thread(function: Callable[[], T]) -> T:
    """`function()` on a thread that ends with it; blocks, and raises what it raised."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _prepare_run_dir() -> None:
    """As iproute2: a shared mount, so that namespaces show in every mount namespace."""
    os.makedirs(RUN_DIR, mode=0o755, exist_ok=True)
    directory = os.open(RUN_DIR, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # One process at a time: a second mount over the first would double all that is in it.
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not _is_mount_point(RUN_DIR):
            _mount(RUN_DIR, RUN_DIR, _MS_BIND | _MS_REC)
            _mount("", RUN_DIR, _MS_SHARED | _MS_REC)
    finally:
        os.close(directory)


def _is_mount_point(directory: str) -> bool:
    # os.path.ismount does not see that a directory is bound to itself.
    with open("/proc/thread-self/mountinfo") as mounts:
        return any(line.split(" ", 5)[4] == directory for line in mounts)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), b"none", flags, None) != 0:
        raise _failed(f"{source or target} cannot be mounted on {target}")


def _failed(what: str) -> NamespaceError:
    number = ctypes.get_errno()
    hint = "; run as root" if number == 1 else ""
    return NamespaceError(f"{what}: {os.strerror(number)}{hint}")
