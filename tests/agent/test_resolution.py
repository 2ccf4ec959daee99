import dataclasses

import pytest

from agent.rig import Ledger, bound, pod
from tabard.agent.errors import Code, GateError
from tabard.agent.resolution import label_set, resolve
from tabard.events import ledger as events
from tabard.ledger.state import State

POD = pod("a", "10.244.1.5", app="web")


def known(ledger: Ledger) -> int:
    return ledger.identity(ledger.labels_of("default", {"app": "web"}))


def refusal(ledger: Ledger, reason: str, retry: bool = False) -> None:
    ledger.emit(
        events.PodRefused("a", "default", "a", reason, retry, "n1", (), (), 0, "", (), "", False)
    )


def test_a_known_label_set_is_resolved() -> None:
    ledger = Ledger()
    assert resolve(ledger.state, POD) is None
    number = known(ledger)
    assert resolve(ledger.state, POD) == number


def test_the_namespaces_labels_and_the_named_ports_are_part_of_the_set() -> None:
    ledger = Ledger()
    number = known(ledger)
    assert resolve(ledger.state, dataclasses.replace(POD, ports=(("http", 80, "TCP"),))) is None
    ledger.namespace("default", {"team": "a"})
    assert resolve(ledger.state, POD) is None
    assert resolve(ledger.state, POD) != number


def test_a_bound_pod_has_the_identity_that_the_ledger_says() -> None:
    ledger = Ledger()
    bound(ledger, POD)
    ledger.relabel("a", {"app": "db"})
    assert resolve(ledger.state, POD) == ledger.state.endpoints["a"].identity


def test_without_settings_nothing_can_be_told() -> None:
    assert label_set(State(), POD) is None
    assert resolve(State(), POD) is None


def test_an_address_that_another_pod_holds_waits_for_the_ledger() -> None:
    ledger = Ledger()
    known(ledger)
    bound(ledger, pod("older", "10.244.1.5", app="db"))
    assert resolve(ledger.state, POD) is None
    ledger.stop("older")
    assert resolve(ledger.state, POD) is not None


def test_a_stopped_pod_is_refused() -> None:
    ledger = Ledger()
    known(ledger)
    ledger.emit(events.EndpointTombstoned("a"))
    with pytest.raises(GateError, match="stopped at LEDGER/") as caught:
        resolve(ledger.state, POD)
    assert caught.value.code is Code.REFUSED


@pytest.mark.parametrize("retry", [False, True])
def test_a_refused_pod_is_refused_with_the_ledgers_reason(retry: bool) -> None:
    ledger = Ledger()
    known(ledger)
    refusal(ledger, "no identity number is free", retry)
    with pytest.raises(GateError, match="no identity number is free"):
        resolve(ledger.state, POD)
    bound(ledger, POD)
    assert resolve(ledger.state, POD) is not None


def test_a_pod_of_another_node_is_refused() -> None:
    ledger = Ledger()
    bound(ledger, dataclasses.replace(POD, node="n2"))
    with pytest.raises(GateError, match="bound to node n2"):
        resolve(ledger.state, POD)
