from itertools import islice

import pytest

from tabard.identity.numbers import CIDR_SCOPE, NumberSpace, Reserved, is_cidr, is_pod


def test_reserved_numbers_are_ciliums() -> None:
    assert [(number.value, number.label) for number in Reserved] == [
        (0, "reserved:unknown"),
        (1, "reserved:host"),
        (2, "reserved:world"),
        (3, "reserved:unmanaged"),
        (4, "reserved:health"),
        (5, "reserved:init"),
        (6, "reserved:remote-node"),
        (7, "reserved:kube-apiserver"),
        (8, "reserved:ingress"),
        (9, "reserved:world-ipv4"),
        (10, "reserved:world-ipv6"),
    ]


@pytest.mark.parametrize(
    ("number", "pod", "cidr"),
    [
        (0, False, False),
        (127, False, False),
        (128, True, False),
        (256, True, False),
        (CIDR_SCOPE - 1, True, False),
        (CIDR_SCOPE, False, True),
    ],
)
def test_numbers_tell_what_they_stand_for(number: int, pod: bool, cidr: bool) -> None:
    assert (is_pod(number), is_cidr(number)) == (pod, cidr)


@pytest.mark.parametrize(
    ("space", "first", "last"),
    [
        (NumberSpace(), 256, 65_535),
        (NumberSpace(3, 8), 0x30100, 0x3FFFF),
        (NumberSpace(255, 8), 0xFF0100, 0xFFFFFF),
        (NumberSpace(0, 0), 256, 0xFFFFFF),
    ],
)
def test_a_cluster_has_the_numbers_of_its_bits(space: NumberSpace, first: int, last: int) -> None:
    assert (space.first, space.last) == (first, last)
    assert first in space
    assert last in space
    assert first - 1 not in space
    assert last + 1 not in space
    assert last < CIDR_SCOPE


@pytest.mark.parametrize(("cluster_id", "bits"), [(256, 8), (-1, 8), (1, 0), (2, 1), (0, 9)])
def test_a_cluster_id_must_fit(cluster_id: int, bits: int) -> None:
    with pytest.raises(ValueError, match=r"cluster_(id|bits) is"):
        NumberSpace(cluster_id, bits)


def test_free_numbers_come_in_order_and_end() -> None:
    space = NumberSpace()
    assert list(islice(space.free_from(0, {256, 258}), 3)) == [257, 259, 260]
    assert list(space.free_from(65_534, {65_534})) == [65_535]
    assert list(space.free_from(65_536, set())) == []
