"""The one-shot loader."""

from pathlib import Path

import pytest

from tabard.agent.ebpf import load, source

pytestmark = pytest.mark.ebpf


def test_what_was_compiled_is_not_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = dict.fromkeys(source.PROGRAMS, b"instructions")
    calls: list[Path] = []

    def compile_programs(sources: Path) -> dict[str, bytes]:
        calls.append(sources)
        return compiled

    monkeypatch.setattr(load, "compile_programs", compile_programs)
    sources, kept = source.folder(), tmp_path / "kept"

    assert load.compile_once(sources, kept) == compiled
    assert load.compile_once(sources, kept) == compiled
    assert calls == [sources]
    assert [path.name for path in kept.iterdir()] == [source.fingerprint(sources)]


def test_wrong_usage_and_missing_maps_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load.main([]) == 2
    assert "tabard.agent.ebpf.load MAPS PROGRAMS SOURCES" in capsys.readouterr().err
    assert load.main([str(tmp_path)] * 3) == 1
    assert "No such file" in capsys.readouterr().err


def test_any_change_of_a_source_is_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "kstub").mkdir()
    header = tmp_path / "kstub" / "a.h"
    header.write_text("1")
    before = source.fingerprint(tmp_path)
    header.write_text("2")
    assert source.fingerprint(tmp_path) != before
