import pytest

from agent.rig import Ledger, bound, compiled, pod
from tabard.agent.attachments import Attachments, Held, packed, recovered, unpacked
from tabard.events import ledger as events
from tabard.identity.labels import LabelSet
from tabard.policy.compile import Provisional
from world import attachment

POD = pod("new", "10.244.1.7", app="web")


def assumed(ledger: Ledger) -> Held:
    """A pod of a label set that the ledger knows, not yet bound."""
    number = ledger.identity(ledger.labels_of("default", {"app": "web"}))
    return Held(
        attachment("new", 5, Provisional(number, ("10.244.1.7",))),
        "tbnew",
        ledger.state.identities[number].allocated_at,
    )


def provisional(attachments: Attachments) -> Provisional | None:
    return attachments.attached["new"].provisional


def test_what_is_assumed_holds_while_the_ledger_is_silent() -> None:
    ledger, attachments = Ledger(), Attachments()
    attachments.put(held := assumed(ledger))
    attachments.settle(ledger.state)
    assert attachments.get("new") == held


def test_what_is_assumed_ends_when_the_ledger_binds_the_pod() -> None:
    ledger, attachments = Ledger(), Attachments()
    attachments.put(assumed(ledger))
    bound(ledger, POD)
    attachments.settle(ledger.state)
    assert provisional(attachments) is None
    ledger.stop("new")
    ledger.state.tombstones.clear()  # forgotten, as after many others
    attachments.settle(ledger.state)
    assert compiled(ledger, attachments.attached).endpoints == {}


def test_what_is_assumed_ends_when_the_pod_is_stopped_or_refused() -> None:
    for event in (
        events.EndpointTombstoned("new"),
        events.PodRefused("new", "default", "new", "no", False, "n1", (), (), 0, "", (), "", False),
    ):
        ledger, attachments = Ledger(), Attachments()
        attachments.put(assumed(ledger))
        ledger.emit(event)
        attachments.settle(ledger.state)
        assert provisional(attachments) is None


def test_what_is_assumed_ends_when_the_identity_retires_even_if_its_number_is_used_again() -> None:
    ledger, attachments = Ledger(), Attachments()
    attachments.put(held := assumed(ledger))
    assert held.attachment.provisional is not None
    number = held.attachment.provisional.identity
    ledger.retire(number)
    ledger.emit(events.IdentityReleased(number))
    ledger.emit(events.IdentityAllocated(number, LabelSet(("k8s:app=other",))))
    attachments.settle(ledger.state)
    assert provisional(attachments) is None
    assert compiled(ledger, attachments.attached).endpoints == {}


def test_attachments_come_back_from_a_checkpoint_as_they_were() -> None:
    ledger = Ledger()
    held = [assumed(ledger), Held(attachment("b", 6), "")]
    assert unpacked(packed(held)) == {"new": held[0], "b": held[1]}
    assert unpacked(b"") == {}


@pytest.mark.parametrize("data", [b"\xc1", b"\x01", b"\x91\x01", b"\x91\x94\xc0\xc0\xc0\xc0"])
def test_bytes_that_are_no_attachments_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the attachments"):
        unpacked(data)


def test_an_attached_pod_is_recovered_from_the_dataplane_alone() -> None:
    ledger = Ledger()
    held = assumed(ledger)
    maps = compiled(ledger, {"new": held.attachment})
    found = recovered({"new": 5}, maps.endpoints, {}, ledger.state)
    assert found == {"new": Held(held.attachment, "", held.allocated_at)}


def test_an_entry_of_another_pod_at_the_same_interface_is_not_taken_for_this_ones() -> None:
    ledger = Ledger()
    maps = compiled(ledger, {"new": assumed(ledger).attachment})
    assert recovered({"other": 5}, maps.endpoints, {}, ledger.state) == {}


def test_a_guarded_interface_of_which_nothing_else_is_known_stays_closed() -> None:
    assert recovered({"new": 5}, {}, {}, Ledger().state) == {}


def test_a_number_that_the_checkpoint_does_not_know_is_not_assumed() -> None:
    ledger = Ledger()
    maps = compiled(ledger, {"new": assumed(ledger).attachment})
    found = recovered({"new": 5}, maps.endpoints, {}, Ledger().state)
    assert found["new"].attachment.provisional is None


def test_what_the_checkpoint_says_of_an_attached_interface_is_kept() -> None:
    ledger = Ledger()
    held = assumed(ledger)
    saved = {"new": held}
    assert recovered({"new": 5}, {}, saved, ledger.state) == saved
    assert recovered({}, {}, saved, ledger.state) == {}
    assert recovered({"new": 6}, {}, saved, ledger.state) == {}
