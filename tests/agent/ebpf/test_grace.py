import threading
from pathlib import Path

import pytest

from tabard.agent.ebpf.grace import RCU_EXPEDITED, expedited


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    path = tmp_path / "rcu_expedited"
    path.write_text("0\n")
    return path


def test_grace_periods_are_expedited_inside_and_as_before_after(knob: Path) -> None:
    with expedited(knob) as is_expedited:
        assert is_expedited
        assert knob.read_text().strip() == "1"
    assert knob.read_text() == "0\n"


def test_what_an_operator_set_stays(knob: Path) -> None:
    knob.write_text("1\n")
    with expedited(knob) as is_expedited:
        assert is_expedited
    assert knob.read_text() == "1\n"


def test_an_error_inside_puts_it_back_and_comes_out(knob: Path) -> None:
    with pytest.raises(ZeroDivisionError), expedited(knob):
        raise ZeroDivisionError
    assert knob.read_text() == "0\n"


def test_without_the_knob_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    with expedited(tmp_path / "absent") as is_expedited:
        assert not is_expedited


def test_agents_of_one_machine_take_turns(knob: Path) -> None:
    entered = threading.Event()

    def other() -> None:
        with expedited(knob):
            entered.set()

    with expedited(knob):
        agent = threading.Thread(target=other)
        agent.start()
        assert not entered.wait(0.05)
        assert knob.read_text().strip() == "1"
    agent.join()
    assert entered.is_set()
    assert knob.read_text() == "0\n"


@pytest.mark.ebpf
def test_the_kernel_takes_it() -> None:
    with expedited() as is_expedited:
        assert is_expedited
        assert RCU_EXPEDITED.read_text().strip() == "1"
