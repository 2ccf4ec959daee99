"""Which rule decides a flow, in each of its halves, as the pure engine reads the policies."""

from conformance.story import Flow
from tabard.dataplane.maps import Direction, Reason, address_text
from tabard.ledger.state import ObjectKey, State
from tabard.policy.engine import Engine
from tabard.policy.misses import misses
from tabard.policy.rulings import Decision, Half


def deciding_rule(state: State, flow: Flow) -> str:
    engine = Engine(state)
    source, destination = address_text(flow.source), address_text(flow.destination)
    decision = engine.decide(source, destination, flow.protocol, flow.port)
    halves = [half for half in decision.halves if half.direction in flow.halves]
    told = [_told(engine, decision, half, flow) for half in halves]
    return "; ".join(told) or "no pod stands at an end that counts"


def _told(engine: Engine, decision: Decision, half: Half, flow: Flow) -> str:
    """The rule that allows it; or what isolates the pod, and what the nearest rule lacks."""
    told = f"{half.direction.name.lower()} {'allowed' if half.allowed else 'denied'}"
    if half.rule is not None:
        return f"{told} by {_name(half.rule.policy)} {half.rule.peer_path}"
    if half.reason is Reason.ALLOWED_NO_POLICY:
        return f"{told}: no policy isolates the pod"
    if half.reason is not Reason.DENIED_POLICY:
        return f"{told}: {half.reason.name}"
    ends = (decision.source, decision.destination)
    subject, peer = ends if half.direction is Direction.EGRESS else ends[::-1]
    nearest = misses(engine, half.direction, subject, peer, flow.protocol, flow.port)[0]
    isolating = ", ".join(map(_name, half.isolating))
    return (
        f"{told}, being isolated by {isolating}; nearest is {_name(nearest.policy)} "
        f"{nearest.path}: {nearest.why}"
    )


def _name(key: ObjectKey) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}"
