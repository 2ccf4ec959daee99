import pytest

from deciding import MS, Desk, joined
from tabard.allocator import watermarks
from tabard.allocator.watermarks import Watermarks
from tabard.ledger.state import State

END = 10


def two() -> State:
    desk = Desk()
    desk.observe(joined("n1"))
    desk.observe(joined("n2"))
    return desk.state


def test_what_every_live_node_enforces_is_the_least_of_their_words() -> None:
    heard, state = Watermarks(), two()
    assert heard.passed(state) == 0
    heard.say("n1", 7, END)
    assert heard.passed(state) == 0
    heard.say("n2", 5, END)
    heard.say("stranger", 1, END)
    assert heard.passed(state) == 5


def test_without_nodes_all_that_is_written_is_enforced() -> None:
    assert Watermarks().passed(State(sequence=9)) == 9


def test_a_word_about_another_ledger_counts_for_nothing_also_when_this_one_has_grown() -> None:
    heard = Watermarks()
    heard.say("n1", END + 1, END)
    assert heard.of("n1") == 0
    heard.say("n1", END + 1, END + 1)
    assert heard.of("n1") == END + 1


def test_a_node_stands_still_from_when_there_was_further_to_get() -> None:
    heard, state = Watermarks(), two()
    heard.say("n1", END, END)
    heard.listen(state, 5)
    heard.say("n1", END, END)
    heard.listen(state, 3)
    assert heard.still_ns("n1") == 3
    heard.say("n1", END, END + 1)
    assert heard.still_ns("n1") == 3
    heard.say("n1", END + 1, END + 9)
    assert heard.still_ns("n1") == 0


def test_a_word_that_goes_back_is_no_progress() -> None:
    heard, state = Watermarks(), two()
    heard.say("n1", 5, END)
    heard.listen(state, 4)
    for sequence in (0, END + 1):
        heard.say("n1", sequence, END)
        assert (heard.of("n1"), heard.still_ns("n1")) == (0, 4)


@pytest.mark.parametrize("words", [(3, 4), (0, 4), (END + 1000, 4), range(1, 60)], ids=str)
def test_a_node_that_goes_back_and_forth_or_crawls_stands_still(words: list[int]) -> None:
    heard, state = Watermarks(), two()
    for turn in range(60):
        heard.say("n1", words[turn % len(words)], END + 10 * turn)
        heard.listen(state, 1)
    assert heard.still_ns("n1") >= 60 - END


def test_a_node_that_lags_is_as_late_as_what_it_enforces_and_no_later() -> None:
    heard, state = Watermarks(), two()
    for turn in range(3, 60):
        heard.say("n1", 10 * (turn - 3), 10 * turn)
        heard.listen(state, 1)
        assert heard.still_ns("n1") <= 2 * 3 + 1


def test_a_node_that_never_spoke_has_its_time_from_when_it_joined() -> None:
    heard, state = Watermarks(), State()
    heard.listen(state, 50)
    heard.listen(two(), 5)
    assert heard.still_ns("n1") == 0
    heard.listen(two(), 5)
    assert heard.still_ns("n1") == 5


def test_a_node_that_was_away_and_joins_again_has_all_of_its_time() -> None:
    heard, state = Watermarks(), two()
    heard.say("n1", 3, END)
    heard.listen(state, 4)
    heard.listen(State(), 100 * MS)
    heard.listen(state, 2)
    assert heard.still_ns("n1") == 2


def test_a_pause_makes_no_node_late() -> None:
    heard, state = Watermarks(), two()
    heard.say("n1", 3, END)
    heard.listen(state, 4)
    heard.pause()
    assert (heard.still_ns("n1"), heard.unbroken_ns, heard.heard_ns) == (4, 0, 4)
    heard.listen(state, 2)
    assert (heard.still_ns("n1"), heard.unbroken_ns) == (6, 2)


def test_words_are_kept_of_so_many_nodes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermarks, "WORDS_MAX", 2)
    heard = Watermarks()
    for name in ("a", "b"):
        heard.say(name, 3, END)
    assert (heard.of("a"), heard.of("b")) == (3, 3)
    heard.say("c", 3, END)
    assert (heard.of("a"), heard.of("b"), heard.of("c")) == (0, 3, 3)
