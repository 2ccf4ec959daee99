"""`tabard chaos simulate`, on histories short enough to be carried out here."""

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from command import Tabard
from tabard.cli import simulate
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.faults.catalogue import FAULTS
from tabard.simulator.history import Found, Outcome, run
from tabard.simulator.shrink import Shrunk

STEPS = "60"
FAULT = "swaps-without-waiting"
"""Caught within few and short histories."""


def broken(tabard: Tabard) -> dict[str, Any]:
    words = ("--fault", FAULT, "--steps", "200", "--seeds", "50", "-o", "json")
    result = tabard("chaos", "simulate", *words)
    assert result.exit_code == 1
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_histories_that_hold_are_summed_up(tabard: Tabard) -> None:
    result = tabard("chaos", "simulate", "--seeds", "3", "--steps", STEPS)
    assert result.exit_code == 0
    first, *happened = result.stdout.splitlines()
    assert first.startswith("✓ all held: 3 histories, 180 steps, in ")
    assert " histories a second)" in first
    assert any(" · " in line for line in happened)
    assert "1 of 3 histories" in result.stderr


def test_the_same_seeds_are_the_same_histories(tabard: Tabard) -> None:
    def counts(*words: str) -> Any:
        said = tabard("chaos", "simulate", "--steps", STEPS, "-o", "json", *words)
        return json.loads(said.stdout)["counts"]

    three = counts("--seeds", "3", "--first-seed", "7")
    assert three == counts("--seeds", "3", "--first-seed", "7")
    assert three != counts("--seeds", "3", "--first-seed", "8")


def test_one_history_is_told_step_by_step(tabard: Tabard) -> None:
    words = ("--seed", "5", "--steps", STEPS, "-v")
    result = tabard("chaos", "simulate", *words)
    assert result.exit_code == 0
    told = result.stdout[: result.stdout.index("✓")].splitlines()
    assert len(told) >= int(STEPS)
    assert json.loads(tabard("chaos", "simulate", *words, "-o", "json").stdout)["trace"] == told


def test_a_violation_is_told_with_what_is_enough_for_it(tabard: Tabard) -> None:
    words = ("--fault", FAULT, "--steps", "200", "--seeds", "50")
    result = tabard("chaos", "simulate", *words)
    assert result.exit_code == 1
    said = broken(tabard)["violation"]
    lines = result.stdout.splitlines()
    assert f"✗ seed {said['seed']}, step {said['step']}: {said['invariant']}" in lines
    assert f"  {said['what']}" in lines
    for line in said["trace"]:
        assert f"  {line}" in lines
    assert said["replay"] in result.stderr


def test_the_command_that_is_told_breaks_at_the_same_step_again(tabard: Tabard) -> None:
    said = broken(tabard)["violation"]
    program, *words = shlex.split(said["replay"])
    assert program == "tabard"
    again = tabard(*words, "-o", "json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["violation"] == said


def test_a_fault_is_gone_when_the_command_has_ended(tabard: Tabard) -> None:
    seed = str(broken(tabard)["violation"]["seed"])
    assert tabard("chaos", "simulate", "--seed", seed, "--steps", "200").exit_code == 0


def test_a_fault_that_nobody_noticed_is_told(tabard: Tabard) -> None:
    result = tabard("chaos", "simulate", "--seeds", "1", "--steps", "1", "--fault", FAULT)
    assert result.exit_code == 0
    assert f"fault {FAULT} was not noticed" in result.stderr


def test_an_interrupted_command_tells_how_many_held_and_what_goes_on(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seed: int, *_: object, **__: object) -> Outcome:
        if seed == 7:
            raise KeyboardInterrupt
        return run(seed, int(STEPS))

    monkeypatch.setattr("tabard.cli.simulate.run", interrupted)
    words = ("--seeds", "9", "--first-seed", "5", "--steps", STEPS)
    result = tabard("chaos", "simulate", *words)
    assert result.exit_code == 130
    assert "tabard: interrupted\n  2 histories, 120 steps, in " in result.stderr
    assert (
        f"next: tabard chaos simulate --first-seed 7 --seeds 7 --steps {STEPS}\n" in result.stderr
    )
    result = tabard("chaos", "simulate", "--seed", "7", "--steps", STEPS)
    assert result.exit_code == 130
    assert f"next: tabard chaos simulate --seed 7 --steps {STEPS}\n" in result.stderr


def test_what_is_seen_only_when_all_is_healed_is_told_so(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Found(3, Violation(Invariant.FOLD, "n1 differs"))
    outcome = replace(run(1, 2, traced=True), found=(late,))
    for name in ("run", "replay"):
        monkeypatch.setattr(f"tabard.cli.simulate.{name}", lambda *_, **__: outcome)
    monkeypatch.setattr("tabard.cli.simulate.shrink", lambda _: Shrunk(outcome, 1, True))
    lines = tabard("chaos", "simulate", "--seed", "1", "--steps", "2").stdout.splitlines()
    assert lines[0] == "✗ seed 1, in the end: fold"
    assert "  → in the end: n1 differs" in lines


def test_steps_that_could_be_fewer_are_told_as_such() -> None:
    outcome = run(1, 2)
    assert simulate._enough(9, Shrunk(outcome, 1, True)) == "of its 9 steps 2 are enough:"
    told = simulate._enough(9, Shrunk(outcome, 1, False))
    assert told == "of its 9 steps 2 are enough; the search for fewer was given up:"


@pytest.mark.parametrize("output", ["table", "json", "name"])
def test_faults_are_listed_with_their_checkers(tabard: Tabard, output: str) -> None:
    result = tabard("chaos", "simulate", "--list-faults", "-o", output)
    assert result.exit_code == 0
    for fault in FAULTS.values():
        assert fault.name in result.stdout
        assert output == "name" or fault.breaks in result.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fault", "no-fenc"], "there is no fault 'no-fenc', perhaps 'no-fence'"),
        (["--steps", "0"], "greater than or equal to 1"),
        (["--seeds", "0"], "greater than or equal to 1"),
        (["--seed", "-1"], "greater than or equal to 0"),
        (["--seed", "x"], "'x' is no whole number"),
        (["--seed", "1", "--seeds", "2"], "--seed is one history"),
        (["--seed", "1", "--first-seed", "2"], "--seed is one history"),
        (["-v"], "say which by --seed"),
    ],
)
def test_what_cannot_be_meant_is_refused(tabard: Tabard, words: list[str], told: str) -> None:
    result = tabard("chaos", "simulate", *words)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_names_of_faults_are_completed(tabard: Tabard) -> None:
    from typer import Context
    from typer.main import get_command

    from tabard.cli import completion
    from tabard.cli.app import app

    offered = completion.faults(Context(get_command(app)), "answers-")
    assert offered == ["answers-outlive-rules", "answers-reopen"]
