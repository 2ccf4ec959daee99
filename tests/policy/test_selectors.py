from hypothesis import given
from hypothesis import strategies as st

from strategies import KEYS, VALUES
from tabard.policy.matching import Labels, matches
from tabard.policy.model import ANY_SOURCE, Requirement, Selector
from tabard.policy.selectors import Selectors

SOURCES = ("k8s", "reserved")
requirements = st.builds(
    Requirement,
    st.sampled_from(KEYS),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.frozensets(st.sampled_from(VALUES), max_size=2),
    st.sampled_from([*SOURCES, ANY_SOURCE]),
)
selectors = st.lists(st.builds(Selector, st.lists(requirements, max_size=3).map(tuple)))
labels = st.dictionaries(
    st.tuples(st.sampled_from([*SOURCES, "port"]), st.sampled_from(KEYS)), st.sampled_from(VALUES)
)


@given(selectors, labels)
def test_those_that_match_a_label_set_are_found(found: list[Selector], held: Labels) -> None:
    known = Selectors(found)
    matching = known.matching(held)
    assert matching == {place for one, place in known.places.items() if matches(one, held)}
    assert known.places.keys() == set(found)
