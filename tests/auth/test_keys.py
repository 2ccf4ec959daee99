import os
from pathlib import Path

import nkeys
import pytest

from tabard.auth.keys import KeyFault, inbox_of, new_key, parse, read_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "seed"
    path.touch(0o600)
    return path


def test_a_key_is_what_its_seed_says_and_no_two_are_alike() -> None:
    key = new_key()
    assert parse(f" {key.seed}\n") == key != new_key()
    assert (key.public[0], key.seed[:2], key.inbox) == ("U", "SU", inbox_of(key.public))


def test_a_key_does_not_show_its_seed() -> None:
    key = new_key()
    assert key.seed not in f"{key} {key!r}"


def test_a_file_with_a_seed_is_read(file: Path) -> None:
    key = new_key()
    file.write_text(key.seed + "\n")
    assert read_key(file) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_seed_that_others_can_use_is_refused_with_the_mode_and_what_to_do(
    file: Path, mode: int
) -> None:
    file.write_text(new_key().seed)
    file.chmod(mode)
    with pytest.raises(KeyFault, match=rf"mode {mode:04o}.*chmod 600 {file}"):
        read_key(file)


def test_what_is_no_seed_of_a_user_is_refused_and_not_shown(file: Path) -> None:
    seed = new_key().seed
    damaged = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
    account = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    for content, why in (
        ("", "holds no NKey seed"),
        ("hunter2", "holds no NKey seed"),
        ("ä", "holds no NKey seed"),
        (seed[:-1], "NKey seed"),
        (new_key().public, "holds no NKey seed"),
        (f"{seed}\n{seed}", "holds no NKey seed"),
        (damaged, "its checksum is wrong"),
        (account, r"of another kind \(SA…\)"),
    ):
        file.write_text(content)
        with pytest.raises(KeyFault, match=why) as raised:
            read_key(file)
        assert f"seed file {file} cannot be used" in str(raised.value)
        assert not content or content not in str(raised.value)
        assert raised.value.__cause__ is None


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match=f"{tmp_path}/none cannot be read: No such file"):
        read_key(tmp_path / "none")
