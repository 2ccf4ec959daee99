from bench import table
from bench.figures import Figure, Target, Yardstick

FIGURES = [
    figure.record()
    for figure in (
        Figure("a.p50", "first", "ms", (1.0, 3.0, 2.0), means="Waiting."),
        Figure("a.p99", "second", "ms", (8.0,), Target(5), Yardstick("raw", (2.0,)), "Waiting."),
        Figure("b", "third", "/s", (7000.0,), Target(4000, at_least=True), means="Rate."),
    )
]


def test_a_row_has_the_median_its_spread_and_how_it_stands() -> None:
    assert table.rows(FIGURES) == [
        ("a", "first", "2 ms", "1 – 3", "3", "", "", "", ""),
        ("a", "second", "8 ms", "", "1", "≤ 5", "✗", "raw: 2", "4×"),
        ("b", "third", "7,000 /s", "", "1", "≥ 4,000", "✓", "", ""),
    ]


def test_the_plain_table_is_aligned_and_names_a_benchmark_once() -> None:
    header, _, *rows = table.plain(FIGURES).splitlines()
    assert [row.split()[0] for row in rows] == ["a", "second", "b"]
    assert {
        row.index(word) for row, word in zip(rows, ("first", "second", "third"), strict=True)
    } == {header.index("what")}


def test_markdown_has_as_many_cells_in_each_row_and_each_meaning_once() -> None:
    lines = table.markdown(FIGURES).splitlines()
    rows, meanings = lines[:5], lines[6:]
    assert {row.count("|") for row in rows} == {len(table.HEADER) + 1}
    assert meanings == ["- **a**: Waiting.", "- **b**: Rate."]


def test_nothing_measured_is_an_empty_table() -> None:
    assert table.plain([]).splitlines()[0].split() == [title for title in table.HEADER if title]
    assert len(table.markdown([]).splitlines()) == 2
