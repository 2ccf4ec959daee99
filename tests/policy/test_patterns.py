import pytest

from tabard.policy.patterns import NAME_CHARACTERS_MAX, Patterns, is_name, matches_name


@pytest.mark.parametrize(
    ("pattern", "named", "not_named"),
    [
        ("cilium.io", ["cilium.io"], ["xcilium.io", "cilium.io.x", "ciliumxio", "a.cilium.io"]),
        ("*.cilium.io", ["sub.cilium.io", "a_b-1.cilium.io"], ["cilium.io", "a.b.cilium.io"]),
        ("*cilium.io", ["cilium.io", "xcilium.io"], ["a.cilium.io"]),
        ("sub*.com", ["sub.com", "subx.com"], ["sub.x.com", "su.com"]),
        ("a.*.io", ["a.b.io"], ["a.b.c.io", "a.io"]),
        ("a*b*c", ["abc", "axbyc"], ["ac", "a.bc"]),
        ("*", ["cilium.io", "a.b.c.d", "com"], []),
        ("**", ["cilium.io", "com"], []),
        ("**.cilium.io", ["a.cilium.io", "a.b.cilium.io"], ["cilium.io", "xcilium.io"]),
        ("a**.io", ["a.io", "ab.io"], ["a.b.io"]),
    ],
)
def test_a_pattern_names_what_ciliums_does(
    pattern: str, named: list[str], not_named: list[str]
) -> None:
    assert [name for name in named if not matches_name(pattern, name)] == []
    assert [name for name in not_named if matches_name(pattern, name)] == []


def test_no_pattern_and_no_name_take_long() -> None:
    labels = ".".join(["a" * 63] * 3)  # trying every way to match them would take years
    assert not matches_name("*a" * 60 + "*b", "a" * 63)
    assert not matches_name("**." + "*a" * 60 + "*b", labels)
    assert matches_name("**." + "*a" * 60 + "*", labels)


def test_patterns_together_name_what_any_of_them_does() -> None:
    patterns = Patterns(["a.io", "*.b.io"])
    assert [n for n in ("a.io", "x.b.io", "b.io", "x.a.io") if n in patterns] == ["a.io", "x.b.io"]
    assert "a.io" not in Patterns([])


def test_a_name_is_lower_case_labels_up_to_the_bound() -> None:
    assert is_name("a" * NAME_CHARACTERS_MAX)
    assert not is_name("a" * (NAME_CHARACTERS_MAX + 1))
    for wrong in ("", ".", "a.", ".a", "a..b", "A.io", "a b", "*.io", "ä.io", "a\n"):
        assert not is_name(wrong), wrong
