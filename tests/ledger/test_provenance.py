from ledgers import POLICY, append, bound, small
from tabard.bus.memory import MemoryBus
from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.ledger.follow import catch_up
from tabard.ledger.provenance import Life, Provenance, Step
from tabard.ledger.state import State

KEY = ("NetworkPolicy", "shop", "web")


def observed(*told: events.LedgerEvent) -> Provenance:
    """What is known after `told`, at sequences from 1, each caused by OBSERVED of the same."""
    provenance = Provenance()
    for sequence, event in enumerate(told, 1):
        envelope = Envelope(b"i" * 16, "", 1, f"OBSERVED/{sequence}")
        provenance.observe(Recorded("LEDGER", sequence, envelope, event, sequence * 10))
    return provenance


def step(sequence: int, type: str) -> Step:
    return Step(sequence, type, sequence * 10, f"OBSERVED/{sequence}")


def test_each_live_object_names_the_event_that_made_it() -> None:
    found = observed(
        events.SettingsAdopted("c", 0, 8, (), (), ((128, ("k8s:app=fixed",)),), 0),
        events.NodeAdded("n1", (), ()),
        events.NamespaceLabelled("shop", ()),
        events.IdentityAllocated(256, ("k8s:app=web",)),
        bound("web-0"),
        events.PolicyAccepted(*KEY, POLICY, ""),
    )
    assert found.identities == {
        128: step(1, "settings.adopted"),
        256: step(4, "identity.allocated"),
    }
    assert found.nodes == {"n1": step(2, "node.added")}
    assert found.namespaces == {"shop": step(3, "namespace.labelled")}
    assert found.endpoints == {"uid-web-0": Life(step(5, "endpoint.bound"))}
    assert found.policies == {KEY: step(6, "policy.accepted")}
    assert found.policies[KEY].place == "LEDGER/6"


def test_an_endpoint_keeps_its_binding_and_its_latest_change() -> None:
    found = observed(
        bound("web-0"),
        bound("web-1"),
        events.EndpointRelabelled("uid-web-0", 257, ()),
        events.EndpointsRebound("shop", (("uid-web-0", 258), ("uid-web-1", 258))),
        events.EndpointRelabelled("uid-web-1", 259, ()),
    )
    assert found.endpoints == {
        "uid-web-0": Life(step(1, "endpoint.bound"), step(4, "endpoint.rebound")),
        "uid-web-1": Life(step(2, "endpoint.bound"), step(5, "endpoint.relabelled")),
    }


def test_a_newer_version_of_a_policy_takes_the_older_ones_place_and_a_refused_one_does_not() -> (
    None
):
    accepted = events.PolicyAccepted(*KEY, POLICY, "")
    found = observed(accepted, accepted, events.PolicyRefused(*KEY, "spec: wrong", ""))
    assert found.policies == {KEY: step(2, "policy.accepted")}


def test_nothing_is_kept_of_what_is_gone() -> None:
    found = observed(
        events.NodeAdded("n1", (), ()),
        events.NamespaceLabelled("shop", ()),
        events.IdentityAllocated(256, ("k8s:app=web",)),
        bound("web-0"),
        events.PolicyAccepted(*KEY, POLICY, ""),
        events.PolicyForgotten(*KEY),
        events.EndpointUnbound("uid-web-0"),
        events.IdentityRetired(256),
        events.NamespaceForgotten("shop"),
        events.NodeRemoved("n1"),
    )
    assert vars(found) == vars(Provenance())


async def test_catching_up_shows_every_record_once_and_in_order() -> None:
    bus = MemoryBus()
    await append(bus, *small())
    seen: list[int] = []
    await catch_up(bus, State(), 6, lambda record: seen.append(record.sequence))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_name_stands_for_an_address_since_it_was_first_said_and_until_it_is_forgotten() -> None:
    found = observed(
        events.NameResolved("a.example", (("192.0.2.1", 5),)),
        events.NameResolved("a.example", (("192.0.2.1", 9), ("192.0.2.2", 9))),
        events.NameResolved("b.example", (("192.0.2.1", 5),)),
        events.NameForgotten("b.example", ("192.0.2.1",)),
    )
    assert found.names == {
        ("a.example", "192.0.2.1"): step(1, "name.resolved"),
        ("a.example", "192.0.2.2"): step(2, "name.resolved"),
    }
