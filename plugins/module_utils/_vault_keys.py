# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What ``sys/init`` gives once and never again, and its place: one create-only Secret (private to this collection)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import PlatformError
from ._kube_client import MERGE, ApiError, KubeClient

FIELD_MANAGER = "harvester-rke2-platform"
_PREFIX = "platform.harvester-rke2.io/"
CLUSTER_ID = f"{_PREFIX}vault-cluster-id"
ENTRY = "init.json"


@dataclass(frozen=True)
class InitKeys:
    """The unseal keys and the root token. Never part of a message, a result or a repr."""

    shares: tuple[str, ...] = field(repr=False)
    root_token: str = field(repr=False)
    threshold: int = 0
    created: str = ""

    @classmethod
    def from_json(cls, text: bytes, doing: str) -> InitKeys:
        try:
            document = json.loads(text)
            threshold = int(document["secret_threshold"])
        except (ValueError, KeyError, TypeError):
            raise damaged(doing, "it is not the JSON of an initialisation") from None
        return cls._checked(document, threshold, str(document.get("created", "")), doing)

    @classmethod
    def _checked(cls, document: Mapping[str, Any], threshold: int, created: str, doing: str) -> InitKeys:
        encoded, plain, token = (document.get(key) for key in ("keys_base64", "keys", "root_token"))
        if not isinstance(encoded, list) or not isinstance(plain, list) or not isinstance(token, str) or not token:
            raise damaged(doing, "keys, keys_base64 or root_token is missing")
        try:
            same = [base64.b64decode(key, validate=True) for key in encoded] == [bytes.fromhex(key) for key in plain]
        except (binascii.Error, ValueError, TypeError):
            same = False
        if not same:
            raise damaged(doing, "keys and keys_base64 do not say the same")
        if not 1 <= threshold <= len(encoded) or len(set(encoded)) != len(encoded):
            raise damaged(doing, f"it holds {len(set(encoded))} different keys, and {threshold} are needed to unseal")
        return cls(tuple(encoded), token, threshold, created)

    def to_json(self) -> bytes:
        document = {
            "keys": [base64.b64decode(key).hex() for key in self.shares],
            "keys_base64": list(self.shares),
            "root_token": self.root_token,
            "secret_shares": len(self.shares),
            "secret_threshold": self.threshold,
            "created": self.created,
        }
        return json.dumps(document, indent=1).encode()

    def same_as(self, other: InitKeys) -> bool:
        return set(self.shares) == set(other.shares) and self.root_token == other.root_token

    @property
    def fingerprint(self) -> str:
        """Tells two sets of keys apart; 264-bit keys cannot be guessed from it."""
        return hashlib.sha256("".join(sorted(self.shares)).encode()).hexdigest()[:16]


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def damaged(doing: str, why: str) -> PlatformError:
    return PlatformError(doing, why, "Put back an intact copy (an offline copy, a backup of the keys namespace).")


@dataclass(frozen=True)
class Stored:
    keys: InitKeys
    cluster_id: str
    uid: str


