"""The table of roles as nats-server's accounts: a file for its configuration to include. Pure.

It holds public keys and no secret.
"""

from collections.abc import Iterable, Mapping, Sequence

from tabard.auth.keys import inbox_of
from tabard.auth.roles import (
    STREAMS,
    SYSTEM,
    Holder,
    Rights,
    Role,
    accounts_rights,
    rights,
    several_answers,
)
from tabard.bus.config import quoted
from tabard.bus.port import Stream
from tabard.bus.subjects import API, GUARDED_API, live_subject

CONNECTIONS_MAX = 10_000
"""Connections of one account to one server, which takes 65,536 of all: so nobody's key keeps those
out who decide, or who would revoke it."""


def text(keys: Mapping[Holder, Sequence[str]]) -> str:
    """`system_account` and `accounts { … }` for these holders and their public keys.

    A holder may have several keys, of which each is as good as the others.
    """
    every = {role: accounts_rights(role) for role in Role}
    foreign = {role: of for role, of in every.items() if of.account not in (STREAMS, SYSTEM)}
    lines = [
        "# Written by `tabard auth`; changes are lost. Public keys only.",
        f"system_account: {SYSTEM}",
        "accounts {",
        f"  {STREAMS} {{",
        "    jetstream: enabled",
        f"    mappings {{ {quoted(GUARDED_API + '.>')}: {quoted(API + '.>')} }}",
        *_users(keys, STREAMS),
        "    exports: [",
        *_exports(foreign.values()),
        "    ]",
        "  }",
        f"  {SYSTEM} {{",
        *_users(keys, SYSTEM),
        "  }",
    ]
    for of in foreign.values():
        lines += [
            f"  {of.account} {{",
            f"    limits {{ max_connections: {CONNECTIONS_MAX} }}",
            *_users(keys, of.account),
            "    imports: [",
            *_imports(of),
            "    ]",
            "  }",
        ]
    return "\n".join([*lines, "}"]) + "\n"


def permissions(who: Holder, public: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The subjects that a key may publish to, and subscribe to."""
    of = rights(who)
    inbox = inbox_of(public) + ".>"
    if of.account == SYSTEM:
        return (">",), (">",)
    # In the streams' own account questions are mapped to the server's, and then looked at.
    api = API if of.account == STREAMS else GUARDED_API
    questions = (f"{api}.{question}" for question in of.asks)
    return (*of.writes, *questions, inbox), (*map(live_subject, map(Stream, of.hears)), inbox)


def _users(keys: Mapping[Holder, Sequence[str]], account: str) -> Iterable[str]:
    yield "    users: ["
    for who, publics in sorted(keys.items()):
        if rights(who).account == account:
            for public in publics:
                publish, subscribe = permissions(who, public)
                yield f"      # {who}"
                yield f"      {{ nkey: {public}, permissions: {{"
                yield f"        publish: {{ allow: [{_listed(publish)}] }}"
                yield f"        subscribe: {{ allow: [{_listed(subscribe)}] }}"
                yield "      } }"
    yield "    ]"


def _exports(foreign: Iterable[Rights]) -> Iterable[str]:
    importers: dict[str, list[str]] = {}
    for of in foreign:
        for told in _shared(of):
            importers.setdefault(told, []).append(of.account)
    for told, accounts in sorted(importers.items()):
        yield f"      {{ {told}, accounts: [{', '.join(sorted(accounts))}] }}"


def _shared(of: Rights) -> Iterable[str]:
    """What an account is given, each as an export says it."""
    for written in of.writes:
        yield f"service: {quoted(written)}"
    for question in of.asks:
        stream = ", response_type: stream" if several_answers(question) else ""
        yield f"service: {quoted(f'{API}.{question}')}{stream}"
    for heard in of.hears:
        yield f"stream: {quoted(live_subject(Stream(heard)))}"


def _imports(of: Rights) -> Iterable[str]:
    for written in of.writes:
        yield f"      {{ service: {_from(written)} }}"
    for question in of.asks:
        to = quoted(f"{GUARDED_API}.{question}")
        yield f"      {{ service: {_from(f'{API}.{question}')}, to: {to} }}"
    for heard in of.hears:
        yield f"      {{ stream: {_from(live_subject(Stream(heard)))} }}"


def _from(told: str) -> str:
    return f"{{ account: {STREAMS}, subject: {quoted(told)} }}"


def _listed(subjects: Iterable[str]) -> str:
    return ", ".join(map(quoted, subjects))
