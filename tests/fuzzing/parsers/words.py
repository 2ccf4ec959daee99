"""What people write: manifests, settings, profiles, arguments."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from fuzzing.parsers.judging import judged
from fuzzing.parsers.mutation import BYTES, JSON, YAML
from fuzzing.parsers.target import Target
from tabard.agent.settings import Settings as AgentSettings
from tabard.allocator.settings import Settings as AllocatorSettings
from tabard.auth import book, keys
from tabard.cli import moments, naming, selector
from tabard.cluster import profile
from tabard.cluster.errors import ClusterError
from tabard.manifests import objects, source
from tabard.manifests.errors import ManifestError
from tabard.manifests.forecast import forecast
from tabard.process.environment import WRONG_SETTINGS, settings_or_exit
from tabard.source.settings import Settings as SourceSettings

ROOT = Path(__file__).parents[3]


def _manifests() -> list[bytes]:
    texts = [path.read_text() for path in sorted((ROOT / "compose/shop").glob("*.yaml"))]
    texts.append((ROOT / "tests/golden/languages.yaml").read_text())
    values = [json.dumps(value) for text in texts for value in yaml.safe_load_all(text) if value]
    return [text.encode() for text in (*texts, *values)]


def _manifest(data: bytes) -> None:
    """What is taken can be foretold, compiled and judged, or is refused by its field."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    judged(forecast(objects.check(source.load(text, "file.yaml")).objects))


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def _text(data: bytes) -> str:
    """As the shell hands an argument over."""
    return os.fsdecode(data.replace(b"\0", b"")[:4096])


NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def _named(data: bytes) -> None:
    text = _text(data)
    for read in (naming.place, naming.outside, naming.port):
        with contextlib.suppress(naming.NamingError):
            read(text)


_SETTINGS = {"agent": AgentSettings, "allocator": AllocatorSettings, "source": SourceSettings}


def _environments() -> list[bytes]:
    common = {
        "NATS": "nats://127.0.0.1:4222,nats://[::1]:4222",
        "CLUSTER": "demo",
        "DATA": "/tmp/x",
    }
    common |= {"HTTP": "127.0.0.1:0", "LOG_LEVEL": "debug", "LOG_FORMAT": "json"}
    own: Mapping[str, Mapping[str, str]] = {
        "agent": {
            "NODE": "n1", "UNDERLAY": "192.0.2.1,2001:db8::1", "POD_CIDRS": "10.1.0.0/24,fd00::/64",
            "NODE_LABELS": "role=edge,zone=a", "MODE": "native", "DATAPLANE": "memory",
            "TICK_SPACING_MS": "3", "HOSTS_MAX": "1000", "RCU_EXPEDITED": "0", "SOCKET": "/run/x",
        },
        "allocator": {
            "HOLDER": "allocator-1", "NUMBERS_CLUSTER_ID": "3", "NUMBERS_CLUSTER_BITS": "8",
            "LABELS_INCLUDE": '["app.*"]', "LABELS_EXCLUDE": '["noise", "x[0-9]+"]',
            "FIXED": '{"128": ["k8s:app=dns"]}', "RETIRE_GRACE_MS": "1000", "ENFORCEMENT": "always",
        },
        "source": {"PODS": "memory", "NODES_DIR": "/tmp/n", "KEEP_PODS": "true"},
    }  # fmt: skip
    return [json.dumps([name, {**common, **more}]).encode() for name, more in own.items()]


def _settings(data: bytes) -> None:
    """A wrong setting ends the process with the exit code for that, and a line of what is wrong."""
    try:
        name, values = json.loads(data)
        kind, values = _SETTINGS[name], dict(values)
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    given = {
        f"TABARD_{key}".encode(errors="surrogateescape"): value.encode(errors="surrogatepass")
        for key, value in values.items()
        if isinstance(value, str) and "\0" not in value + key and key.isascii() and "=" not in key
    }
    said = io.StringIO()
    with mock.patch.dict(os.environ, clear=True), contextlib.redirect_stderr(said):
        for variable, value in given.items():
            os.environ[os.fsdecode(variable)] = os.fsdecode(value)
        found, code = None, None
        try:
            found = settings_or_exit(kind)  # type: ignore[type-var]
        except SystemExit as error:
            code = error.code
    told = any(line.startswith("TABARD_") for line in said.getvalue().splitlines())
    assert found or (code == WRONG_SETTINGS and told)
    if isinstance(found, AllocatorSettings):
        found.adopted()
    if isinstance(found, AgentSettings):
        assert dict(found.labels)
        found.map_sizes()


def _profiles() -> list[bytes]:
    fields: dict[str, Any] = {
        "name": "demo", "pid": 1, "started": 2, "nats": ["nats://127.0.0.1:4222"], "netns": "tbd",
        "data": "/tmp/x", "keep_data": False, "nodes": ["n1"], "mode": "overlay",
        "dataplane": "ebpf", "pods": "netns", "http": {"allocator": "http://127.0.0.1:1"},
    }  # fmt: skip
    return [json.dumps(fields).encode()]


def _profile(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "demo.json").write_bytes(data)
        found = profile.read("demo", Path(directory))
    assert found is not None
    found.socket("n1")
    assert found.alive in (True, False)


def _books() -> list[bytes]:
    first, second, third = (keys.new_key().public for _ in range(3))
    document = {
        "version": 1,
        "servers": {"nats-1": ["127.0.0.1", "nats-1.example"]},
        "keys": {"allocator": [first], "agent.n1": [second, third], "operator": [third]},
        "authority_follows": False,
    }
    return [json.dumps(document).encode()]


def _seeds() -> list[bytes]:
    return [keys.new_key().seed.encode(), keys.new_key().public.encode()]


TARGETS = (
    Target("book", JSON, _books, lambda data: book.read(_text(data)), (book.BookFault,)),
    Target("seeds", BYTES, _seeds, lambda data: keys.parse(_text(data)), (ValueError,)),
    Target("manifests", YAML, _manifests, _manifest, (ManifestError,)),
    Target("settings", JSON, _environments, _settings),
    Target("profile", JSON, _profiles, _profile, (ClusterError,)),
    Target(
        "moments",
        BYTES,
        _texts("881", "-5m", "03:12", "2026-11-27T03:12:00.123Z", "2026-11-27", "3:12:00", "-1ms"),
        lambda data: moments.parse(_text(data), NOW),
        (moments.MomentError,),
    ),
    Target(
        "selectors",
        BYTES,
        _texts("a=b", "a==b,c!=d", "a in (b, c),d notin (e)", "a,!b", "x/y=z"),
        lambda data: selector.parse(_text(data)),
        (selector.SelectorError,),
    ),
    Target(
        "names",
        BYTES,
        _texts("shop/web-0", "shop/deployment/web", "10.1.2.3", "::1", "80", "53/UDP", "13/ICMP"),
        _named,
    ),
)
