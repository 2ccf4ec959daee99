"""What the ledger says of a flow: the pure verdict that real packets are held against."""

from tabard.dataplane.maps import Mode, Protocol, address
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.demo.probe import Target
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler

_NO_MAC = bytes(6)


def attachments(state: State, node: str) -> dict[str, Attachment]:
    """Every pod of `node`, as if attached (interfaces do not matter to a verdict)."""
    return {
        uid: Attachment(uid, place + 1, _NO_MAC, _NO_MAC)
        for place, uid in enumerate(state.by_node.get(node, ()))
    }


class Expectation:
    """Verdicts by the state as it is now; a later change of `state` does not touch it."""

    def __init__(self, state: State, mode: Mode) -> None:
        compiler = Compiler()
        self._judges = {
            node: Judge(compiler.compile(state, node, mode, attachments(state, node)), mode)
            for node in state.nodes
        }
        self._addresses = {uid: pod.addresses for uid, pod in state.endpoints.items()}
        self._names = {
            address: f"{state.endpoints[uid].namespace}/{state.endpoints[uid].name}"
            for address, uid in state.bindings.items()
        }

    def allowed(self, source: str, target: Target) -> bool:
        """Whether a flow's first packet passes, egress and ingress; `source` is an address."""
        return flow_verdict(
            self._judges,
            address(source),
            address(target.address),
            Protocol[target.protocol],
            target.port,
        ).allowed

    def allows_pod(self, uid: str, target: Target, answered: str) -> bool:
        """The same for a pod, which must hold its address in this state; and if it is known who
        `answered` (`namespace/name`), that pod must hold the target's."""
        if answered and "/" in answered and answered != self._names.get(target.address):
            return False
        return any(
            self.allowed(source, target)
            for source in self._addresses.get(uid, ())
            if (":" in source) == (":" in target.address)
        )
