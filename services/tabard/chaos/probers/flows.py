"""A flow that stays open: numbered exchanges on the socket of a probe that passed."""

import errno
import socket
import time
from collections.abc import Iterator

from tabard.chaos.record import Packet
from tabard.demo.probe import ASKING

UNANSWERED_MAX = 16
"""Most exchanges of one flow that are waited for; an answer to an older one is not told."""


class Flow:
    """`opening` is the stamp of the probe; the socket is this object's from here on."""

    def __init__(self, opening: Packet, connection: socket.socket, ends_at: float) -> None:
        self.opening = opening
        self.socket = connection
        self.ends_at = ends_at
        """By the monotonic clock."""
        self.broken = False
        """The other side, or the kernel, has ended it."""
        self._number = 0
        self._unanswered: dict[int, int] = {}
        """Number → when it was sent, for those that may still be answered."""
        self._given_up: set[int] = set()
        self._read = b""

    def send(self) -> bool:
        """Begin an exchange; whether its packet was taken."""
        self._number += 1
        began = time.time_ns()
        try:
            self.socket.send(ASKING + b"%d\n" % self._number)
        except OSError as error:
            # A datagram's refusal, told at the next one, says nothing of that one.
            self.broken = self.opening.protocol == "TCP" and error.errno != errno.EAGAIN
            return False
        self._unanswered[self._number] = began
        if len(self._unanswered) > UNANSWERED_MAX:
            oldest = next(iter(self._unanswered))
            del self._unanswered[oldest]
            self._given_up.discard(oldest)
        return True

    def receive(self) -> Iterator[Packet]:
        """The exchanges that are answered now; also those that were given up, for something got
        through after all."""
        while not self.broken:
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                self.broken = self.opening.protocol == "TCP"
                # A refusal is a packet that came back, to one of those that were sent.
                if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET) and self._unanswered:
                    yield self._stamp(next(iter(self._unanswered)), True, "")
                return
            if not data:
                self.broken = True
                return
            yield from self._answered(data)

    def _answered(self, data: bytes) -> Iterator[Packet]:
        if self.opening.protocol == "UDP":
            name, _, rest = data.partition(b"\n")
            if (number := rest.strip()).isdigit() and int(number) in self._unanswered:
                yield self._stamp(int(number), True, name.decode(errors="replace"))
            return
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            if line.isdigit() and int(line) in self._unanswered:
                yield self._stamp(int(line), True, self.opening.answered)

    def give_up(self, before: int) -> Iterator[Packet]:
        """The exchanges that were sent before that time (Unix ns) and are not answered yet."""
        for number, began in list(self._unanswered.items()):
            if began >= before:
                return
            if number not in self._given_up:
                self._given_up.add(number)
                yield self._packet(began, False, "")

    def _stamp(self, number: int, passed: bool, answered: str) -> Packet:
        self._given_up.discard(number)
        return self._packet(self._unanswered.pop(number), passed, answered)

    def _packet(self, began: int, passed: bool, answered: str) -> Packet:
        return Packet(
            self.opening.source,
            self.opening.source_address,
            self.opening.destination_address,
            self.opening.port,
            self.opening.protocol,
            began,
            time.time_ns(),
            passed,
            answered,
            opened=self.opening.began,
        )
