from random import Random

from tabard.chaos.faults.harms import flipped, truncated


def test_a_flipped_bit_is_one_and_truncated_bytes_are_fewer() -> None:
    chance = Random(6)
    for size in range(1, 200):
        content = chance.randbytes(size)
        harmed = flipped(content, chance)
        differing = [a ^ b for a, b in zip(content, harmed, strict=True) if a != b]
        assert [bits.bit_count() for bits in differing] == [1]
        left = truncated(content, chance)
        assert content.startswith(left)
        assert len(left) < size
