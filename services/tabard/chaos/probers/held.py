"""A pod as the probers hold it: its namespace, which stays for as long as it is held."""

import os
import socket
from dataclasses import dataclass, field

from tabard.chaos.probers.telling import Come
from tabard.demo.probe import Target
from tabard.netns import enter

PROTOCOLS = ("TCP", "UDP")


@dataclass(slots=True)
class Held:
    """`descriptor` is its namespace's, None while that is not there."""

    pod: Come
    descriptor: int | None = None
    inode: int = 0
    gone_at: float | None = None
    """When it was said to be gone, by the monotonic clock."""
    targets: tuple[Target, ...] = field(init=False)
    """Where it listens: each of its addresses on each TCP and UDP port."""

    def __post_init__(self) -> None:
        self.targets = tuple(
            Target(address, number, protocol)
            for _, number, protocol in self.pod.ports
            if protocol in PROTOCOLS
            for address in self.pod.addresses
        )

    @property
    def is_there(self) -> bool:
        """Whether a packet can be sent from it."""
        return self.descriptor is not None

    def look(self) -> None:
        """Take hold of the namespace once it is there, and of the one that took its place.

        NamespaceError if it is there and cannot be opened.
        """
        if self.gone_at is not None:
            return
        try:
            if os.stat(enter.path(self.pod.namespace)).st_ino == self.inode:
                return
            descriptor = enter.hold(self.pod.namespace)
        except (FileNotFoundError, enter.NamespaceAbsent):
            return
        self.close()
        self.descriptor, self.inode = descriptor, os.fstat(descriptor).st_ino

    def enter(self) -> None:
        """The calling thread is in its namespace from here on."""
        assert self.descriptor is not None, "a namespace that is not there is not entered"
        enter.enter_held(self.descriptor, self.pod.namespace)

    def address_towards(self, target: Target) -> str:
        """Its own of the target's family; empty if it has none."""
        family = _family(target.address)
        return next((each for each in self.pod.addresses if _family(each) == family), "")

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor, self.inode = None, 0


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
