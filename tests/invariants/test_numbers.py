"""one-number-one-set, on ledgers that break it and on one that does not."""

import pytest

from checked import SETTINGS, Told, allocated, bound, labels_of, records, what
from tabard.events import ledger as events
from tabard.invariants.numbers import OneNumberOneSet


def found(*told: Told) -> list[str]:
    checker = OneNumberOneSet()
    violations = [what(checker.take(record)) for record in records(SETTINGS, *told)]
    assert checker.verdict().violations == sum(map(len, violations))
    return [one for each in violations for one in each]


RIGHT = (
    allocated(256, "web"),
    bound("w1", 256, "web"),
    allocated(257, "db"),
    events.EndpointRelabelled("w1", 257, (("app", "db"),)),
    events.IdentityRetired(256),
    events.IdentityReleased(256),
    allocated(256, "cache"),
    events.EndpointUnbound("w1"),
    events.IdentityRetired(257),
)


def test_numbers_that_stand_for_one_set_at_a_time_are_right() -> None:
    assert found(*RIGHT) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((allocated(256, "web"), allocated(256, "db")), "holds it"),
        ((allocated(256, "web"), allocated(257, "web")), "which holds 256"),
        ((events.IdentityRetired(256),), "which no label set holds"),
        (
            (allocated(256, "web"), bound("w", 256, "web"), events.IdentityRetired(256)),
            "1 pods have",
        ),
        ((bound("w", 256, "web"),), "but no label set holds it"),
        ((allocated(256, "db"), bound("w", 256, "web")), "and the pod is"),
    ],
)
def test_a_number_that_is_wrong_is_found(wrong: tuple[Told, ...], said: str) -> None:
    (one,) = found(*wrong)
    assert said in one


def test_a_namespace_change_that_leaves_a_pod_what_it_was_is_found_in_the_end() -> None:
    checker = OneNumberOneSet()
    labelled = events.NamespaceLabelled("shop", (("team", "red"),))
    told = (SETTINGS, allocated(256, "web"), bound("w", 256, "web"), labelled)
    assert [what(checker.take(record)) for record in records(*told)] == [[], [], [], []]
    (one,) = what(checker.settled())
    assert "pod w" in one


def test_a_planned_change_leaves_a_pod_what_it_was() -> None:
    checker = OneNumberOneSet()
    labels = (*labels_of("web"), "k8s:io.cilium.k8s.namespace.labels.team=red")
    told = (
        SETTINGS,
        allocated(256, "web"),
        bound("w", 256, "web"),
        events.IdentityAllocated(257, tuple(sorted(labels))),
        events.RebindPlanned("shop", (("w", 257),)),
        events.NamespaceLabelled("shop", (("team", "red"),)),
    )
    for record in records(*told):
        assert checker.take(record) == []
    assert checker.settled() == []