class KeyStore:
    """The Secret with the keys, and beside it the marker of an initialisation that has begun."""

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self.client, self.namespace, self.name = client, namespace, name

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name} of {self.client.config.server}"

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{name}"

    def read(self) -> Stored | None:
        """The stored keys; None only when the API server says that they are not there."""
        found = self.client.get_or_none(self._path(self.name))
        return None if found is None else self._parse(found)

    def _parse(self, secret: Mapping[str, Any]) -> Stored:
        doing = f"Reading the keys of Vault in {self}"
        try:
            text = base64.b64decode((secret.get("data") or {})[ENTRY], validate=True)
        except KeyError:
            raise damaged(doing, f"it has no entry {ENTRY}") from None
        except binascii.Error:
            raise damaged(doing, f"its entry {ENTRY} is not base64") from None
        meta = secret["metadata"]
        cluster_id = str((meta.get("annotations") or {}).get(CLUSTER_ID, ""))
        return Stored(InitKeys.from_json(text, doing), cluster_id, str(meta.get("uid", "")))

    def _secret(self, name: str, data: Mapping[str, bytes], cluster_id: str = "") -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
                "annotations": {CLUSTER_ID: cluster_id} if cluster_id else {},
            },
            "type": "Opaque",
            "immutable": True,
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }

    def ensure_namespace(self) -> None:
        ensure_namespace(self.client, self.namespace)

    def marker(self) -> dict[str, str] | None:
        """What an earlier run wrote down before it called for the keys: when, on which machine, its spool."""
        found = self.client.get_or_none(self._path(f"{self.name}-begun"))
        if found is None:
            return None
        data = found.get("data") or {}
        return {"uid": found["metadata"]["uid"], **{key: base64.b64decode(data[key]).decode() for key in data}}

    def prove(self, spool: str) -> None:
        """Write the marker, create-only and read back: a store that does this now will take the keys in a moment."""
        doing = f"Proving that the keys of Vault can be written to namespace {self.namespace} before there are any"
        name = f"{self.name}-begun"
        said = {"host": socket.gethostname(), "spool": spool, "when": now()}
        secret = self._secret(name, {key: value.encode() for key, value in said.items()})
        try:
            self.ensure_namespace()
            earlier = self.marker()
            if earlier is not None:
                self.client.delete(self._path(name), uid=earlier["uid"])
            self.client.create(secret, field_manager=FIELD_MANAGER)
            back = self.client.get_or_none(self._path(name))
        except PlatformError as exc:
            mend = "Vault has not been initialised. Make the keys' cluster reachable and writable, then run again."
            raise PlatformError(doing, exc.why, mend) from None
        if back is None or back.get("data") != secret["data"]:
            raise PlatformError(doing, "what was read back is not what was written", "Vault has not been initialised.")

    def clear_marker(self) -> bool:
        return self.client.delete(self._path(f"{self.name}-begun"))

    def save(self, keys: InitKeys, name: str = "", cluster_id: str = "") -> None:
        """Create the Secret once, read it back and compare. Safe to repeat; never overwrites."""
        name = name or self.name
        doing = f"Saving the keys of Vault as Secret {self.namespace}/{name} of {self.client.config.server}"
        secret = self._secret(name, {ENTRY: keys.to_json()}, cluster_id)
        self.ensure_namespace()
        try:
            self.client.create(secret, field_manager=FIELD_MANAGER)
        except ApiError as exc:
            if exc.status != 409:
                raise
        back = self.client.get_or_none(self._path(name))
        if back is None:
            raise PlatformError(doing, "it is not there although it was accepted")
        if not self._parse(back).keys.same_as(keys):
            raise PlatformError(doing, "there are other keys under this name, and they are never overwritten")

    def note_cluster_id(self, cluster_id: str) -> None:
        """Vault tells its id only once it is unsealed, so it is not among the immutable data."""
        body = {"metadata": {"annotations": {CLUSTER_ID: cluster_id}}}
        self.client.request("PATCH", self._path(self.name), body=body, content_type=MERGE)

    def archive(self, stored: Stored) -> str:
        """Move the keys of a former Vault aside: first the copy, verified, then the original's removal."""
        name = f"{self.name}-{stored.cluster_id or stored.keys.fingerprint}"
        self.save(stored.keys, name, stored.cluster_id)
        self.client.delete(self._path(self.name), uid=stored.uid)
        return name


def ensure_namespace(client: KubeClient, name: str) -> bool:
    """Create the namespace when it is missing; True if it was made."""
    if client.get_or_none(f"/api/v1/namespaces/{name}") is not None:
        return False
    labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    try:
        client.create(namespace, field_manager=FIELD_MANAGER)
    except ApiError as exc:
        if exc.status != 409:
            raise
        return False
    return True
