"""One lock a node and a data directory, and what a second agent is told."""

from pathlib import Path

import pytest

from tabard.agent.errors import AgentError, AlreadyRunning
from tabard.agent.holding import held, told

SINCE = 1_700_000_000 * 10**9


def test_a_node_is_held_whatever_the_data_directory(tmp_path: Path) -> None:
    locks, one, two = tmp_path / "locks", tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with held(locks, "n1", one, SINCE) as first:
        with pytest.raises(AlreadyRunning) as caught, held(locks, "n1", two, SINCE):
            pass
        assert told(first) in str(caught.value)
        assert "since 2023-11-14 22:13:20 UTC" in str(caught.value)
        with held(locks, "n2", two, SINCE):
            pass
    with held(locks, "n1", two, SINCE) as again:
        assert (again.boot, again.lock) == (first.boot, first.lock), "so it knows that one for dead"
        assert again.token != first.token


def test_a_data_directory_is_one_agents_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (
        held(tmp_path / "here", "n1", data, SINCE) as first,
        pytest.raises(AlreadyRunning, match=r"data directory .* is held by") as caught,
        held(tmp_path / "there", "n2", data, SINCE),
    ):
        pass
    assert told(first) in str(caught.value)


def test_locks_that_others_could_take_away_are_refused(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    locks.chmod(0o777)
    with pytest.raises(AgentError, match="TABARD_RUN_DIR"), held(locks, "n1", tmp_path, SINCE):
        pass
