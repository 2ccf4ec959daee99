"""`tabard auth`: the directory of keys and certificates, and its servers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabard.auth.directory import AuthError, Directory, begin, opened
from tabard.auth.roles import ABOUT, Holder, HolderFault, Role, accounts_rights, holder, rights
from tabard.cli.failing import Exit, Failure, fail
from tabard.cli.printing import Output, counted, show_table, show_value, tell
from tabard.cli.reach import Target, target
from tabard.cluster import guard
from tabard.cluster.errors import ClusterError

FIRST = tuple(Holder(role) for role in Role if role is not Role.AGENT)
"""Who has a key from the start on, beside the nodes."""
NODE, SERVER, TLS, ALL = "node", "server", "tls", "all"


@dataclass(frozen=True, slots=True)
class Place:
    """An auth directory and, if it is a running cluster's, whose."""

    directory: Directory
    cluster: Target | None


def init(path: str, servers: Sequence[str], nodes: Sequence[str]) -> None:
    def work() -> None:
        named = dict(map(_server, servers))
        holders = [*FIRST, *(Holder(Role.AGENT, node) for node in _split(nodes))]
        made = begin(Path(path).absolute(), named, holders, datetime.now(UTC))
        tell(f"{counted(len(holders), 'key')} and {counted(len(named), 'certificate')} in {path}")
        tell(
            f"nats-server includes {made.accounts}; `tabard auth list --dir {path}` shows the rest"
        )

    _carry_out("make an auth directory", work)


def add(role: str, name: str, path: str, cluster: str) -> None:
    def work() -> None:
        place = _place(path, cluster)
        if role == SERVER:
            place.directory.add_servers(dict([_server(name)]), datetime.now(UTC))
            tell(f"certificate: {place.directory.certificate(name.partition('=')[0])}")
        else:
            who = holder(f"{Role.AGENT if role == NODE else role}{'.' if name else ''}{name}")
            place.directory.add([who])
            tell(f"{who}: TABARD_NATS_NKEY={place.directory.seed(who)}")
        _tell_servers(place)

    _carry_out(f"add {role} {name}".rstrip(), work)


def revoke(text: str, path: str, cluster: str) -> None:
    def work() -> None:
        place = _place(path, cluster)
        place.directory.revoke(holder(text))
        tell(f"{text} has no key any more")
        _tell_servers(place)

    _carry_out(f"revoke {text}", work)


def rotate(what: Sequence[str], finish: bool, path: str, cluster: str) -> None:
    def work() -> None:
        place = _place(path, cluster)
        directory, now = place.directory, datetime.now(UTC)
        holders = _chosen(directory, what)
        if ALL in what or TLS in what:
            directory = directory.finish_tls(now) if finish else directory.rotate_tls(now)
        directory = directory.finish(holders) if finish else directory.rotate(holders)
        _tell_servers(place)
        words = " ".join(what)
        if finish:
            tell("what was there before is void")
        else:
            tell(f"old and new count side by side until: tabard auth rotate {words} --finish")

    _carry_out(f"rotate {' '.join(what)}", work)


def listed(output: Output, path: str, cluster: str) -> None:
    found: list[dict[str, Any]] = []

    def work() -> None:
        found.append(_described(_place(path, cluster).directory))

    _carry_out("show the keys", work)
    (shown,) = found
    match output:
        case Output.JSON | Output.YAML:
            show_value(shown, output)
        case Output.NAME:
            for each in shown["holders"]:
                print(each["holder"])
        case _:
            _show(shown, output)
    if any(each["fault"] for each in shown["holders"]):
        raise SystemExit(Exit.FAILED)


def roles(output: Output) -> None:
    rows = [_role(role) for role in Role]
    match output:
        case Output.JSON | Output.YAML:
            show_value({"roles": rows}, output)
        case Output.NAME:
            for each in rows:
                print(each["role"])
        case _:
            more = ("about",) if output is Output.TABLE else ("writes", "asks", "hears")
            keys = ("role", "account", *more)
            show_table([key.upper() for key in keys], ([row[key] for key in keys] for row in rows))


