"""Established flows: numbered datagrams through one socket, and what became of each."""

import select
import socket
import struct
import threading
import time

from tabard.demo.probe import Target
from tabard.netns import enter

INTERVAL_S = 0.02
LAST_ANSWER_S = 1.0
"""How long after the last datagram an answer may still come."""
_NUMBER = struct.Struct("!Q")


class UdpStream:
    """One flow of datagrams to a listener that echoes, on a thread of its own."""

    def __init__(self, namespace: str, target: Target) -> None:
        self.target = target
        self.sent = 0
        self.answered: set[int] = set()
        self._namespace = namespace
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="udp-stream", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        return self.sent - len(self.answered)

    def stop(self) -> None:
        """End the flow and wait for late answers; raises what the thread raised."""
        self._stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            enter.enter(self._namespace)
            family = socket.AF_INET6 if ":" in self.target.address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as flow:
                flow.connect((self.target.address, self.target.port))
                while not self._stopping.is_set():
                    self.sent += 1
                    flow.send(_NUMBER.pack(self.sent))
                    self._receive(flow, time.monotonic() + INTERVAL_S)
                deadline = time.monotonic() + LAST_ANSWER_S
                while self.lost and time.monotonic() < deadline:
                    self._receive(flow, deadline)
        except Exception as error:  # raised again where the flow is stopped
            self._error = error

    def _receive(self, flow: socket.socket, until: float) -> None:
        while (left := until - time.monotonic()) > 0 and self.lost:
            if select.select([flow], [], [], left)[0]:
                self.answered.add(_NUMBER.unpack(flow.recv(64))[0])
        if (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
            time.sleep(left)
