"""Probing with real packets, from inside a pod's network namespace.

All of a pod's probes go out at once on one thread that entered its namespace; a listener answers
with its pod's name on a line, TCP at once and UDP an empty line.
"""

import errno
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

UDP_RESEND_S = 0.3
"""A lost datagram is sent again; TCP does that by itself (after 1 s)."""
ASKING = b"\n"
"""A datagram that begins so is answered with the pod's name before it."""
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
    """What came back. `said` is the first line that the listener sent (its pod's name).

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


class Attempt:
    """One probe, from the namespace that the calling thread is in when it is made. Its socket is
    the caller's to wait for, with `wanted` events, and to close."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.began = time.time_ns()
        self.sent_at = time.monotonic()
        self.connected = False
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        kind = socket.SOCK_STREAM if target.protocol == "TCP" else socket.SOCK_DGRAM
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)

    @property
    def wanted(self) -> int:
        """What to wait for now: also to be connected, then the listener's line alone."""
        is_connecting = self.target.protocol == "TCP" and not self.connected
        return select.EPOLLIN | (select.EPOLLOUT if is_connecting else 0)

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
            self.socket.send(ASKING)
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
            line = self.socket.recv(256).partition(b"\n")[0]
        except BlockingIOError:
            return None
        except OSError as error:
            return error.errno in (errno.ECONNREFUSED, errno.ECONNRESET), ""
        return True, line.decode(errors="replace").strip()

    def answer(self, passed: bool, said: str) -> Answer:
        return Answer(self.target, passed, said, self.began, time.time_ns())


def _probe_some(targets: Sequence[Target], deadline_s: float) -> list[Answer]:
    deadline = time.monotonic() + deadline_s
    answers: dict[int, Answer] = {}
    open_attempts: dict[int, tuple[int, Attempt]] = {}
    poller = select.epoll()

    def end(place: int, attempt: Attempt, passed: bool, said: str) -> None:
        answers[place] = attempt.answer(passed, said)
        attempt.socket.close()

    try:
        for place, target in enumerate(targets):
            attempt = Attempt(target)
            if attempt.send() is False:
                end(place, attempt, False, "")
                continue
            open_attempts[attempt.socket.fileno()] = (place, attempt)
            poller.register(attempt.socket.fileno(), attempt.wanted)
        while open_attempts and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(min(left, UDP_RESEND_S)):
                place, attempt = open_attempts[descriptor]
                outcome = attempt.event()
                if outcome is not None:
                    poller.unregister(descriptor)
                    del open_attempts[descriptor]
                    end(place, attempt, *outcome)
                elif attempt.connected:
                    poller.modify(descriptor, attempt.wanted)
            for _, attempt in open_attempts.values():
                attempt.resend_if_due()
    finally:
        for place, attempt in open_attempts.values():
            # Connected, but the line did not come in time: packets did pass.
            end(place, attempt, attempt.connected, "")
        poller.close()
    return [answers[place] for place in range(len(targets))]
