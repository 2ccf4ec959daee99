import dataclasses
import json

import pytest

from bench.figures import Figure, Target, Yardstick, number, quantile


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 102)], 0.99, 100.0),
        ([3.0, 1.0], 1.0, 3.0),
        ([3.0, 1.0], 0.0, 1.0),
    ],
)
def test_a_quantile_is_the_value_of_the_nearest_rank(
    values: list[float], share: float, expected: float
) -> None:
    assert quantile(values, share) == expected


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(AssertionError):
        quantile([], 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00412345, "0.00412"),
        (1.0, "1"),
        (2.3456, "2.35"),
        (99.96, "100"),
        (1234.56, "1,235"),
        (1_000_000, "1,000,000"),
        (float("inf"), "inf"),
    ],
)
def test_a_number_shows_three_digits_and_no_empty_ones(value: float, text: str) -> None:
    assert number(value) == text


FIGURE = Figure(
    "known.p99", "known labels, p99", "µs", (4.0, 2.0, 9.0), Target(4), Yardstick("map", (2.0, 8.0))
)


def test_the_median_is_held_against_the_target_and_divided_by_the_yardsticks() -> None:
    assert FIGURE.median == 4
    assert FIGURE.met is True
    assert FIGURE.ratio == 4 / 5


@pytest.mark.parametrize(
    ("target", "met"), [(Target(3.9), False), (Target(4, at_least=True), True), (None, None)]
)
def test_a_target_is_met_at_its_bound_and_not_beyond(target: Target | None, met: object) -> None:
    assert dataclasses.replace(FIGURE, target=target).met is met


def test_a_yardstick_of_nothing_gives_no_ratio() -> None:
    assert dataclasses.replace(FIGURE, yardstick=None).ratio is None
    assert dataclasses.replace(FIGURE, yardstick=Yardstick("map", (0.0,))).ratio is None


def test_a_figure_without_a_run_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"known\.p99"):
        dataclasses.replace(FIGURE, values=())


def test_a_record_says_all_of_a_figure_in_json() -> None:
    assert json.loads(json.dumps(FIGURE.record())) == {
        "name": "known.p99",
        "what": "known labels, p99",
        "unit": "µs",
        "median": 4.0,
        "spread": [2.0, 9.0],
        "runs": [4.0, 2.0, 9.0],
        "target": "≤ 4",
        "met": True,
        "yardstick": {"name": "map", "median": 5.0, "runs": [2.0, 8.0]},
        "ratio": 0.8,
        "means": "",
    }
