# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Calls with a token at the active server, whichever that is at the moment (private to this collection)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._errors import PlatformError
from ._vault_client import Vault, VaultError, VaultUnreachable
from ._vault_doors import Doors
from ._vault_keys import KeyStore

_UPGRADING = "Upgrading from non-versioned"


class Leader:
    """Reads and writes as one identity. The root token is read here and goes nowhere else."""

    def __init__(self, doors: Doors, store: Callable[[], KeyStore], token: str = "") -> None:
        self._doors, self._store, self._token = doors, store, token
        self._given = bool(token)
        self._vault: Vault | None = None
        self._hidden: set[str] = set()

    def connect(self, timeout: float = 60.0) -> None:
        """Find the active server and a token; raises VaultNotReady when there is none yet."""
        self._vault = self._doors.leader(timeout)
        self._vault.hide(self._hidden)
        if not self._token:
            self._token = self._stored_token()
        self._vault.token = self._token

    def _stored_token(self) -> str:
        store = self._store()
        stored = store.read()
        if stored is None:
            mend = "Initialise Vault first (--tags phase2), or set token."
            raise PlatformError("Reading Vault's root token", f"{store} does not exist", mend)
        return stored.keys.root_token

    def hide(self, secrets: set[str]) -> None:
        """Blank these in every message of Vault from now on."""
        self._hidden |= secrets
        if self._vault is not None:
            self._vault.hide(secrets)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
        """As Vault.call, with the token; finds the new leader when the old one went away, asks for a token once."""
        if self._vault is None:
            self.connect()
        assert self._vault is not None
        try:
            return self._vault.call(method, path, body, **kwargs)
        except VaultUnreachable:
            if not kwargs.get("retry", True):
                raise
            self.connect()
        except VaultError as exc:
            if exc.status in (500, 503) and kwargs.get("retry", True):
                self.connect()
            elif exc.status == 403:
                self._renew(exc)
            else:
                raise
        return self._vault.call(method, path, body, **kwargs)

    def _renew(self, refusal: VaultError) -> None:
        """Vault says no: because of the token itself, or because of what the token may do?"""
        assert self._vault is not None
        try:
            self._vault.call("GET", "auth/token/lookup-self")
        except VaultError:
            pass
        else:
            mend = "Give the token a policy that allows this, or use the root token."
            raise PlatformError(refusal.doing, refusal.why, mend) from None
        if self._given:
            mend = "Set a valid token, or none to use the root token from the keys' Secret."
            raise PlatformError(refusal.doing, "the given token has expired or was revoked", mend) from None
        fresh = self._stored_token()
        if fresh == self._token:
            why = "the root token in the keys' Secret has been revoked, or belongs to another Vault"
            raise PlatformError(refusal.doing, why, "Set token (or VAULT_TOKEN) to one that is valid.") from None
        self._token = self._vault.token = fresh

    def read(self, path: str) -> dict[str, Any] | None:
        """The `data` of a path; None when it, or the mount it is on, does not exist."""
        try:
            answer = self.call("GET", path)
        except VaultError as exc:
            if exc.status == 404:
                return None
            raise
        data = answer.get("data")
        return data if isinstance(data, dict) else {}

    def names(self, path: str) -> list[str]:
        """The names below a path; none when there is nothing."""
        data = self.list(path)
        return [str(name) for name in data.get("keys") or []]

    def list(self, path: str) -> dict[str, Any]:
        try:
            answer = self.call("LIST", path)
        except VaultError as exc:
            if exc.status == 404:
                return {}
            raise
        return answer.get("data") or {}

    def is_openbao(self) -> bool:
        mounts = self.read("sys/mounts") or {}
        return any(".bao" in str(mount.get("running_plugin_version", "")) for mount in mounts.values())


def upgrading(error: VaultError) -> bool:
    """A kv mount answers like this in its first moments, and when an older one becomes versioned."""
    return error.status == 400 and any(_UPGRADING in text for text in error.errors)
