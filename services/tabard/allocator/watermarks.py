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
    """When it last got further or was where the ledger ended, in nanoseconds of `heard_ns`."""


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
        word = self._words[node] = _Word(sequence, self.heard_ns)
        if sequence > end:
            # Nobody can enforce what is not written: such a word is about another ledger.
            word.sequence = 0
        if before is not None and word.sequence <= before.sequence and word.sequence != end:
            word.moved_at = before.moved_at
        if len(self._words) > WORDS_MAX:
            del self._words[next(iter(self._words))]

    def forget(self, node: str) -> None:
        """The node has left: if it joins again, it is another."""
        self._words.pop(node, None)

    def listen(self, state: State, elapsed_ns: int) -> None:
        """Time went by in which words came, if there were any."""
        self.heard_ns += elapsed_ns
        self.unbroken_ns += elapsed_ns
        for node in state.nodes.keys() - self._words.keys():
            self._words[node] = _Word(0, self.heard_ns)
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
        """For how long the node has not got further, while there was further to get."""
        word = self._words.get(node)
        return 0 if word is None else self.heard_ns - word.moved_at

    def passed(self, state: State) -> int:
        """The sequence through which every live node enforces the ledger; with none, its end."""
        return min(map(self.of, live_nodes(state)), default=state.sequence)
