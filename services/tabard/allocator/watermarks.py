"""How far each node is and how long it has got no further, as far as one leader heard. Pure.

Time counts only while the leader hears: a pause of its own or of the bus makes no node late. So a
new leader, which has heard nothing yet, gives every node all of its time again.
"""

from dataclasses import dataclass

from tabard.ledger.state import State, live_nodes

WORDS_MAX = 65_536
"""Nodes whose last word is kept; the oldest makes room, and counts as one that never spoke."""


@dataclass(slots=True)
class _Word:
    sequence: int
    """The watermark; 0 if there is none that counts."""
    moved_at: int
    """The latest time, in nanoseconds of `heard_ns`, of which it is known to enforce what the
    ledger held then; or when it joined. Mere progress does not count: a node that goes on by an
    event a minute, or back and forth, would be waited for for ever."""
    due: int
    """Where the ledger ended at `due_at`: once it is there, that is the time."""
    due_at: int


class Watermarks:
    def __init__(self) -> None:
        self.heard_ns = 0
        """For how long this leader has heard nodes, in nanoseconds."""
        self.unbroken_ns = 0
        """The part of it after the last pause."""
        self._words: dict[str, _Word] = {}

    def say(self, node: str, sequence: int, end: int) -> None:
        """`node` says that it enforces the ledger, which ends at `end`, through `sequence`."""
        before = self._words.pop(node, None)
        # Nobody can enforce what is not written: such a word is about another ledger.
        sequence = sequence if sequence <= end else 0
        now = self.heard_ns
        if before is None or sequence == end:
            self._words[node] = _Word(sequence, now, end, now)
        elif sequence >= before.due:
            self._words[node] = _Word(sequence, max(before.moved_at, before.due_at), end, now)
        else:
            self._words[node] = _Word(sequence, before.moved_at, before.due, before.due_at)
        if len(self._words) > WORDS_MAX:
            del self._words[next(iter(self._words))]

    def forget(self, node: str) -> None:
        """The node has left: if it joins again, it is another."""
        self._words.pop(node, None)

    def renew(self, node: str) -> None:
        """The node counts again: it has all of its time."""
        if (word := self._words.get(node)) is not None:
            word.moved_at = word.due_at = self.heard_ns

    def listen(self, state: State, elapsed_ns: int) -> None:
        """Time went by in which words came, if there were any."""
        self.heard_ns += elapsed_ns
        self.unbroken_ns += elapsed_ns
        for node in state.nodes.keys() - self._words.keys():
            self._words[node] = _Word(0, self.heard_ns, state.sequence, self.heard_ns)
        for node in self._words.keys() - state.nodes.keys():
            self._words[node].moved_at = self.heard_ns

    def pause(self) -> None:
        """Time went by in which no word could come."""
        self.unbroken_ns = 0

    def of(self, node: str) -> int:
        """The node's watermark; 0 if it is not known."""
        word = self._words.get(node)
        return 0 if word is None else word.sequence

    def still_ns(self, node: str) -> int:
        """How old what the node enforces is, as far as it is known; 0 where the ledger ends."""
        word = self._words.get(node)
        return 0 if word is None else self.heard_ns - word.moved_at

    def passed(self, state: State) -> int:
        """The sequence through which every live node enforces the ledger; with none, its end."""
        return min(map(self.of, live_nodes(state)), default=state.sequence)
