"""Programs on interfaces: pinned tcx links, made, moved to new programs, and found again."""

import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from tabard.agent.ebpf import syscalls
from tabard.dataplane.port import DataplaneError, LinkGone

_SIOCGIFHWADDR = 0x8927

HOOKS = {
    "from_pod": syscalls.TCX_INGRESS,
    "to_pod": syscalls.TCX_EGRESS,
    "from_overlay": syscalls.TCX_INGRESS,
    "from_wire": syscalls.TCX_INGRESS,
    "to_wire": syscalls.TCX_EGRESS,
    "from_proxy": syscalls.TCX_INGRESS,
}
"""Program → hook, seen from the interface in the node's namespace."""


def interface_index(name: str) -> int:
    """In the calling thread's network namespace; LinkGone if there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise LinkGone(f"interface {name!r} does not exist") from error


def interface_mac(name: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            answer = fcntl.ioctl(asker, _SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
        except OSError as error:
            raise LinkGone(f"interface {name!r} does not exist") from error
    return answer[18:24]


def attach(directory: Path, name: str, program: int, ifindex: int) -> None:
    """See that the program runs at its hook of the interface, and only there, pinned.

    A link to an interface that was deleted stays behind as a pin that does nothing: it is replaced.
    LinkGone if the interface does not exist.
    """
    path = directory / name
    if link_ifindex(path) == ifindex:
        move(path, program)
        return
    path.unlink(missing_ok=True)
    try:
        with syscalls.closing(syscalls.link_create(program, ifindex, HOOKS[name])) as link:
            syscalls.pin(link, str(path))
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise LinkGone(f"interface {ifindex} does not exist any more") from error
        raise DataplaneError(f"{path} cannot be attached to {ifindex}: {error}") from error


def link_ifindex(path: Path) -> int:
    """The interface that the pinned link is on; 0 if it, or the pin, is gone."""
    try:
        with syscalls.closing(syscalls.get(str(path))) as link:
            return syscalls.link_info(link).ifindex
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise DataplaneError(f"link {path} cannot be read: {error}") from error


def move(path: Path, program: int) -> None:
    """Put the program in the pinned link, if it is another; no packet meets neither or both."""
    try:
        with syscalls.closing(syscalls.get(str(path))) as link:
            if syscalls.link_info(link).program != syscalls.program_id(program):
                syscalls.link_update(link, program)
    except OSError as error:
        if error.errno == errno.ENOLINK:  # the device has just gone, and its packets with it
            return
        raise DataplaneError(f"link {path} cannot be moved: {error}") from error


def links_in(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in sorted(os.listdir(directory)) if name in HOOKS]
    except FileNotFoundError:
        return []
