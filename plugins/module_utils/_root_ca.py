# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The root CA's place: one create-only, immutable Secret beside Vault's keys (private to this collection)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from ._errors import PlatformError
from ._kube_client import ApiError, KubeClient
from ._pki import Authority, hours_left, load, make_root
from ._vault_keys import CLUSTER_ID, FIELD_MANAGER, ensure_namespace


class RootStore:
    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self.client, self.namespace, self.name = client, namespace, name

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name} of {self.client.config.server}"

    def read(self) -> Authority | None:
        """The root CA, proved to be whole and valid; None only when the API server says that it is not there."""
        found = self.client.get_or_none(f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}")
        return None if found is None else self._parse(found)

    def _parse(self, secret: Mapping[str, Any]) -> Authority:
        doing = f"Reading the root CA in {self}"
        data = secret.get("data") or {}
        try:
            certificate, key = (
                base64.b64decode(data.get(name) or "", validate=True) for name in ("tls.crt", "tls.key")
            )
        except binascii.Error:
            raise PlatformError(doing, "its entries are not base64") from None
        root = load(certificate, key, doing)
        if hours_left(root.certificate) <= 0:
            raise PlatformError(
                doing, "it has expired", "A new root CA must be made and rolled out: see docs/vault.md."
            )
        return root

    def archive(self, keys: str, *, check: bool) -> str:
        """Move the root CA of a cluster that is given up aside: first the copy, read back, then the original's removal.

        It is named by the id of the Vault whose keys are beside it in the Secret ``keys``, or else by a digest.
        An expired or a damaged one is moved as it is: whoever needs it later can judge it.
        """
        folder = f"/api/v1/namespaces/{self.namespace}/secrets"
        found = self.client.get_or_none(f"{folder}/{self.name}")
        if found is None:
            return ""
        vault = self.client.get_or_none(f"{folder}/{keys}") or {"metadata": {}}
        life = str((vault["metadata"].get("annotations") or {}).get(CLUSTER_ID) or "")
        name = f"{self.name}-{life or hashlib.sha256(str(found.get('data')).encode()).hexdigest()[:16]}"
        doing = f"Archiving the root CA in {self} as {name}"
        if check:
            return name
        kept = {"namespace": self.namespace, "name": name, "labels": found["metadata"].get("labels") or {}}
        copy: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": kept, "immutable": True}
        copy |= {key: found[key] for key in ("type", "data")}
        try:
            self.client.create(copy, field_manager=FIELD_MANAGER)
        except ApiError as exc:
            if exc.status != 409:
                raise
        back = self.client.get_or_none(f"{folder}/{name}")
        if back is None or back.get("data") != found.get("data"):
            raise PlatformError(
                doing,
                "there is another one under this name, and none is ever overwritten",
                f"Look at the Secret {name} there and rename it, then run again.",
            )
        self.client.delete(f"{folder}/{self.name}", uid=str(found["metadata"].get("uid") or ""))
        return name

    def create(self, common_name: str, organization: str, hours: int, bits: int) -> tuple[Authority, bool]:
        """Make and store it in one go; whoever was faster wins, so there is never a second one."""
        made = make_root(common_name, organization, hours, bits)
        ensure_namespace(self.client, self.namespace)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
            },
            "type": "kubernetes.io/tls",
            "immutable": True,
            "data": {
                "tls.crt": base64.b64encode(made.pem.encode()).decode(),
                "tls.key": base64.b64encode(made.key_pem).decode(),
            },
        }
        try:
            self.client.create(secret, field_manager=FIELD_MANAGER)
        except ApiError as exc:
            if exc.status != 409:
                raise
        stored = self.read()
        if stored is None:
            raise PlatformError(f"Storing the root CA in {self}", "it is not there although it was accepted")
        return stored, stored.certificate == made.certificate
