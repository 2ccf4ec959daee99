"""`tabard metrics` against services played by the test."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from clusters import running
from command import Tabard
from tabard.cli import metrics
from tabard.cluster import profile

READY = {"/readyz": (200, "ok\n"), "/metrics": (200, "tabard_x_total 1\n")}
UNREADY = {"/readyz": (503, "not in sync\n"), "/metrics": (500, "see the service's log\n")}


@contextmanager
def served(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    """A service with these answers; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _meant(tabard: Tabard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster of this machine is, and no bus elsewhere."""
    monkeypatch.delenv("TABARD_NATS")


def claim(http: Mapping[str, str]) -> None:
    profile.claim(replace(running("a"), netns="", http=http), profile.run_directory())


def test_services_are_listed_with_their_readiness_and_a_lack_of_it_exits_with_one(
    tabard: Tabard,
) -> None:
    with served(READY) as first, served(UNREADY) as second:
        claim({"allocator": first, "agent.n1": second})
        result = tabard("metrics")
        named = tabard("metrics", "-o", "name")
        told = tabard("metrics", "-o", "json")
        as_yaml = tabard("metrics", "-o", "yaml")
    assert result.exit_code == 1
    assert [line.split(maxsplit=3) for line in result.stdout.splitlines()] == [
        ["SERVICE", "READY", "URL", "REASON"],
        ["allocator", "yes", first, "-"],
        ["agent.n1", "no", second, "not in sync"],
    ]
    assert named.stdout.split() == ["allocator", "agent.n1"]
    assert yaml.safe_load(as_yaml.stdout) == json.loads(told.stdout)
    assert json.loads(told.stdout)["services"][1] == {
        "name": "agent.n1",
        "url": second,
        "ready": False,
        "reason": "not in sync",
    }


def test_metrics_of_named_services_are_printed_as_they_are(tabard: Tabard) -> None:
    with served(READY) as url:
        claim({"allocator": url, "agent.n1": url})
        result = tabard("metrics", "allocator")
        assert result.exit_code == 0
        assert result.stdout == f"# allocator {url}/metrics\ntabard_x_total 1\n"
        assert tabard("metrics", "allocator", "agent.n1").stdout.count("tabard_x_total 1") == 2


def test_a_service_that_gives_no_answer_or_an_error_is_no_success(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TIMEOUT_S", 0.1)
    with served(UNREADY) as url:
        claim({"allocator": "http://127.0.0.1:1", "agent.n1": url})
        gone = tabard("metrics", "allocator")
        assert gone.exit_code == 3
        assert "no answer from http://127.0.0.1:1" in gone.stderr
        assert tabard("metrics", "agent.n1").exit_code == 3
        assert "no answer" in tabard("metrics").stdout


def test_an_unknown_service_is_a_usage_error_that_names_the_known(tabard: Tabard) -> None:
    claim({"allocator": "http://127.0.0.1:1"})
    result = tabard("metrics", "agent.n9")
    assert result.exit_code == 2
    assert "has no service 'agent.n9': allocator" in result.stderr


def test_without_a_cluster_on_this_machine_it_says_where_metrics_are(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABARD_NATS", "nats://nowhere")
    result = tabard("metrics")
    assert result.exit_code == 1
    assert "TABARD_HTTP" in result.stderr
