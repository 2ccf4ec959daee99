"""Text becomes plain values that know their lines, or is refused with the line of the fault."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.manifests import source
from tabard.manifests.errors import ManifestError


def values(text: str) -> list[dict[str, object]]:
    return [document.value for document in source.load(text, "f.yaml")]


def test_each_document_knows_the_line_where_it_begins() -> None:
    text = "# a comment\nkind: A\n---\n---\nkind: B\nspec:\n  list:\n  - x\n  - y: 1\n---\n"
    first, second = source.load(text, "f.yaml")
    assert (first.origin, second.origin) == ("f.yaml:2", "f.yaml:5")
    assert second.origin_of("spec.list[1].y") == "f.yaml:9"
    assert second.origin_of("spec.list[7].y.z") == "f.yaml:8"
    assert second.origin_of("nowhere") == "f.yaml:5"


def test_a_label_key_with_dots_is_found_by_its_brackets() -> None:
    (found,) = source.load("labels:\n  a: b\n  app.kubernetes.io/name: x\n", "f.yaml")
    assert found.origin_of("labels[app.kubernetes.io/name]") == "f.yaml:3"


def test_the_items_of_a_list_are_objects_with_lines_of_their_own() -> None:
    text = "kind: List\nitems:\n- kind: A\n- kind: List\n  items:\n  - kind: B\n"
    assert [(d.value["kind"], d.origin) for d in source.load(text, "f")] == [
        ("A", "f:3"),
        ("B", "f:6"),
    ]


def test_the_items_of_a_list_of_one_kind_are_of_that_kind() -> None:
    text = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- kind: Other\n"
    assert values(text) == [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Other"},
    ]
    assert [found.origin for found in source.load(text, "f")] == ["f:4", "f:5"]
    assert values("kind: PodList\nitems: []\n") == []
    assert values("kind: AllowList\nspec: {}\n") == [{"kind": "AllowList", "spec": {}}]


def test_json_is_read_with_tabs_and_with_characters_in_two_escapes() -> None:
    assert values('{\n\t"kind": "A", "x": "\\ud83d\\uDE00 \\u00e9 \\\\ud83d"\n}') == [
        {"kind": "A", "x": "😀 é \\ud83d"}
    ]


def test_scalars_mean_what_kubernetes_takes_them_for() -> None:
    text = "date: 2024-01-01\nclock: 12:30:45\nyes: 'x'\n".replace("yes:", "'yes':")
    text += "octal: 0644\nbig: 1_000\non_: on\nnothing: ~\nreal: 1.5\n"
    assert values(text) == [
        {
            "date": "2024-01-01",
            "clock": "12:30:45",
            "yes": "x",
            "octal": 0o644,
            "big": 1000,
            "on_": True,
            "nothing": None,
            "real": 1.5,
        }
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: [}", 2, "is no YAML or JSON"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is there twice"),
        ("a:\n  8080: x\n", 2, "the key 8080 is no text"),
        ("a: !!python/object/apply:os.system [id]\n", 1, "the tag"),
        ("a: !!binary aGk=\n", 1, "the tag"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        ("- a\n- b\n", 1, "an object begins with apiVersion and kind"),
        ("kind: List\nitems: 3\n", 1, "must be a list of objects"),
        ("kind: PodList\nitems: 3\n", 1, "must be a list of objects"),
        ("a: .inf\n", 1, "no JSON number"),
        ("a: 9223372036854775808\n", 1, "beyond 64 bits"),
        ("a: 0\nb: 0x_\n", 2, "'0x_' is no int"),
        ("a: " + "9" * 5_000, 1, "is no int"),
        ("a: !!int ''\n", 1, "'' is no int"),
        ("a: !!float x\n", 1, "'x' is no float"),
        ("a: !!bool maybe\n", 1, "'maybe' is no bool"),
        ('{"a": "\\ud83d"}', 1, "invalid Unicode"),
        ("a: &x [*x]\n", 1, "too many values"),
        ("? [a]\n: b\n", 1, "no text"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ManifestError) as error:
        source.load(text, "f.yaml")
    assert error.value.origin == f"f.yaml:{line}"
    assert reason in error.value.reason


def test_a_character_that_yaml_does_not_have_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"f.yaml: is no YAML or JSON"):
        source.load("a: \x00", "f.yaml")
    with pytest.raises(ManifestError, match=r"f.yaml: is not UTF-8"):
        source.load("a: \ud83d", "f.yaml")


def test_nesting_is_bounded_before_anything_recurses() -> None:
    deep = source.DEPTH_MAX - 1  # the outermost map is one level
    assert values("a: " + "[" * deep + "]" * deep)
    with pytest.raises(ManifestError, match="nested deeper"):
        source.load("a: " + "[" * (deep + 1) + "]" * (deep + 1), "f")
    with pytest.raises(ManifestError, match="nested deeper"):
        source.load("[" * 1_000_000, "f")


def test_aliases_are_counted_as_often_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n"  # 1 + 3 + 7 + 15 values
    monkeypatch.setattr(source, "VALUES_MAX", 26)
    assert values(text)
    monkeypatch.setattr(source, "VALUES_MAX", 25)
    with pytest.raises(ManifestError, match="too many values"):
        source.load(text, "f")


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "TEXT_BYTES_MAX", 4)
    assert values("a: 1") == [{"a": 1}]
    with pytest.raises(ManifestError, match="larger than 4 bytes"):
        source.load("a: 12", "f")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestError):
        source.load(text, "f")
