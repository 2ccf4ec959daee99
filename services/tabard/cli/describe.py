"""`tabard describe KIND NAME`: all about one object, and the events that made it so."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tabard.bus.port import Bus, Stream
from tabard.cli import history, relations
from tabard.cli.failing import Exit, Failure
from tabard.cli.get import known, past
from tabard.cli.get import named as name_of
from tabard.cli.kinds import SHOWN
from tabard.cli.kinds import workload as workload_kind
from tabard.cli.moments import At
from tabard.cli.past import replayed, sequence_at, stored_at
from tabard.cli.printing import Output, show_value
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row, row
from tabard.cli.sections import show_sections
from tabard.cli.tables import VIEWS
from tabard.cli.views import Reading
from tabard.ledger.state import State
from tabard.manifests.workloads import API_VERSIONS
from tabard.policy.reading import CLUSTERWIDE_KINDS, REFERENT_KINDS

STREAM_EVENTS = 5
"""How many of a stream's last messages are shown."""


@dataclass(frozen=True, slots=True)
class Name:
    """What an object is called: by `[[kind/]namespace/]name`, as far as it was given."""

    name: str
    namespace: str | None = None
    kind: str | None = None

    def fits(self, row: Row) -> bool:
        """Whether a row of a kind with namespaces is called so."""
        return (
            row["name"] == self.name
            and self.namespace in (None, row["namespace"])
            and (self.kind is None or self.kind.lower() == row["kind"].lower())
        )


RELATED: Mapping[str, Callable[[Reading, Row], Row]] = {
    "pods": relations.of_pod,
    "identities": relations.of_identity,
    "nodes": relations.of_node,
    "policies": relations.of_policy,
    "bindings": relations.of_binding,
    "names": relations.of_name,
    "workloads": relations.of_workload,
}


def named(kind: str, text: str, namespace: str) -> Name:
    """Failure (usage) if `text` is no name of a `kind`."""
    if kind == "streams":
        return Name(text.upper())
    if kind == "bindings":
        try:
            return Name(str(ipaddress.ip_address(text)))
        except ValueError:
            raise Failure(f"{text!r} is no address", "tabard get bindings", Exit.USAGE) from None
    if kind == "identities":
        if not (text.isascii() and text.isdigit()):
            raise Failure(f"{text!r} is no number", "tabard get identities", Exit.USAGE)
        return Name(str(int(text)))
    if kind == "nodes":
        return Name(text)
    if kind == "names":
        return Name(text.lower().removesuffix("."))
    parts = text.split("/")
    most = 3 if kind in ("policies", "workloads") else 2
    if not all(parts) or len(parts) > most:
        form = "[KIND/]NS/NAME" if most == 3 else "NS/NAME"
        raise Failure(f"{text!r} is not {form}", f"tabard get {kind}", Exit.USAGE)
    if kind == "workloads" and len(parts) == 3:
        parts[0] = workload_kind(parts[0], API_VERSIONS) or parts[0]
    elif kind == "workloads" and len(parts) == 2 and namespace not in ("", parts[0]):
        # KIND/NAME, as `scale` takes it.
        owner = workload_kind(parts[0], API_VERSIONS)
        if owner is not None:
            return Name(parts[1], namespace, owner)
    elif kind == "policies" and len(parts) == 2:
        clusterwide = {each.lower(): each for each in CLUSTERWIDE_KINDS}
        if parts[0].lower() in clusterwide:
            return Name(parts[1], "", clusterwide[parts[0].lower()])
    if len(parts) > 1 and namespace not in ("", parts[-2]):
        raise Failure(f"{text!r} is not in namespace {namespace}", "leave -n out", Exit.USAGE)
    return Name(
        parts[-1],
        parts[-2] if len(parts) > 1 else namespace or None,
        parts[0] if len(parts) > 2 else None,
    )


def _concerns(kind: str, name: Name) -> history.Concerns:
    match kind:
        case "pods":
            return history.of_pod(name.namespace, name.name)
        case "identities":
            return history.of_identity(int(name.name))
        case "nodes":
            return history.of_node(name.name)
        case "policies":
            return history.of_policy(name.namespace, name.name)
        case "workloads":
            return history.of_workload(name.namespace, name.name)
        case "names":
            return history.of_name(name.name)
        case "bindings":
            return history.of_binding(name.name)
    raise AssertionError(f"{kind} have no history in the ledger")


