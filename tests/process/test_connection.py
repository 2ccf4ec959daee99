from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from tabard.auth.keys import new_key
from tabard.process.connection import BusSettings
from tabard.process.environment import settings_or_exit


class Settings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="TABARD_", frozen=True)


def test_key_and_certificates_are_files_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, ca = tmp_path / "seed", tmp_path / "ca.pem"
    seed.touch(0o600)
    seed.write_text(new_key().seed)
    ca.touch()
    monkeypatch.setenv("TABARD_NATS", "tls://a:1, tls://b:1")
    monkeypatch.setenv("TABARD_NATS_NKEY", str(seed))
    monkeypatch.setenv("TABARD_NATS_CA", str(ca))
    settings = settings_or_exit(Settings)
    assert (settings.nats, settings.nats_nkey, settings.nats_ca) == (
        ("tls://a:1", "tls://b:1"),
        seed,
        ca,
    )
    assert seed.read_text() not in repr(settings)


def test_without_them_the_bus_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABARD_NATS", "nats://a:1")
    monkeypatch.setenv("TABARD_NATS_NKEY", "")
    settings = settings_or_exit(Settings)
    assert (settings.nats_nkey, settings.nats_ca) == (None, None)


def test_each_wrong_one_is_named_with_what_to_do_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = tmp_path / "seed"
    seed.touch(0o644)
    seed.write_text(new_key().seed)
    monkeypatch.setenv("TABARD_NATS", "")
    monkeypatch.setenv("TABARD_NATS_NKEY", str(seed))
    monkeypatch.setenv("TABARD_NATS_CA", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as ended:
        settings_or_exit(Settings)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "TABARD_NATS: Tuple should have at least 1 item" in said
    assert f"TABARD_NATS_NKEY: Value error, seed file {seed} has mode 0644" in said
    assert f"TABARD_NATS_CA: Value error, there is no file {tmp_path}/none" in said
    assert seed.read_text() not in said
