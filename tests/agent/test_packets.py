from typing import Any

import pytest

from agent.rig import Ledger, Recorder, bound, pod
from tabard.agent.packets import judge
from tabard.dataplane.maps import Maps, Mode
from tabard.policy.compile import Attachment, Compiler
from tabard.policy.diff import diff
from world import network_policy


@pytest.fixture
def dataplane() -> Recorder:
    """Pods `web` (10.244.1.5) and `db` (10.244.1.6), who takes only port 5432."""
    ledger, made = Ledger(), Recorder()
    attachments = {}
    for uid, ip in (("web", "10.244.1.5"), ("db", "10.244.1.6")):
        bound(ledger, pod(uid, ip, app=uid))
        ifindex, host_mac = made.attach(uid, f"tb{uid}")
        attachments[uid] = Attachment(uid, ifindex, b"\2" * 6, host_mac)
    allowed = [{"ports": [{"port": 5432}]}]
    ledger.policy(network_policy("p", podSelector={"matchLabels": {"app": "db"}}, ingress=allowed))
    made.write(diff(Maps(), Compiler().compile(ledger.state, "n1", Mode.OVERLAY, attachments)))
    return made


def packet(hook: str, port: int = 5432, **fields: Any) -> dict[str, Any]:
    return {
        "hook": hook,
        "source": "10.244.1.5",
        "destination": "10.244.1.6",
        "protocol": 6,
        "source_port": 40_000,
        "destination_port": port,
        "tcp_flags": 2,
        **fields,
    }


def test_a_packet_goes_from_pod_to_pod_as_the_policy_says(dataplane: Recorder) -> None:
    sent = judge(dataplane, packet("from_pod", uid="web"))
    assert (sent["action"], sent["uid"], sent["reason"]) == (
        "deliver",
        "db",
        "allowed_no_policy",
    )
    mark = sent["identity"]
    taken = judge(dataplane, packet("to_pod", uid="db", mark=mark))
    assert (taken["action"], taken["reason"]) == ("pass", "allowed_policy")
    denied = judge(dataplane, packet("to_pod", port=80, uid="db", mark=mark))
    assert (denied["action"], denied["reason"]) == ("drop", "denied_policy")


def test_packets_of_the_tunnel_and_the_wire_are_judged(dataplane: Recorder) -> None:
    far = packet("from_overlay", source="10.244.2.9", outer_source="192.168.9.2", tunnel_id=256)
    assert judge(dataplane, far)["action"] == "deliver"
    stranger = judge(dataplane, far | {"outer_source": "192.168.9.77"})
    assert stranger["reason"] == "denied_unknown_node"
    assert judge(dataplane, packet("from_wire"))["reason"] == "denied_spoofed_source"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        packet("from_nowhere"),
        packet("from_pod", uid="nobody"),
        packet("from_wire", source="x"),
        packet("from_wire") | {"protocol": "tcp"},
    ],
)
def test_fields_that_describe_no_packet_are_refused(
    dataplane: Recorder, fields: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of pydantic, of ipaddress and of our own
        judge(dataplane, fields)
