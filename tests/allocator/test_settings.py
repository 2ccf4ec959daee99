import pytest
from pydantic import ValidationError

from tabard.allocator.commands import Limits
from tabard.allocator.settings import Settings
from tabard.events.ledger import SettingsAdopted

LEAST = {"TABARD_NATS": "nats://a:1, nats://b:2", "TABARD_CLUSTER": "run", "TABARD_DATA": "/x"}


def read(monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    for key, value in {**LEAST, **{f"TABARD_{key}": value for key, value in more.items()}}.items():
        monkeypatch.setenv(key, value)
    return Settings()  # type: ignore[call-arg]


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        NUMBERS_CLUSTER_ID="3",
        LABELS_INCLUDE='["k8s:app"]',
        FIXED='{"129": ["k8s:b=", "k8s:a=1"]}',
        RETIRE_GRACE_MS="5",
        HOLDER="one",
        NODE_RANGES="10.0.0.0/8,fd00::/8",
    )
    assert settings.nats == ("nats://a:1", "nats://b:2")
    assert settings.adopted() == SettingsAdopted(
        cluster="run",
        cluster_id=3,
        cluster_bits=8,
        include=("k8s:app",),
        exclude=(),
        fixed=((129, ("k8s:a=1", "k8s:b=")),),
        retire_grace_ms=5,
        names_kept_ms=3_600_000,
    )
    assert settings.node_ranges == ("10.0.0.0/8", "fd00::/8")
    assert settings.limits() == Limits(node_lost_ms=600_000, relabel_timeout_ms=3_000)
    assert settings.enforcement is None
    assert read(monkeypatch, ENFORCEMENT="always").adopted().enforcement == "always"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"CLUSTER": "Upper"}, "cluster"),
        ({"NUMBERS_CLUSTER_BITS": "9"}, "cluster_bits is 9"),
        ({"NUMBERS_CLUSTER_ID": "256"}, "cluster_id is 256"),
        ({"LABELS_EXCLUDE": '["("]'}, "no regular expression"),
        ({"FIXED": '{"256": ["k8s:a="]}'}, "256 does not lie in 128-255"),
        ({"FIXED": '{"128": []}'}, "128 needs labels"),
        ({"FIXED": '{"128": ["app"]}'}, "128 needs labels"),
        ({"FIXED": '{"128": ["k8s:a="], "129": ["k8s:a="]}'}, "two numbers"),
        ({"ENFORCEMENT": "sometimes"}, "enforcement"),
        ({"NODE_RANGES": "10.0.0.1/8"}, "node_ranges"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        read(monkeypatch, **wrong)
