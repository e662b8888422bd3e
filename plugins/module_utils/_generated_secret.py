# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Secrets that are generated once and never changed (private to this collection)."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._bundle_plan import MANAGER
from ._errors import PlatformError
from ._kube_client import MERGE, ApiError, KubeClient

_ALPHABET = string.ascii_letters + string.digits
_LENGTHS = {"password": 32, "hex": 64, "base64": 32}
_ATTEMPTS = 6


@dataclass(frozen=True)
class Wanted:
    """One Secret as it is asked for, in one or several namespaces with the same values."""

    name: str
    namespaces: tuple[str, ...]
    type: str
    keys: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, option: Mapping[str, Any]) -> Wanted:
        name = option["name"]
        namespaces = [*([option["namespace"]] if option.get("namespace") else []), *(option.get("namespaces") or [])]
        doing = f"Reading the secret '{name}'"
        if not namespaces:
            raise PlatformError(doing, "it names no namespace", "Set `namespace` or `namespaces`.")
        keys = {str(key): dict(rule or {}) for key, rule in option["keys"].items()}
        for key, rule in keys.items():
            _check(f"{doing}, key '{key}'", key, rule, keys)
        return cls(name, tuple(dict.fromkeys(namespaces)), option.get("type") or "Opaque", keys, option["labels"] or {})


def _check(doing: str, key: str, rule: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    form = rule.get("format") or "password"
    if form not in (*_LENGTHS, "fixed", "htpasswd"):
        raise PlatformError(doing, f"the format '{form}' is unknown", "Use password, hex, base64, fixed or htpasswd.")
    if form == "fixed" and rule.get("value") is None:
        raise PlatformError(doing, "a fixed key needs `value`")
    if form == "htpasswd" and (not rule.get("user") or rule.get("of") not in keys or rule.get("of") == key):
        raise PlatformError(doing, "an htpasswd key needs `user`, and in `of` another key of the same secret")
    if rule.get("length") is not None and int(rule["length"]) < 8:
        raise PlatformError(doing, f"a length of {rule['length']} can be guessed", "Use at least 8.")
    if rule.get("alphabet") and len(set(rule["alphabet"])) < 10:
        raise PlatformError(doing, "the alphabet has fewer than 10 characters", "Use more of them.")


def generate(rule: Mapping[str, Any]) -> str:
    """A new value by the rule of a key."""
    form = rule.get("format") or "password"
    length = int(rule.get("length") or _LENGTHS.get(form, 0))
    if form == "fixed":
        return str(rule["value"])
    if form == "hex":
        return secrets.token_hex((length + 1) // 2)[:length]
    if form == "base64":
        return base64.b64encode(secrets.token_bytes(length)).decode()
    alphabet = rule.get("alphabet") or _ALPHABET
    classes = [set(part) for part in (string.ascii_lowercase, string.ascii_uppercase, string.digits)]
    while True:
        value = "".join(secrets.choice(alphabet) for _ in range(length))
        # Harbor, Keycloak and others refuse passwords without one of each; thrown again, all values stay as likely.
        if all(part & set(value) for part in classes if part & set(alphabet)):
            return value


def _htpasswd(user: str, password: str) -> str:
    """An entry with bcrypt, the only hash that container registries take; made by the system's libcrypt."""
    alphabet = "./" + string.ascii_uppercase + string.ascii_lowercase + string.digits
    # 22 characters carry 128 bits: of the last one only two bits count.
    salt = "".join(secrets.choice(alphabet) for _ in range(21)) + secrets.choice(".Oeu")
    for name in (ctypes.util.find_library("crypt"), "libcrypt.so.2", "libcrypt.so.1"):
        try:
            function = ctypes.CDLL(name or "").crypt
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        hashed = function(password.encode(), f"$2y$10${salt}".encode())
        if hashed and hashed.startswith(b"$2y$"):
            return f"{user}:{hashed.decode()}"
    raise PlatformError(
        "Making an htpasswd entry", "the system has no libcrypt that knows bcrypt", "Install libxcrypt (libcrypt1)."
    )


def ensure(client: KubeClient, wanted: Wanted, *, check: bool) -> list[dict[str, Any]]:
    """Create what is missing; one entry a namespace, with the names of the keys and never a value."""
    for attempt in range(_ATTEMPTS):
        try:
            return _ensure(client, wanted, check=check)
        except ApiError as exc:
            # Somebody else made one in between: look again, so that his value is kept.
            if not exc.conflict or attempt + 1 == _ATTEMPTS:
                doing = f"Keeping the secret '{wanted.name}' in {', '.join(wanted.namespaces)}"
                raise PlatformError(doing, exc.why, exc.mend) from exc
    raise AssertionError("unreachable: the last attempt returns or raises")


def _path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" + (f"/{name}" if name else "")


def _ensure(client: KubeClient, wanted: Wanted, *, check: bool) -> list[dict[str, Any]]:
    live = {namespace: client.get_or_none(_path(namespace, wanted.name)) for namespace in wanted.namespaces}
    values: dict[str, str] = {}
    for namespace, secret in live.items():
        for key, value in ((secret or {}).get("data") or {}).items():
            if key in wanted.keys and values.setdefault(key, value) != value:
                raise PlatformError(
                    f"Comparing the secret '{wanted.name}' of {', '.join(wanted.namespaces)}",
                    f"the key '{key}' has another value in {namespace}, and a generated value is never changed",
                    "Find out which is in use, and delete the key in the other namespace.",
                )
    missing = [key for key in wanted.keys if key not in values]
    # An htpasswd entry is made of another key: that one first.
    for key in sorted(missing, key=lambda name: wanted.keys[name].get("format") == "htpasswd"):
        rule = wanted.keys[key]
        if rule.get("format") == "htpasswd":
            value = "" if check else _htpasswd(rule["user"], base64.b64decode(values[rule["of"]]).decode())
        else:
            value = generate(rule)
        values[key] = base64.b64encode(value.encode()).decode()
    return [_write(client, wanted, namespace, secret, values, check) for namespace, secret in live.items()]


def _write(
    client: KubeClient,
    wanted: Wanted,
    namespace: str,
    live: Mapping[str, Any] | None,
    values: Mapping[str, str],
    check: bool,
) -> dict[str, Any]:
    have = set((live or {}).get("data") or {})
    created = sorted(set(wanted.keys) - have)
    entry: dict[str, Any] = {"name": wanted.name, "namespace": namespace, "added_keys": created, "result": "unchanged"}
    if not created:
        return entry
    data = {key: values[key] for key in created}
    query = {"fieldManager": MANAGER, "dryRun": "All" if check else None}
    if live is not None:
        if live.get("immutable"):
            raise PlatformError(
                f"Adding {', '.join(created)} to Secret {namespace}/{wanted.name}",
                "it is immutable",
                "Delete it when nothing uses it; it is then made anew.",
            )
        # With the version that was read: a key that appears in between makes it a conflict, not an overwrite.
        body = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "data": data}
        client.request("PATCH", _path(namespace, wanted.name), body=body, content_type=MERGE, query=query)
        entry["result"] = "changed"
        return entry
    meta = {"name": wanted.name, "namespace": namespace, **({"labels": dict(wanted.labels)} if wanted.labels else {})}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": wanted.type, "data": data}
    entry["result"] = "created"
    try:
        client.create(secret, field_manager=MANAGER, dry_run=check)
    except ApiError as exc:
        if exc.status == 404:
            if not check:
                raise PlatformError(
                    f"Creating Secret {namespace}/{wanted.name}", exc.message, "Deploy the namespace first."
                ) from exc
            entry["result"] = "unvalidated"
        else:
            raise
    return entry
