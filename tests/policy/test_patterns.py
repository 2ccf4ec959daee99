import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.policy import patterns as module
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


NAMES = st.lists(st.text("ab-", min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


def told_by_an_expression(pattern: str, name: str) -> bool:
    """Cilium's own way (pkg/fqdn/matchpattern)."""
    if not pattern.strip("*"):
        return True
    deep = re.match(r"\*\*+\.", pattern)
    rest = pattern[deep.end() :] if deep else pattern
    run = "[-a-z0-9_]*".join(map(re.escape, re.split(r"\*+", rest)))
    return re.fullmatch((r"([-a-z0-9_]+\.)+" if deep else "") + run, name) is not None


@given(patterns=st.lists(st.text("ab.**", min_size=1, max_size=8), max_size=5), name=NAMES)
def test_alone_and_together_patterns_name_what_their_expressions_do(
    patterns: list[str], name: str
) -> None:
    told = [told_by_an_expression(pattern, name) for pattern in patterns]
    assert [matches_name(pattern, name) for pattern in patterns] == told
    assert (name in Patterns(patterns)) == any(told)


def test_of_ten_thousand_patterns_those_alone_are_tried_whose_ends_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []
    fits = module._fits

    def counting(wild: module._Wild, name: str) -> bool:
        tried.append(name)
        return fits(wild, name)

    monkeypatch.setattr(module, "_fits", counting)
    forms = ("*.n{}.io", "**.m{}.io", "s{}-*.io", "*-{}.a.io", "a.*.*.o{}.io", "p{}.*")
    patterns = Patterns(form.format(n) for n in range(10_000) for form in forms)
    for name in ("x.n77.io", "x.y.m77.io", "s77-x.io", "x-77.a.io", "a.b.c.o77.io", "p77.io"):
        assert name in patterns
        assert f"no.{name}.org" not in patterns
    assert len(tried) <= 6 * 2


def test_a_name_that_is_none_fits_stars_alone() -> None:
    for name in ("", r"a\.b.io", "ä.io"):
        assert name not in Patterns(["*.io", "**.io", "a*"])
        assert not matches_name("*.io", name)
        assert name in Patterns(["*"])


def test_a_name_is_lower_case_labels_up_to_the_bound() -> None:
    assert is_name("a" * NAME_CHARACTERS_MAX)
    assert not is_name("a" * (NAME_CHARACTERS_MAX + 1))
    for wrong in ("", ".", "a.", ".a", "a..b", "A.io", "a b", "*.io", "ä.io", "a\n"):
        assert not is_name(wrong), wrong
