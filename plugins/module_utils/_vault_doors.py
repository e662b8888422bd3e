# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The ways to the servers of one Vault (private to this collection)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._errors import PlatformError
from ._kube_client import KubeClient
from ._vault_client import Vault, VaultNotReady, VaultUnreachable

_PORT = 8200
_DELAY = 0.3


class Doors:
    """Given addresses, or port-forwards to the pods that stay open until the end."""

    def __init__(
        self,
        pods: Sequence[str],
        *,
        namespace: str = "vault",
        addresses: Mapping[str, str] | None = None,
        address: str = "",
        ca_certificate: str = "",
        cluster: Callable[[], KubeClient] | None = None,
        patience: float = 30.0,
    ) -> None:
        self.addresses = dict(addresses or {})
        self.pods = list(self.addresses) if self.addresses else list(pods)
        self.namespace, self.address, self.ca = namespace, address, ca_certificate
        self.patience = patience
        self._cluster = cluster
        self._kube: KubeClient | None = None
        self._open: dict[str, Vault] = {}
        self._stack = contextlib.ExitStack()
        if not self.pods:
            raise PlatformError("Reaching Vault", "neither pods nor addresses are given")

    def __enter__(self) -> Doors:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stack.close()

    @property
    def kube(self) -> KubeClient | None:
        """The cluster in which the pods are, if there is one."""
        if self._kube is None and self._cluster is not None:
            self._kube = self._cluster()
        return self._kube

    def pod(self, name: str) -> dict[str, Any]:
        """The pod's object; an error that says which phase makes it when there is none."""
        doing = f"Reaching pod {name} in namespace {self.namespace}"
        found = self.find_pod(name)
        if found is None:
            raise VaultNotReady(doing, "it does not exist", "Deploy Vault first (--tags phase2).")
        phase = (found.get("status") or {}).get("phase")
        if phase != "Running":
            raise VaultNotReady(doing, f"it is {phase or 'not started'}", "Wait until its container runs.")
        return found

    def find_pod(self, name: str) -> dict[str, Any] | None:
        """The pod's object, where the servers are pods."""
        return self.kube.get_or_none(self.pod_path(name)) if self.kube is not None else None

    def pod_path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    def open(self, name: str) -> Vault:
        """The server of that name, connected when first asked for."""
        if name not in self._open:
            url, ca = self.addresses.get(name, ""), self.ca
            if not url:
                self.pod(name)
                url, ca = self._forward(name), ""
            self._open[name] = vault = Vault(name, url, ca_certificate=ca, patience=self.patience)
            self._stack.callback(vault.close)
        return self._open[name]

    def _forward(self, name: str) -> str:
        assert self.kube is not None  # pod() was asked before
        try:
            host, port = self._stack.enter_context(self.kube.portforward(self.namespace, name, _PORT))
        except PlatformError as exc:
            raise VaultUnreachable(
                f"Opening a port-forward to pod {name} in namespace {self.namespace}", exc.why, exc.mend, sent=False
            ) from None
        return f"http://{host}:{port}"

    def leader(self, timeout: float = 60.0) -> Vault:
        """The active server: by its address when that answers and verifies, else the pod that says so itself."""
        notes: list[str] = []
        if self.address:
            vault = Vault(self.address, self.address, ca_certificate=self.ca, patience=self.patience)
            self._stack.callback(vault.close)
            try:
                if vault.health()["active"]:
                    return vault
                notes.append(f"{self.address} leads to a server that is not the active one")
            except PlatformError as exc:
                notes.append(f"{self.address}: {exc.why}")
        deadline = time.monotonic() + timeout
        while True:
            states: dict[str, str] = {}
            for name in self.pods:
                states[name] = self._state(name)
                if states[name] == "active":
                    return self.open(name)
            waiting = any(state in ("standby", "unreachable") for state in states.values())
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(_DELAY)
        notes += [f"{name} is {state}" for name, state in states.items()]
        mend = "Run the playbook unseal.yml." if "sealed" in states.values() else "Run phase 2 first (--tags phase2)."
        raise VaultNotReady("Looking for the active server of Vault", ", ".join(notes), mend)

    def _state(self, name: str) -> str:
        try:
            health = self.open(name).health()
        except VaultNotReady:
            return "not running"
        except VaultUnreachable:
            return "unreachable"
        if not health.get("initialized"):
            return "not initialised"
        if health["sealed"]:
            return "sealed"
        return "active" if health["active"] else "standby"
