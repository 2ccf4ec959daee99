"""Which rule decides a flow, in each of its halves, as the pure engine reads the policies."""

from conformance.story import Flow
from tabard.dataplane.maps import Reason, address_text
from tabard.ledger.state import ObjectKey, State
from tabard.policy.engine import Engine, Half


def deciding_rule(state: State, flow: Flow) -> str:
    source, destination = address_text(flow.source), address_text(flow.destination)
    decision = Engine(state).decide(source, destination, flow.protocol, flow.port)
    halves = [half for half in decision.halves if half.direction in flow.halves]
    return "; ".join(_told(half) for half in halves) or "no pod stands at an end that counts"


def _told(half: Half) -> str:
    told = f"{half.direction.name.lower()} {'allowed' if half.allowed else 'denied'}"
    if half.rule is not None:
        return f"{told} by {_name(half.rule.policy)} {half.rule.peer_path}"
    if half.reason is Reason.ALLOWED_NO_POLICY:
        return f"{told}: no policy isolates the pod"
    if half.reason is Reason.DENIED_POLICY:
        names = ", ".join(map(_name, half.isolating))
        return f"{told}: no rule allows it of what isolates the pod ({names})"
    return f"{told}: {half.reason.name}"


def _name(key: ObjectKey) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}"
