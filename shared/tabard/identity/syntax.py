"""Names and labels as Kubernetes writes them (apimachinery/pkg/util/validation)."""

import re

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label, as of a namespace."""
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""RFC 1123 subdomain, as of most objects; SUBDOMAIN_MAX characters at most."""
SUBDOMAIN_MAX = 253
LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
"""The part of a label's key behind the prefix."""
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
LABEL_VALUE_MAX = 63
PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
"""RFC 6335 5.1."""


def is_dns_subdomain(text: str) -> bool:
    return len(text) <= SUBDOMAIN_MAX and DNS_SUBDOMAIN.fullmatch(text) is not None


def is_label_key(key: str) -> bool:
    """`[prefix/]name`, the prefix an RFC 1123 subdomain."""
    prefix, slash, name = key.rpartition("/")
    return LABEL_NAME.fullmatch(name) is not None and (not slash or is_dns_subdomain(prefix))
