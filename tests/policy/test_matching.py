import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import KEYS, VALUES
from tabard.identity.labels import LabelSet, label_set
from tabard.policy.matching import (
    RESERVED_LABELS,
    IdentityIndex,
    labels_of,
    matches,
    seen_labels,
)
from tabard.policy.model import ANY_SOURCE, Requirement, Selector

PORT = "80/TCP"
requirements = st.builds(
    Requirement,
    st.sampled_from(KEYS),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.frozensets(st.sampled_from((*VALUES, PORT)), min_size=1),
    st.sampled_from(["k8s", "docker", "port", ANY_SOURCE]),
)
selectors = st.builds(Selector, st.lists(requirements, max_size=3).map(tuple))
sources = st.sampled_from(["k8s", "k8s", "docker", "port"])
sets = st.dictionaries(st.tuples(sources, st.sampled_from(KEYS)), st.sampled_from(VALUES)).map(
    lambda labels: label_set(
        f"{source}:{key}={PORT if source == 'port' else value}"
        for (source, key), value in labels.items()
    )
)
populations = st.dictionaries(st.integers(256, 275), sets)


def naive(selector: Selector, live: dict[int, LabelSet]) -> set[int]:
    return {number for number, labels in live.items() if matches(selector, labels_of(labels))}


@given(st.lists(populations, min_size=1, max_size=4), st.lists(selectors, max_size=4), st.data())
def test_the_index_matches_as_the_naive_matcher_through_every_change(
    steps: list[dict[int, LabelSet]], wanted: list[Selector], data: st.DataObject
) -> None:
    index, held = IdentityIndex(), []
    for live in steps:
        late = data.draw(st.booleans())
        if not late:
            held += [index.track(selector) for selector in wanted]
        index.update({number: live.get(number) for number in {*range(256, 276), *live}})
        held += [index.track(selector) for selector in wanted]
        for matched in held:
            assert matched.numbers == naive(matched.selector, live)


@pytest.mark.parametrize(
    ("operator", "values", "having", "without"),
    [
        ("In", {"a", "b"}, True, False),
        ("In", {"b"}, False, False),
        ("NotIn", {"a"}, False, True),
        ("NotIn", {"b"}, True, True),
        ("Exists", (), True, False),
        ("DoesNotExist", (), False, True),
    ],
)
def test_operators_mean_what_upstream_means(
    operator: str, values: set[str], having: bool, without: bool
) -> None:
    selector = Selector((Requirement("app", operator, frozenset(values)),))
    assert matches(selector, {("k8s", "app"): "a"}) is having
    assert matches(selector, {("docker", "app"): "a"}) is without


@pytest.mark.parametrize("source", ["k8s", "docker", "reserved"])
def test_any_source_is_all_but_that_of_named_ports(source: str) -> None:
    def holds(operator: str, labels: str) -> bool:
        values = frozenset({"a"}) if operator in ("In", "NotIn") else frozenset()
        selector = Selector((Requirement("app", operator, values, ANY_SOURCE),))
        return matches(selector, labels_of(label_set(labels.split())))

    assert holds("In", f"{source}:app=a")
    assert holds("Exists", f"{source}:app")
    assert holds("In", f"any-more:app=b {source}:app=a"), "of two, one is enough"
    assert not holds("NotIn", f"any-more:app=b {source}:app=a")
    assert not holds("DoesNotExist", f"{source}:app=a")
    assert not holds("In", "port:app=80/TCP")
    assert not holds("Exists", "port:app=80/TCP")
    assert holds("NotIn", "port:app=80/TCP")
    assert holds("DoesNotExist", "port:app=80/TCP")


def test_reserved_identities_and_those_of_cidrs_are_seen_as_what_they_are() -> None:
    live = {number: RESERVED_LABELS[number] for number in (1, 2, 6, 9, 10)}
    for number, cidr in ((1 << 24, "10.0.0.0/8"), ((1 << 24) + 1, "fd00::/8")):
        live[number] = seen_labels(number, label_set([f"cidr:{cidr}"]))
    live[256] = seen_labels(256, label_set(["k8s:app=a"]))
    index = IdentityIndex()
    index.update(live)

    def matched(key: str, source: str = "reserved") -> set[int]:
        return index.track(Selector((Requirement(key, "Exists", source=source),))).numbers

    assert matched("host") == {1}
    assert matched("remote-node") == {6}
    assert matched("world") == {2, 9, 10, 1 << 24, (1 << 24) + 1}
    assert matched("world-ipv4") == {9, 1 << 24}
    assert matched("world-ipv6") == {10, (1 << 24) + 1}
    assert matched("fd00::/8", "cidr") == {(1 << 24) + 1}
    assert index.track(Selector()).numbers == live.keys()


def test_a_value_may_be_empty() -> None:
    selector = Selector((Requirement("app", "In", frozenset({""})),))
    assert matches(selector, labels_of(label_set(["k8s:app="])))
    assert not matches(selector, {})


def test_only_answers_that_changed_are_told() -> None:
    index = IdentityIndex()
    a = index.track(Selector((Requirement("app", "In", frozenset({"a"})),)))
    not_a = index.track(Selector((Requirement("app", "NotIn", frozenset({"a"})),)))
    assert index.update({256: label_set(["k8s:app=a"])}) == [(a, 256)]
    assert index.update({256: label_set(["k8s:app=a"])}) == []
    assert index.update({257: label_set(["k8s:app=b"])}) == [(not_a, 257)]
    assert index.update({256: label_set(["k8s:app=b"])}) == [(a, 256), (not_a, 256)]
    assert index.update({256: None, 258: None}) == [(not_a, 256)]
    assert (a.numbers, not_a.numbers) == (set(), {257})


def test_equal_selectors_share_one_answer_until_nobody_holds_it() -> None:
    index = IdentityIndex()
    selector = Selector((Requirement("app", "Exists"),))
    matched = index.track(selector)
    assert index.track(Selector((Requirement("app", "Exists"),))) is matched
    index.release(matched)
    assert index.track(selector) is matched
    index.release(matched)
    index.release(matched)
    assert index.track(selector) is not matched
    assert index.update({256: label_set(["k8s:app=a"])}) == [(index.track(selector), 256)]


@given(sets, st.lists(selectors, min_size=1, max_size=8))
def test_few_selectors_are_held_against_an_identity(labels: LabelSet, many: list[Selector]) -> None:
    index = IdentityIndex()
    held = [index.track(selector) for selector in many]
    for matched in held:
        for one in range(50):
            index.track(Selector((Requirement("app", "In", frozenset({f"other-{one}"})),)))
        asked = index._suspects(labels_of(labels))
        assert len(asked) <= len(many)
        assert not matches(matched.selector, labels_of(labels)) or matched in asked


def test_named_ports_follow_a_number_that_is_used_again() -> None:
    index = IdentityIndex()
    index.update({256: label_set(["port:http=80/TCP"])})
    having = index.track(Selector((Requirement("http", "Exists", source="port"),)))
    assert index.update({256: label_set(["port:http=8080/TCP"])}) == [(having, 256), (having, 256)]
    assert index.ports(256) == {("http", 8080, "TCP")}
    index.update({256: label_set(["k8s:app=a"])})
    assert index.ports(256) == frozenset()
    assert index.ports(257) == frozenset()
