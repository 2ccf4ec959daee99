"""Cases of the differential fuzzer, as plain data.

Those that found something are kept for ever. The first ones found faults that were planted to try
the fuzzer, and are named after what was wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzzing.happenings import Happening, PodFacts, applied, happenings, pods
from traffic import LOCAL, NODE_PARTY, NODES, REMOTE

FINDINGS = Path(__file__).parent / "findings"

WITHIN, BEYOND, STRANGER = (NODE_PARTY + len(NODES) + n for n in range(3))
"""Outside, in most CIDRs that policies name and in most of their excepts; outside, in none but that
of all; and an address in a node's range that no pod has."""
ENDS = (*range(WITHIN), *[WITHIN] * 4, BEYOND, STRANGER)
"""Parties that are asked about: pods, nodes, and these, as often as it takes to meet rules."""

Pair = Sequence[int]
"""[source, destination, family (0 IPv4, 1 IPv6)]: all that one party may ask the other for."""


@dataclass(frozen=True)
class Case:
    """Pods, and what happens `first`; then the pairs are probed; then traffic with some of what
    happens `later` in between (see traffic.steps); then all of that, and the pairs once more."""

    mode: str
    pods: Sequence[PodFacts]
    first: Sequence[Happening]
    later: Sequence[Happening]
    pairs: Sequence[Pair]
    seed: int
    count: int
    found: str = ""
    """How it was: the command that led to it, and what was said."""

    def text(self) -> str:
        """As JSON, in lines that a reader can compare."""
        lines = [f"  {json.dumps(key)}: {_shown(value)}" for key, value in asdict(self).items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
    return json.dumps(value)


def read(path: Path) -> Case:
    return Case(**json.loads(path.read_text()))


def keep(case: Case, found: str) -> Path:
    """Write the case among the findings, and how it was `found`; where it is."""
    text = replace(case, found=found).text()
    path = FINDINGS / f"{blake2b(text.encode(), digest_size=5).hexdigest()}.json"
    path.write_text(text)
    return path


def findings() -> list[Path]:
    return sorted(FINDINGS.glob("*.json"))


_pairs = st.tuples(st.sampled_from(ENDS), st.sampled_from(ENDS), st.integers(0, 1)).filter(
    lambda pair: pair[0] != pair[1] and min(pair[:2]) < len(LOCAL) + len(REMOTE)
)


def cases(mode: str) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        mode=st.just(mode),
        pods=pods,
        first=st.lists(applied(), min_size=3, max_size=10),
        later=st.lists(happenings(), min_size=1, max_size=6),
        pairs=st.lists(_pairs, min_size=6, max_size=20, unique=True),
        seed=st.integers(0, 2**32 - 1),
        count=st.integers(1, 120),
    )
