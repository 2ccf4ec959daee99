"""Probing with real packets, from inside a pod's network namespace.

All of a pod's probes go out at once on one thread that entered its namespace; a listener answers
TCP with its pod's name and UDP with what it was sent.
"""

import errno
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

UDP_RESEND_S = 0.3
"""A lost datagram is sent again; TCP does that by itself (after 1 s)."""
IN_FLIGHT_MAX = 400
"""Most sockets open at once in one pod."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send; `address` as text, `protocol` TCP or UDP."""

    address: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `said` is the first line that a TCP listener sent (its pod's name).

    `began` and `ended` are nanoseconds since the Unix epoch.
    """

    target: Target
    passed: bool
    said: str
    began: int
    ended: int


def probe_here(targets: Sequence[Target], deadline_s: float) -> list[Answer]:
    """Probe every target from the calling thread's namespace; blocks until all answered or the
    deadline.

    A probe passed if a TCP connection was made or refused (a refusal is a packet that came back),
    or a datagram was answered.
    """
    answers: list[Answer] = []
    for start in range(0, len(targets), IN_FLIGHT_MAX):
        answers += _probe_some(targets[start : start + IN_FLIGHT_MAX], deadline_s)
    return answers


class _Attempt:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.began = time.time_ns()
        self.sent_at = time.monotonic()
        self.connected = False
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        kind = socket.SOCK_STREAM if target.protocol == "TCP" else socket.SOCK_DGRAM
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)

    def send(self) -> bool | None:
        """Start; False if the kernel refused at once, None while it is open."""
        error = self.socket.connect_ex((self.target.address, self.target.port))
        if error not in (0, errno.EINPROGRESS):
            return False
        if self.target.protocol == "UDP":
            self._datagram()
        return None

    def _datagram(self) -> None:
        self.sent_at = time.monotonic()
        try:
            self.socket.send(b"tabard")
        except OSError:  # an ICMP refusal of an earlier one: the next read tells
            return

    def resend_if_due(self) -> None:
        if self.target.protocol == "UDP" and time.monotonic() - self.sent_at > UDP_RESEND_S:
            self._datagram()

    def event(self) -> tuple[bool, str] | None:
        """(passed, said) when the outcome is known after an event on the socket."""
        if self.target.protocol == "TCP" and not self.connected:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                return error == errno.ECONNREFUSED, ""
            self.connected = True
        try:
            line = self.socket.recv(256)
        except BlockingIOError:
            return None
        except OSError as error:
            return error.errno in (errno.ECONNREFUSED, errno.ECONNRESET), ""
        return True, line.decode(errors="replace").strip()

    def answer(self, passed: bool, said: str) -> Answer:
        self.socket.close()
        return Answer(self.target, passed, said, self.began, time.time_ns())


def _probe_some(targets: Sequence[Target], deadline_s: float) -> list[Answer]:
    deadline = time.monotonic() + deadline_s
    answers: dict[int, Answer] = {}
    open_attempts: dict[int, tuple[int, _Attempt]] = {}
    poller = select.epoll()
    try:
        for place, target in enumerate(targets):
            attempt = _Attempt(target)
            if attempt.send() is False:
                answers[place] = attempt.answer(False, "")
                continue
            wanted = select.EPOLLIN
            if target.protocol == "TCP":
                wanted |= select.EPOLLOUT
            open_attempts[attempt.socket.fileno()] = (place, attempt)
            poller.register(attempt.socket.fileno(), wanted)
        while open_attempts and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(min(left, UDP_RESEND_S)):
                place, attempt = open_attempts[descriptor]
                outcome = attempt.event()
                if outcome is not None:
                    poller.unregister(descriptor)
                    del open_attempts[descriptor]
                    answers[place] = attempt.answer(*outcome)
                elif attempt.connected:
                    poller.modify(descriptor, select.EPOLLIN)  # now for the listener's line
            for _, attempt in open_attempts.values():
                attempt.resend_if_due()
    finally:
        for place, attempt in open_attempts.values():
            # Connected, but the line did not come in time: packets did pass.
            answers[place] = attempt.answer(attempt.connected, "")
        poller.close()
    return [answers[place] for place in range(len(targets))]
