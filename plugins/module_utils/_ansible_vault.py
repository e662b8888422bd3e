# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The option groups `vault` and `vault keys`, turned into doors and a store (private to this collection)."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._ansible_kube import kube_module

_LIBRARY_ERROR: str | None
try:
    import cryptography  # noqa: F401
    import hvac  # noqa: F401

    from ._kube_client import KubeClient
    from ._vault_doors import Doors
    from ._vault_keys import KeyStore
except ImportError:
    _LIBRARY_ERROR = traceback.format_exc()
else:
    _LIBRARY_ERROR = None

ACCESS_OPTIONS: dict[str, Any] = {
    "vault_namespace": {"type": "str", "default": "vault"},
    "pods": {"type": "list", "elements": "str", "default": ["vault-0", "vault-1", "vault-2"]},
    "addresses": {"type": "dict"},
    "ca_certificate": {"type": "str"},
}
STORE_OPTIONS: dict[str, Any] = {
    "keys_kubeconfig": {"type": "path"},
    "keys_context": {"type": "str"},
    "keys_namespace": {"type": "str", "required": True},
}
# `no_log: false` because these are names of Secrets, not secrets.
KEYS_OPTIONS: dict[str, Any] = {**STORE_OPTIONS, "keys_name": {"type": "str", "default": "vault-init", "no_log": False}}
ADDRESS_OPTIONS: dict[str, Any] = {"address": {"type": "str"}}
TOKEN_OPTIONS: dict[str, Any] = {
    "token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VAULT_TOKEN"])},
}


def vault_module(argument_spec: Mapping[str, Any], **kwargs: Any) -> AnsibleModule:
    """An AnsibleModule on a Python that has what Vault and PKI need."""
    module = kube_module(argument_spec, **kwargs)
    if _LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("hvac and cryptography"), exception=_LIBRARY_ERROR)
    return module


def keys_client(params: Mapping[str, Any]) -> KubeClient:
    """Harvester, where the keys are."""
    return KubeClient.from_options({"kubeconfig": params["keys_kubeconfig"], "context": params["keys_context"]})


def key_store(params: Mapping[str, Any]) -> KeyStore:
    return KeyStore(keys_client(params), params["keys_namespace"], params["keys_name"])


def doors(params: Mapping[str, Any], *, patience: float = 30.0) -> Doors:
    """The ways to the servers. With `addresses`, pods are only looked at when a kubeconfig is named as well."""
    in_cluster = not params["addresses"] or params["kubeconfig"]
    return Doors(
        params["pods"],
        namespace=params["vault_namespace"],
        addresses=params["addresses"],
        address=params.get("address") or "",
        ca_certificate=params["ca_certificate"] or "",
        cluster=(lambda: KubeClient.from_options(params)) if in_cluster else None,
        patience=patience,
    )
