import structlog

from tabard.allocator.words import Words
from tabard.bus.port import Stored, Stream, subject
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.messages import allocator_subject, first_cause, status, status_subject

NODE = NodeStatus("n1", 7, "memory", 0, ())
ALLOCATOR = AllocatorStatus("a", "a/1", "following", 1, 7, 7)


def word(said: NodeStatus | AllocatorStatus, sequence: int = 1, on: str = "") -> Stored:
    message = status(said, first_cause("", 0))
    return Stored(sequence, on or message.subject, message.payload, 0)


def test_the_last_word_of_each_counts() -> None:
    words = Words()
    words.take(word(ALLOCATOR, 3))
    assert words.take(word(NODE)) == NODE
    assert words.watermarks == {"n1": 7}
    assert (words.followers("b/1"), words.followers("a/1")) == ({"a/1": 3}, {})
    assert (words.place("a/1"), words.place("b/1"), words.stopped("a/1")) == (3, 0, False)


def test_what_cannot_be_read_is_counted_and_told_once_until_its_subject_is_readable_again() -> None:
    words, where = Words(), status_subject("n1")
    with structlog.testing.capture_logs() as logs:
        for payload in (b"", b"\xc1", b"junk"):
            assert words.take(Stored(1, where, payload, 0)) is None
        words.take(word(NODE))
        words.take(Stored(2, where, b"junk", 0))
    assert [log["event"] for log in logs] == ["allocator.status_unreadable"] * 2
    assert words.unreadable == 4
    assert words.watermarks == {"n1": 7}, "as it was said last"


def test_a_word_on_anothers_subject_does_not_count() -> None:
    words = Words()
    assert words.take(word(NODE, on=status_subject("n2"))) is None
    assert words.take(word(ALLOCATOR, on=allocator_subject("b"))) is None
    assert words.take(word(NODE, on=subject(Stream.STATUS, "n1"))) is None
    assert (words.watermarks, words.place("a/1"), words.unreadable) == ({}, 0, 3)


def test_news_are_changes_of_a_role() -> None:
    words = Words()
    words.take(word(ALLOCATOR))
    assert words.news.is_set()
    words.news.clear()
    words.take(word(ALLOCATOR, 2))
    assert not words.news.is_set()
    words.take(word(AllocatorStatus("a", "a/1", "stopped", 1, 7, 7), 3))
    assert words.news.is_set()
    assert words.stopped("a/1")
