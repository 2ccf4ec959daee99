"""`tabard metrics`: where each service is served, whether it is ready, and what it measures."""

import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tabard.cli.failing import Exit, Failure, fail
from tabard.cli.printing import Output, show_table, show_value
from tabard.cli.reach import target
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.profile import Profile

TIMEOUT_S = 5.0
"""A service that is down answers when it is up again: the cluster holds its socket."""
ASKED_MAX = 16
"""Services asked at a time."""

COLUMNS = ("SERVICE", "READY", "URL", "REASON")


def metrics(services: list[str], output: Output, cluster: str) -> None:
    """Exit.FAILED if one gives no answer or, without `services`, is not ready."""
    try:
        profile = _here(cluster)
        if unknown := [name for name in services if name not in profile.http]:
            raise Failure(
                f"cluster {profile.name} has no service {unknown[0]!r}: {', '.join(profile.http)}",
                "tabard metrics",
                Exit.USAGE,
            )
        if services:
            for text in _each(services, lambda name: _text(name, profile.http[name])):
                print(text, end="")
            return
    except ClusterError as error:
        fail("show metrics", error)
    found = rows(profile)
    match output:
        case Output.JSON | Output.YAML:
            show_value({"services": found}, output)
        case Output.NAME:
            for each in found:
                print(each["name"])
        case _:
            show_table(
                COLUMNS,
                (
                    [each["name"], "yes" if each["ready"] else "no", each["url"], each["reason"]]
                    for each in found
                ),
            )
    if not all(each["ready"] for each in found):
        raise SystemExit(Exit.FAILED)


def rows(profile: Profile) -> list[dict[str, Any]]:
    """`row` of each of the cluster's services."""
    return _each(list(profile.http), lambda name: row(name, profile.http[name]))


def row(name: str, url: str) -> dict[str, Any]:
    """{name, url, ready, reason}; the reason is the service's, or why it gave no answer."""
    try:
        status, body = _get(f"{url}/readyz")
    except NotReached as error:
        return {"name": name, "url": url, "ready": False, "reason": str(error)}
    ready = status == 200
    return {"name": name, "url": url, "ready": ready, "reason": "" if ready else body.strip()}


def _here(cluster: str) -> Profile:
    profile = target(cluster, "").profile
    if profile is None or not profile.http:
        raise Failure(
            "services are asked on their own machine, and no cluster of this one is meant; "
            "elsewhere each serves /metrics where its TABARD_HTTP says"
        )
    return profile


def _each(names: list[str], ask: Callable[[str], Any]) -> list[Any]:
    with ThreadPoolExecutor(ASKED_MAX, thread_name_prefix="metrics") as threads:
        return list(threads.map(ask, names))


def _text(name: str, url: str) -> str:
    status, body = _get(f"{url}/metrics")
    if status != 200:
        raise NotReached(f"{name} at {url} answered {status}: {body.strip()}")
    return f"# {name} {url}/metrics\n{body}"


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        raise NotReached(f"no answer from {url}: {error}", "tabard metrics") from error
