from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from tabard.process.environment import (
    FROM_JSON,
    WRONG_SETTINGS,
    EnvironmentSettings,
    Listed,
    settings_or_exit,
)


class Settings(EnvironmentSettings):
    name: str
    wait_ms: int = Field(default=5, ge=0)
    hosts: Listed = ()
    fixed: Annotated[dict[int, str], FROM_JSON] = Field(default_factory=dict)


def test_fields_come_from_variables_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABARD_NAME", "n1")
    monkeypatch.setenv("TABARD_HOSTS", "a, b,")
    monkeypatch.setenv("TABARD_FIXED", '{"128": "dns"}')
    monkeypatch.setenv("TABARD_ELSEWHERE", "is another process's")
    assert Settings() == Settings(name="n1", wait_ms=5, hosts=("a", "b"), fixed={128: "dns"})


def test_what_is_given_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABARD_NAME", "n1")
    assert Settings(name="n2").name == "n2"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="wait_s"):
        Settings(name="n1", wait_s=1)


def test_each_wrong_variable_is_named_and_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TABARD_WAIT_MS", "-1")
    monkeypatch.setenv("TABARD_FIXED", "128=dns")
    with pytest.raises(SystemExit) as caught:
        settings_or_exit(Settings)
    assert caught.value.code == WRONG_SETTINGS
    said = capsys.readouterr().err
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "TABARD_NAME",
        "TABARD_WAIT_MS",
        "TABARD_FIXED",
    ]
