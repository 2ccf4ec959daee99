"""The VXLAN device of a node's overlay: one for all peers, its packets addressed by the programs.

Calls work in the calling thread's network namespace. They speak route netlink themselves: a
library for it is 9 MiB in an agent that runs for months, for four messages at its start.
"""

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass

from tabard.dataplane.port import DataplaneError

ANSWER_TIMEOUT_S = 5.0

_KIND = b"vxlan"

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if.h
_MESSAGE = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _NEWLINK, _DELLINK, _GETLINK = 2, 16, 17, 18
_REQUEST, _ACK, _EXCL, _CREATE = 1, 4, 0x200, 0x400
_TYPE_MASK = 0x3FFF
_IFNAME, _LINKINFO, _INFO_KIND, _INFO_DATA = 3, 18, 1, 2
_VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_COLLECT_METADATA = 7, 15, 25
_UP = 1


@dataclass(frozen=True, slots=True)
class _Device:
    index: int
    is_vxlan: bool
    port: bytes
    is_external: bool


def ensure(name: str, port: int) -> int:
    """The device's ifindex; made if absent, still down (see `raise_up`).

    `external`: identity and remote node come with each packet. A VXLAN device of that name with
    another port is from other settings and is made anew; anything else is not Tabard's to touch.
    """
    try:
        if (device := _find(name)) is not None:
            if not device.is_vxlan:
                raise DataplaneError(
                    f"interface {name!r} exists and is no VXLAN device; "
                    "rename it, or set another overlay_device"
                )
            if device.port == port.to_bytes(2) and device.is_external:
                return device.index
            _ask(_DELLINK, _ACK, device.index)
        data = _attribute(_VXLAN_COLLECT_METADATA, b"\1") + _attribute(_VXLAN_LEARNING, b"\0")
        data += _attribute(_VXLAN_PORT, port.to_bytes(2))
        info = _attribute(_INFO_KIND, _KIND) + _attribute(_INFO_DATA, data)
        _ask(_NEWLINK, _ACK | _EXCL | _CREATE, 0, _name(name) + _attribute(_LINKINFO, info))
        device = _find(name)
    except OSError as error:
        raise DataplaneError(
            f"VXLAN device {name!r} (UDP port {port}) cannot be made: {error}"
        ) from error
    if device is None:
        raise DataplaneError(f"VXLAN device {name!r} was made and is gone; start the agent again")
    return device.index


def raise_up(ifindex: int) -> None:
    """To be called when its program is attached: before, packets would reach the host's stack."""
    try:
        _ask(_NEWLINK, _ACK, ifindex, flags_set=_UP)
    except OSError as error:
        raise DataplaneError(f"VXLAN device {ifindex} cannot be set up: {error}") from error


def remove(name: str) -> None:
    """Absent is no error, and another kind of device of that name is left alone."""
    try:
        device = _find(name)
        if device is not None and device.is_vxlan:
            _ask(_DELLINK, _ACK, device.index)
    except OSError as error:
        raise DataplaneError(f"VXLAN device {name!r} cannot be removed: {error}") from error


def _find(name: str) -> _Device | None:
    try:
        link = _ask(_GETLINK, 0, 0, _name(name))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, _, _, index, _, _ = _LINK.unpack_from(link)
    info = _attributes(_attributes(link[_LINK.size :]).get(_LINKINFO, b""))
    data = _attributes(info.get(_INFO_DATA, b""))
    return _Device(
        index,
        info.get(_INFO_KIND, b"").rstrip(b"\0") == _KIND,
        data.get(_VXLAN_PORT, b""),
        any(data.get(_VXLAN_COLLECT_METADATA, b"")),
    )


def _ask(
    kind: int, flags: int, index: int, attributes: bytes = b"", *, flags_set: int = 0
) -> bytes:
    """The body of the kernel's answer to one request about a link; OSError if it refuses."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, index, flags_set, flags_set) + attributes
    header = _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags | _REQUEST, 1, 0)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as channel:
        channel.settimeout(ANSWER_TIMEOUT_S)
        channel.send(header + body)
        answer = channel.recv(1 << 16)
    length, answered, _, _, _ = _MESSAGE.unpack_from(answer)
    found = answer[_MESSAGE.size : length]
    if answered == _ERROR and (number := -int.from_bytes(found[:4], sys.byteorder, signed=True)):
        raise OSError(number, os.strerror(number))
    return found


def _name(name: str) -> bytes:
    return _attribute(_IFNAME, name.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found