def _role(role: Role) -> dict[str, Any]:
    of = accounts_rights(role)
    return {
        "role": role.value,
        "account": of.account,
        "about": ABOUT[role],
        "writes": list(of.writes),
        "asks": list(of.asks),
        "hears": [str(each) for each in of.hears],
    }


def _described(directory: Directory) -> dict[str, Any]:
    book = directory.book
    return {
        "path": str(directory.path),
        "holders": [
            {
                "holder": str(who),
                "account": rights(who).account,
                "keys": list(given.valid),
                "file": str(directory.seed(who)),
                "fault": directory.fault(who, given.key),
            }
            for who, given in sorted(book.keys.items())
        ],
        "servers": [
            {
                "server": name,
                "hosts": list(hosts),
                "expires": f"{directory.about(name).expires:%Y-%m-%d}",
            }
            for name, hosts in sorted(book.servers.items())
        ],
        "authority": {
            "expires": f"{directory.about_authority().expires:%Y-%m-%d}",
            "rotating": book.authority_follows,
        },
    }


def _show(shown: dict[str, Any], output: Output) -> None:
    show_table(
        ["HOLDER", "ACCOUNT", "KEY", "STATE", "FILE"],
        (
            [
                each["holder"],
                each["account"],
                ",".join(each["keys"]) if output is Output.WIDE else each["keys"][0][:12] + "…",
                each["fault"] or ("rotating" if len(each["keys"]) > 1 else "valid"),
                each["file"],
            ]
            for each in shown["holders"]
        ),
    )
    print()
    authority = ["authority", "-", shown["authority"]["expires"]]
    servers = [[each["server"], each["hosts"], each["expires"]] for each in shown["servers"]]
    show_table(["CERTIFICATE", "HOSTS", "EXPIRES"], [authority, *servers])
    if shown["authority"]["rotating"]:
        tell("certificates are being rotated: tabard auth rotate tls --finish ends it")


def _place(path: str, cluster: str) -> Place:
    if path:
        return Place(opened(Path(path).absolute()), None)
    chosen = target(cluster, "")
    profile = chosen.profile
    if profile is None:
        raise Failure("no cluster of this machine is meant", "tabard auth list --dir DIR")
    found = guard.place(Path(profile.data))
    if profile.nkey and not found.exists():
        raise Failure(
            f"the keys of cluster {profile.name}'s bus were given to it by --auth",
            f"the same command with --dir {Path(profile.nkey).parent.parent}",
        )
    if not profile.nkey:
        raise Failure(
            f"the bus of cluster {profile.name} is not guarded by keys of its own",
            "tabard up --secure",
        )
    return Place(opened(found), chosen)


def _tell_servers(place: Place) -> None:
    if place.cluster is not None and place.cluster.profile is not None:
        with place.cluster.inside():
            told = guard.reload_servers(place.cluster.profile)
        tell(f"in force at {', '.join(told) or 'no server: none runs'}")
    else:
        tell("now have each nats-server read its files again: nats-server --signal reload=PID")


def _chosen(directory: Directory, what: Sequence[str]) -> list[Holder]:
    """The holders that words mean: themselves, a role's, or all."""
    found: list[Holder] = []
    for word in what:
        if word == ALL:
            found += directory.book.keys
        elif word in set(Role):
            found += [who for who in directory.book.keys if who.role == word]
        elif word != TLS:
            found.append(holder(word))
    return sorted(set(found))


def _server(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, hosts = text.partition("=")
    if not equals:
        raise Failure(f"--server {text}: write NAME=HOST,…", code=Exit.USAGE)
    return name, tuple(_split([hosts]))


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _carry_out(what: str, work: Callable[[], None]) -> None:
    try:
        work()
    except AuthError as error:
        fail(what, Failure(str(error), error.next))
    except HolderFault as error:
        fail(what, Failure(str(error), "tabard auth roles", Exit.USAGE))
    except ClusterError as error:
        fail(what, error)
