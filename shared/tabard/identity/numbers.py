"""The number space of security identities.

Numbers are compatible with Cilium's (pkg/identity/numericidentity.go), so that knowledge and tools
carry over: 0 unknown, 1-99 reserved, 128-255 fixed by the operator, 256-65,535 allocated in the
cluster (the cluster id stands in the bits above), 1 << 24 and up scoped to CIDRs and never put on
the wire.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

IdentityNumber = NewType("IdentityNumber", int)

CIDR_SCOPE = 1 << 24
"""The first number of the CIDR scope; the overlay header's 24 bits cannot carry it."""
FIXED_MIN, FIXED_MAX = 128, 255
CLUSTER_MIN = 256
BASE_BITS = 16
"""Bits of a number within one cluster when cluster bits are in use."""
WIRE_BITS = 24


class Reserved(IntEnum):
    """Identities with a meaning of their own; labels are `reserved:<name>`."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10

    @property
    def label(self) -> str:
        return f"reserved:{self.name.lower().replace('_', '-')}"


def is_cidr(number: int) -> bool:
    """True for numbers scoped to CIDRs, which never go on the wire."""
    return number >= CIDR_SCOPE


def is_pod(number: int) -> bool:
    """True for numbers that stand for pods' label sets: all that the wire carries between pods."""
    return FIXED_MIN <= number < CIDR_SCOPE


@dataclass(frozen=True, slots=True)
class NumberSpace:
    """The numbers one cluster may allocate.

    With `cluster_bits == 0` all 24 wire bits number identities (16.7 million); otherwise the
    cluster id stands in the bits from 16 upwards and each cluster has 65,280 numbers.
    """

    cluster_id: int = 0
    cluster_bits: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.cluster_bits <= WIRE_BITS - BASE_BITS:
            raise ValueError(
                f"cluster_bits is {self.cluster_bits}; it must lie in 0-{WIRE_BITS - BASE_BITS}"
            )
        if not 0 <= self.cluster_id < max(1, 1 << self.cluster_bits):
            raise ValueError(
                f"cluster_id is {self.cluster_id}; {self.cluster_bits} cluster bits admit "
                f"0-{max(1, 1 << self.cluster_bits) - 1}"
            )

    @property
    def first(self) -> int:
        return (self.cluster_id << BASE_BITS) + CLUSTER_MIN

    @property
    def last(self) -> int:
        bits = BASE_BITS if self.cluster_bits else WIRE_BITS
        return (self.cluster_id << BASE_BITS) + (1 << bits) - 1

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def free_from(self, start: int, taken: Container[int]) -> Iterator[IdentityNumber]:
        """The numbers from `start` upwards that are not `taken`, in order."""
        for number in range(max(start, self.first), self.last + 1):
            if number not in taken:
                yield IdentityNumber(number)
