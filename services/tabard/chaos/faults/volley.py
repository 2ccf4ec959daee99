"""Packets made by hand that are sent at a pod, and what of them arrived. Blocks; needs root.

Whether one arrived is seen in the pod's own namespace, at its device, listener or not. What did not
arrive is told only if the controls before it and those behind it did: else it proves nothing.
"""

import errno
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address

from tabard.chaos.faults.forgeries import MARK, TOKEN_BYTES, Flow, Shot
from tabard.chaos.record import Packet
from tabard.dataplane.port import TUNNEL_PORT
from tabard.netns import enter
from tabard.netns.names import pod_namespace

CONTROL_S = 1.0
"""Longest wait for controls to arrive."""
RESEND_S = 0.2
LINGER_S = 0.05
"""How long forged packets are awaited after the last controls, which they should precede."""
POD_DEVICE = "eth0"
FRAME_BYTES_MAX = 1 << 16
SNIFFED_BYTES_MAX = 4 << 20

_ETH_P_ALL = 3  # linux/if_ether.h
_PACKET_OUTGOING = 4  # linux/if_packet.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NO_WAY = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Volley:
    run: str
    flow: Flow
    first: Sequence[Shot]
    """Controls, as `last` are."""
    forged: Sequence[Shot]
    last: Sequence[Shot]


def fire(volley: Volley) -> list[Packet]:
    """Send all, in order; what is known of it then. Nothing if the pod is not there (any more)."""
    try:
        sniffer = enter.call(pod_namespace(volley.run, volley.flow.target.uid), _Sniffer)
    except (enter.NamespaceAbsent, OSError) as error:
        if not _is_gone(error):
            raise
        return []
    with sniffer:
        return _fire(volley, sniffer)


def _fire(volley: Volley, sniffer: "_Sniffer") -> list[Packet]:
    sent: dict[bytes, int] = {}
    complete = _arrive(volley.first, sniffer, sent)
    if complete:
        for shot in volley.forged:
            _send(shot, sent)
        complete = _arrive(volley.last, sniffer, sent)
        sniffer.listen({shot.token for shot in volley.forged}, LINGER_S)
    ended = time.time_ns()
    return [
        _stamp(volley.flow, shot, sent[shot.token], sniffer.arrived.get(shot.token, 0), ended)
        for shot in (*volley.first, *volley.forged, *volley.last)
        if shot.token in sniffer.arrived or (complete and shot.token in sent)
    ]


def _arrive(controls: Sequence[Shot], sniffer: "_Sniffer", sent: dict[bytes, int]) -> bool:
    """Send controls until all of them arrived, or it took too long; whether they did."""
    deadline = time.monotonic() + CONTROL_S
    while True:
        left = [shot for shot in controls if shot.token not in sniffer.arrived]
        if not left or time.monotonic() > deadline:
            return not left
        for shot in left:
            _send(shot, sent)
        sniffer.listen({shot.token for shot in left}, RESEND_S)


def _send(shot: Shot, sent: dict[bytes, int]) -> None:
    """`sent` gets when, unless there is no way for it to leave."""
    now = time.time_ns()
    try:
        enter.call(shot.namespace, partial(_emit, shot))
    except (enter.NamespaceAbsent, OSError) as error:
        if not _is_gone(error):
            raise
    else:
        sent.setdefault(shot.token, now)


def _is_gone(error: Exception) -> bool:
    """Whether it says that a pod is being made or taken away, or has no address of the family."""
    return not isinstance(error, OSError) or error.errno in _NO_WAY


def _emit(shot: Shot) -> None:
    family = socket.AF_INET6 if ip_address(shot.destination).version == 6 else socket.AF_INET
    if shot.is_raw:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(shot.data, (shot.destination, 0))
    else:
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(shot.data, (shot.destination, TUNNEL_PORT))


@dataclass(slots=True)
class _Sniffer:
    """Sees what comes to the pod whose namespace the calling thread is in when it is made."""

    arrived: dict[bytes, int] = field(default_factory=dict)
    """Token → when."""
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SNIFFED_BYTES_MAX)
            self._socket.bind((POD_DEVICE, _ETH_P_ALL))
        except BaseException:
            self._socket.close()
            raise

    def listen(self, awaited: set[bytes], seconds: float) -> None:
        """Until all that is awaited arrived, or for so long."""
        deadline = time.monotonic() + seconds
        while not awaited <= self.arrived.keys():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], (), (), left)[0]:
                return
            try:
                frame, where = self._socket.recvfrom(FRAME_BYTES_MAX)
            except OSError as error:
                if not _is_gone(error):
                    raise
                return
            at = frame.find(MARK)
            if at >= 0 and where[2] != _PACKET_OUTGOING:
                self.arrived.setdefault(frame[at : at + TOKEN_BYTES], time.time_ns())

    def __enter__(self) -> "_Sniffer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _stamp(flow: Flow, shot: Shot, began: int, arrived: int, ended: int) -> Packet:
    return Packet(
        source=shot.source,
        source_address=shot.claimed,
        destination_address=flow.ends[1],
        port=flow.port,
        protocol=flow.protocol.name,
        began=began,
        ended=arrived or ended,
        passed=bool(arrived),
        kind=shot.kind,
        how=shot.how,
    )
