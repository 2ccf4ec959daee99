"""Certificates, in PEM, of an authority of our own and of the servers that it vouches for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_AGE = timedelta(days=3653)
SERVER_AGE = timedelta(days=397)
"""No longer than a browser takes: whoever forgets to rotate learns it here too."""
CLOCK_SKEW = timedelta(hours=1)
"""By how much a peer's clock may be behind ours."""


class CertificateFault(ValueError):
    """Bytes are no certificate or key of the kind that is needed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class About:
    """What a certificate says."""

    names: tuple[str, ...]
    """DNS names and IP addresses that it is good for, in order."""
    expires: datetime
    issuer: bytes
    """The identifier of the key that signed it."""


def new_authority(now: datetime) -> Pair:
    """A certificate authority, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities stand side by side while one takes the other's place.
    title = f"Tabard bus {token_hex(4)}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    signs = _key_usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_AGE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .sign(key, SHA256())
    )
    return _pair(certificate, key)


def new_server(authority: Pair, name: str, hosts: Sequence[str], now: datetime) -> Pair:
    """For the server `name`, which clients and other servers reach at `hosts`.

    With TLS between servers each is a client too, so it is good for both.
    """
    issuer, signing = _load(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now, SERVER_AGE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
        .add_extension(_issuer_of(issuer), critical=False)
        .sign(signing, SHA256())
    )
    return _pair(certificate, key)


def about(certificate: bytes) -> About:
    """What the first certificate says; CertificateFault if there is none."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
        names: tuple[str, ...] = ()
        issuer = found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        if not _is_authority(found):
            sans = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = tuple(str(each.value) for each in sans)
            signed = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
            issuer = signed.key_identifier or b""
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertificateFault("it holds no certificate of ours in PEM") from error
    return About(names, found.not_valid_after_utc, issuer)


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _load(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = load_pem_private_key(pair.key, password=None)
    except ValueError as error:
        raise CertificateFault("it holds no certificate and key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != (
        certificate.public_key()
    ):
        raise CertificateFault("certificate and key do not belong together")
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    age: timedelta,
) -> x509.CertificateBuilder:
    now = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + age)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issuer_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(**used: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{**dict.fromkeys(every, False), **used})


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
