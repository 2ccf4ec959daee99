import pytest

from tabard.allocator.vigil import Vigil


@pytest.fixture
def vigil() -> Vigil:
    """Two seconds of silence, of which a look vouches for one at most."""
    return Vigil(2.0, 1.0)


def looks(vigil: Vigil, begin: float, end: float, head: int = 7, word: int = 3) -> list[bool]:
    """A look each quarter of a second that shows the same each time."""
    steps = int((end - begin) * 4)
    return [vigil.look(begin + step / 4, (head, word)) for step in range(steps + 1)]


def test_a_leader_that_shows_nothing_new_for_so_long_is_silent(vigil: Vigil) -> None:
    assert looks(vigil, 10, 12) == [False] * 8 + [True]


@pytest.mark.parametrize("signs", [(8, 3), (7, 4)], ids=["an append", "a word"])
def test_any_sign_of_life_begins_it_anew(vigil: Vigil, signs: tuple[int, int]) -> None:
    looks(vigil, 10, 11.75)
    assert not vigil.look(12, signs)
    assert looks(vigil, 12.25, 14, *signs) == [False] * 7 + [True]


def test_what_is_not_answered_tells_nothing_of_the_leader(vigil: Vigil) -> None:
    looks(vigil, 10, 11)
    for now in (11.25, 11.5, 60):
        assert not vigil.look(now, None)
    # The bus is back: the leader is given the same time as ever to say so.
    assert looks(vigil, 60.25, 62.25) == [False] * 8 + [True]


def test_a_follower_that_did_not_look_itself_does_not_count_that_as_silence(vigil: Vigil) -> None:
    looks(vigil, 10, 11)
    assert looks(vigil, 70, 72) == [False] * 8 + [True]


def test_the_first_look_begins_the_silence(vigil: Vigil) -> None:
    assert not vigil.look(1_000_000.0, (7, 3))