def chosen(kind: str, name: Name, reading: Reading, events: list[Row]) -> Row:
    """The row that is meant; Failure if there is none, or more than one."""
    view = VIEWS[kind]
    singular = SHOWN[kind][0]
    if kind in ("pods", "policies", "workloads"):
        found = [each for each in view.rows(reading) if name.fits(each)]
    else:
        found = [each for each in view.rows(reading) if str(each[view.name[0]]) == name.name]
    place = "/".join(filter(None, (name.kind, name.namespace, name.name)))
    if not found:
        fact = f"there is no {singular} {place} at LEDGER/{reading.state.sequence}"
        if not events:
            raise Failure(fact, f"tabard get {kind}")
        last, data = events[-1]["sequence"], events[-1]["data"]
        key = (data.get("kind"), data.get("namespace"), data.get("name"))
        if kind == "policies" and key[0] in REFERENT_KINDS and key in reading.state.policies:
            raise Failure(
                f"{key[0]} {place} is no policy, but what policies refer to; "
                f"LEDGER/{last} accepted it",
                f"tabard events show {last}",
            )
        raise Failure(
            f"{fact}; its last event is LEDGER/{last} ({events[-1]['type']})",
            f"tabard describe {singular} {place} --at {last - 1}",
        )
    called = {tuple(each[key] for key in ("kind", *view.name) if key in each) for each in found}
    if len(called) > 1:
        names = ["/".join(filter(None, map(str, each))) for each in sorted(called)]
        raise Failure(
            f"{singular} {place} may be {', '.join(names)}",
            f"tabard describe {singular} {names[0]}",
        )
    # Of two incarnations of one pod the newer one is meant.
    return max(found, key=lambda each: each.get("sequence") or 0)


def describe(
    kind: str, text: str, namespace: str, at: At | None, output: Output, cluster: str, nats: str
) -> None:
    singular = SHOWN[kind][0]

    async def work(bus: Bus, target: Target) -> Row:
        name = named(kind, text, namespace)
        if kind == "streams":
            return await _stream(bus, name)
        state, events = State(), list[Row]()
        through, concerns = await sequence_at(bus, at), _concerns(kind, name)
        async for message, record in replayed(bus, state, through):
            if concerns(record.event):
                events.append(row(Stream.LEDGER, message))
        reading = await known(bus, state) if at is None else await past(bus, state)
        found = chosen(kind, name, reading, events)
        return {
            "sequence": state.sequence,
            "stored_at": await stored_at(bus, state.sequence),
            singular: found,
            **RELATED[kind](reading, found),
            "history": _about(kind, found, events),
        }

    found = with_bus(f"describe {singular} {text}", cluster, nats, work)
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            print(name_of(kind, found[singular]))
        case _:
            show_sections(kind, found, wide=output is Output.WIDE)


def _about(kind: str, found: Row, events: list[Row]) -> list[Row]:
    """Of the events about a name those about what was chosen by it: it was given without all."""
    if kind not in ("pods", "policies", "workloads"):
        return events
    own = [
        each
        for each in events
        if all(each["data"].get(key) in (None, found.get(key)) for key in ("kind", "namespace"))
    ]
    if kind != "pods":
        return own
    # Only what binds or refuses a pod says where it is.
    uids = {each["data"]["uid"] for each in own if {"uid", "namespace"} <= each["data"].keys()}
    return [
        each
        for each in events
        if each["data"].get("uid") in uids
        or any(uid in uids for uid, _ in each["data"].get("changes", ()))
    ]


async def _stream(bus: Bus, name: Name) -> Row:
    if name.name not in set(Stream):
        raise Failure(f"there is no stream {name.name}", "tabard get streams", Exit.USAGE)
    info = await bus.info(stream := Stream(name.name))
    (found,) = VIEWS["streams"].rows(Reading(State(), streams=(info,)))
    start = max(info.first, info.last - STREAM_EVENTS + 1)
    messages = await bus.read(stream, start, STREAM_EVENTS) if info.messages else []
    head = info.last if stream is Stream.LEDGER else await bus.last_sequence(Stream.LEDGER)
    return {
        "sequence": head,
        "stored_at": await stored_at(bus, head),
        "stream": found,
        "last": [row(stream, message) for message in messages],
    }
