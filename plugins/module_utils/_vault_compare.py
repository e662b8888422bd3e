# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Whether Vault already has what is wanted, in the forms in which it gives things back (private to this collection)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import PlatformError

MASK = "********"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)(s|m|h|d|)")

# What a PKI role is reset to when a write does not name the field: the same in Vault 1.19 and OpenBao 2.7.
PKI_ROLE_DEFAULTS: dict[str, Any] = {
    "allow_any_name": False,
    "allow_bare_domains": False,
    "allow_glob_domains": False,
    "allow_ip_sans": True,
    "allow_localhost": True,
    "allow_subdomains": False,
    "allow_token_displayname": False,
    "allow_wildcard_certificates": True,
    "allowed_domains": [],
    "allowed_domains_template": False,
    "allowed_other_sans": [],
    "allowed_serial_numbers": [],
    "allowed_uri_sans": [],
    "allowed_uri_sans_template": False,
    "allowed_user_ids": [],
    "basic_constraints_valid_for_non_ca": False,
    "client_flag": True,
    "cn_validations": ["email", "hostname"],
    "code_signing_flag": False,
    "email_protection_flag": False,
    "enforce_hostnames": True,
    "ext_key_usage": [],
    "ext_key_usage_oids": [],
    "generate_lease": False,
    "issuer_ref": "default",
    "key_bits": 2048,
    "key_type": "rsa",
    "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
    "max_ttl": 0,
    "no_store": False,
    "not_after": "",
    "not_before_duration": 30,
    "policy_identifiers": [],
    "require_cn": True,
    "server_flag": True,
    "ttl": 0,
    "use_csr_common_name": True,
    "use_csr_sans": True,
    "use_pss": False,
}


def seconds(value: Any) -> int | None:
    """`720h`, `1h30m`, `2592000` and 2592000 alike; None for what is no duration."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if not text or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts if number)


def hours(value: str, option: str) -> int:
    """An option that is a duration, in whole hours."""
    found = seconds(value)
    if found is None or found % 3600:
        raise PlatformError(
            f"Reading the option {option}", f"'{value}' is not a number of hours", "Write it like 720h."
        )
    return found // 3600


def same(wanted: Any, current: Any) -> bool:
    """Whether the wanted value is there. Nothing wanted is always there, and lists of words are sets for Vault."""
    if wanted is None:
        return True
    if isinstance(wanted, Mapping):
        return isinstance(current, Mapping) and not differing(wanted, current)
    if isinstance(wanted, bool):
        return str(current).lower() == str(wanted).lower()
    if isinstance(wanted, list) or isinstance(current, list):
        return _same_list(_listed(wanted), _listed(current))
    if current is None:
        return str(wanted) == ""
    number = seconds(wanted)
    if number is not None and number == seconds(current):
        return True
    return str(wanted).strip() == str(current).strip()


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [part.strip() for part in str(value).split(",") if part.strip()] if value is not None else []


def _same_list(wanted: list[Any], current: list[Any]) -> bool:
    if any(isinstance(entry, (Mapping, list)) for entry in wanted):
        return len(wanted) == len(current) and all(same(want, have) for want, have in zip(wanted, current, strict=True))
    return {str(entry) for entry in wanted} == {str(entry) for entry in current}


def differing(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in wanted if not same(wanted[key], current.get(key)))


def shown(fields: Mapping[str, Any], names: Iterable[str], secret: Iterable[str]) -> dict[str, Any]:
    """The named fields for a diff, secrets masked."""
    hidden = set(secret)
    return {name: MASK if name in hidden else fields[name] for name in names if name in fields}
