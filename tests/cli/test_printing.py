import pytest

from tabard.cli.printing import as_json, cell, counted, json_line, show_table, table, tell


def test_columns_are_aligned_and_lines_have_no_trailing_space() -> None:
    assert table(["NAME", "NODE"], [["web-0", "n1"], ["x", None]]) == [
        "NAME    NODE",
        "web-0   n1",
        "x       -",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        (["a", "b"], "a,b"),
        ({"b": 2, "a": 1}, "a=1,b=2"),
        ("two\nlines", "two lines"),
        ("\x1b[31m\u202e→é", "\\x1b[31m\\u202e→é"),
        ({"\x07": "\x9b"}, "\\x07=\\x9b"),
    ],
)
def test_any_value_has_a_cell(value: object, text: str) -> None:
    assert cell(value) == text


def test_one_is_not_many() -> None:
    assert [counted(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
    assert counted(2, "identity", "identities") == "2 identities"


def test_json_shows_bytes_as_hexadecimal() -> None:
    assert json_line({"id": b"\x01\xff"}) == '{"id": "01ff"}'
    assert as_json([]) == "[]"


def test_a_table_is_plain_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["A"], [["x" * 500]])
    assert capsys.readouterr().out == "A\n" + "x" * 500 + "\n"


def test_nothing_that_is_shown_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["A\x1b[2J"], [["\x1b]0;title\x07"]])
    tell("note: a\x1b[2J.yaml: skipped\n\tand \udcff")
    out, err = capsys.readouterr()
    assert out == "A\\x1b[2J\n\\x1b]0;title\\x07\n"
    assert err == "note: a\\x1b[2J.yaml: skipped\n\tand \\udcff\n"
