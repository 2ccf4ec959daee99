"""Route netlink requests in batches, through a socket that stays in the namespace it was opened in.

Messages are pyroute2's; sending them is done here, since one system call for a whole batch and a
socket that any thread may use are what pyroute2's own IPRoute does not offer. A batch that the
kernel has taken is carried out whole, even if the process is killed meanwhile.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

ANSWER_TIMEOUT_S = 5.0
MESSAGES_MAX = 128
"""Most messages in one batch: their acknowledgements fit into the socket's buffer."""

# linux/netlink.h, linux/rtnetlink.h, linux/if.h, linux/if_addr.h, linux/neighbour.h
_NLMSG_ERROR = 2
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE = 1, 4, 0x100, 0x200, 0x400
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 17, 18, 20, 24, 28
_SOL_NETLINK, _CAP_ACK = 270, 10
_UP, _RUNNING = 0x01, 0x40
_ADDRESS_NODAD = 0x02
_TABLE_MAIN, _PROTOCOL_BOOT, _TYPE_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_NEIGHBOUR_PERMANENT = 0x80
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BBHiII")


class NetlinkError(OSError):
    """The kernel refused a request; `errno` is its reason, the text says which request."""


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    up: bool
    """Administratively."""
    running: bool
    """It sends what it is given; until then the kernel drops it without a word."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message; `what` names it in errors."""

    what: str
    kind: int
    flags: int
    message: Any


class Channel:
    """Blocking requests in the namespace of the thread that makes it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, requests: Iterable[Request]) -> None:
        """Carry out all requests, in order. NetlinkError for the first one that was refused (those
        after it were tried all the same)."""
        batch = list(requests)
        assert len(batch) <= MESSAGES_MAX, "a batch is one pod's"
        first = self._sequence + 1
        self._socket.send(b"".join(self._packed(request, _ACK) for request in batch))
        refused: NetlinkError | None = None
        left = len(batch)
        while left:
            for kind, sequence, body in self._answers():
                if kind != _NLMSG_ERROR or sequence < first:
                    continue
                left -= 1
                number = -int.from_bytes(body[:4], "little", signed=True)
                if number and refused is None:
                    refused = _error(number, batch[sequence - first].what)
        if refused is not None:
            raise refused

    def link(self, name: str) -> Link | None:
        """The link of that name, if there is one."""
        request = Request(f"find {name}", _GETLINK, 0, _link(name))
        self._socket.send(self._packed(request, 0))
        while True:
            for kind, sequence, body in self._answers():
                if sequence != self._sequence:
                    continue
                if kind == _NEWLINK:
                    _, _, _, index, flags, _ = _LINK.unpack_from(body)
                    return Link(index, bool(flags & _UP), bool(flags & _RUNNING))
                number = -int.from_bytes(body[:4], "little", signed=True)
                if number == errno.ENODEV:
                    return None
                raise _error(number, request.what)

    def _packed(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        message = request.message
        message["header"]["type"] = request.kind
        message["header"]["flags"] = request.flags | _REQUEST | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        return bytes(message.data)

    def _answers(self) -> Iterable[tuple[int, int, bytes]]:
        """(type, sequence number, body) of each message in the next datagram."""
        data = self._socket.recv(1 << 16)
        while len(data) >= _HEADER.size:
            length, kind, _, sequence, _ = _HEADER.unpack_from(data)
            yield kind, sequence, data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def veth(name: str, mac: str, peer: str, peer_mac: str, peer_namespace: int, mtu: int) -> Request:
    """A pair: `name` here, `peer` in the namespace whose open file is `peer_namespace`."""
    other = ifinfmsg()
    other["attrs"] = [
        ("IFLA_IFNAME", peer),
        ("IFLA_ADDRESS", peer_mac),
        ("IFLA_MTU", mtu),
        ("IFLA_NET_NS_FD", peer_namespace),
    ]
    data = {"attrs": [("VETH_INFO_PEER", other)]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    message = _link(name)
    message["attrs"] += [("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu), ("IFLA_LINKINFO", info)]
    return Request(f"make {name}", _NEWLINK, _CREATE | _EXCL, message)


def up(name: str) -> Request:
    message = _link(name)
    message["flags"] = message["change"] = _UP
    return Request(f"set {name} up", _NEWLINK, 0, message)


def delete(name: str) -> Request:
    return Request(f"delete {name}", _DELLINK, 0, _link(name))


def address(index: int, ip: str) -> Request:
    """A host's address on the link; IPv6 without duplicate address detection."""
    message = ifaddrmsg()
    message["family"], message["prefixlen"] = _family(ip)
    message["flags"] = _ADDRESS_NODAD if ":" in ip else 0
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)]
    return Request(f"set address {ip}", _NEWADDR, _CREATE | _REPLACE, message)


def route(ip: str, index: int) -> Request:
    """To one host, straight through the link."""
    return _route(f"route to {ip}", ip, index, [("RTA_DST", ip)], _SCOPE_LINK)


def default_route(gateway: str, index: int) -> Request:
    attributes = [("RTA_GATEWAY", gateway)]
    return _route(f"default route by {gateway}", gateway, index, attributes, _SCOPE_UNIVERSE, 0)


def neighbour(ip: str, mac: str, index: int) -> Request:
    """Say once and for all which MAC address `ip` has on the link."""
    message = ndmsg()
    message["family"], _ = _family(ip)
    message["ifindex"] = index
    message["state"] = _NEIGHBOUR_PERMANENT
    message["attrs"] = [("NDA_DST", ip), ("NDA_LLADDR", mac)]
    return Request(f"set neighbour {ip}", _NEWNEIGH, _CREATE | _REPLACE, message)


def _route(
    what: str,
    ip: str,
    index: int,
    attributes: list[tuple[str, str]],
    scope: int,
    length: int | None = None,
) -> Request:
    message = rtmsg()
    message["family"], host = _family(ip)
    message["dst_len"] = host if length is None else length
    message["table"], message["proto"] = _TABLE_MAIN, _PROTOCOL_BOOT
    message["type"] = _TYPE_UNICAST
    message["scope"] = scope if ":" not in ip else _SCOPE_UNIVERSE
    message["attrs"] = [*attributes, ("RTA_OIF", index)]
    return Request(what, _NEWROUTE, _CREATE | _REPLACE, message)


def _link(name: str) -> Any:
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name)]
    return message


def _family(ip: str) -> tuple[int, int]:
    return (socket.AF_INET6, 128) if ":" in ip else (socket.AF_INET, 32)


def _error(number: int, what: str) -> NetlinkError:
    return NetlinkError(number, f"{what}: {os.strerror(number)}")
