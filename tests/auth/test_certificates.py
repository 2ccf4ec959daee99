import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tabard.auth.certificates import (
    AUTHORITY_AGE,
    SERVER_AGE,
    CertificateFault,
    Pair,
    about,
    new_authority,
    new_server,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_a_server_is_vouched_for_at_its_hosts_and_for_its_time() -> None:
    authority = new_authority(NOW)
    said = about(
        new_server(authority, "nats", ["10.0.0.1", "fd00::1", "bus.example"], NOW).certificate
    )
    assert said.names == ("10.0.0.1", "fd00::1", "bus.example")
    assert said.expires == NOW + SERVER_AGE
    assert said.issuer == about(authority.certificate).issuer
    assert about(authority.certificate).expires == NOW + AUTHORITY_AGE


def test_no_two_authorities_are_alike() -> None:
    assert (
        about(new_authority(NOW).certificate).issuer != about(new_authority(NOW).certificate).issuer
    )


def test_time_is_told_in_utc_whatever_the_zone() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    assert about(new_authority(there).certificate).expires == NOW + AUTHORITY_AGE


def test_a_private_key_is_not_shown() -> None:
    authority = new_authority(NOW)
    assert b"PRIVATE KEY" in authority.key
    assert "PRIVATE" not in repr(authority)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(CertificateFault):
        about(b"no certificate")


def test_an_authority_whose_key_is_anothers_signs_nothing() -> None:
    one, other = new_authority(NOW), new_authority(NOW)
    with pytest.raises(CertificateFault, match="do not belong together"):
        new_server(Pair(one.certificate, other.key), "nats", ["a"], NOW)
    with pytest.raises(CertificateFault, match=re.escape("no certificate and key")):
        new_server(Pair(one.certificate, b""), "nats", ["a"], NOW)
