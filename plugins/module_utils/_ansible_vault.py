# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The option groups `vault` and `vault keys`, turned into doors and a store (private to this collection)."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._ansible_kube import kube_module
from ._errors import PlatformError, Unreachable

_LIBRARY_ERROR: str | None
try:
    import cryptography  # noqa: F401
    import hvac  # noqa: F401
    import yaml

    from ._kube_client import KubeClient
    from ._root_ca import RootStore
    from ._vault_client import VaultNotReady
    from ._vault_doors import Doors
    from ._vault_keys import KeyStore
    from ._vault_leader import Leader
    from ._vault_objects import Change, Objects
except ImportError:
    _LIBRARY_ERROR = traceback.format_exc()
else:
    _LIBRARY_ERROR = None

# The same for every module of the action group, so that defaults can be set for all of them at once.
ACCESS_OPTIONS: dict[str, Any] = {
    "vault_namespace": {"type": "str", "default": "vault"},
    "pods": {"type": "list", "elements": "str", "default": ["vault-0", "vault-1", "vault-2"]},
    "addresses": {"type": "dict"},
    "address": {"type": "str"},
    "ca_certificate": {"type": "str"},
    "token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VAULT_TOKEN"])},
}
# `no_log: false` because these are names of where secrets are.
STORE_OPTIONS: dict[str, Any] = {
    "keys_kubeconfig": {"type": "path"},
    "keys_context": {"type": "str", "no_log": False},
    "keys_host": {"type": "str", "no_log": False},
    "keys_api_key": {"type": "str", "no_log": True},
    "keys_ca_cert": {"type": "str", "no_log": False},
    "keys_namespace": {"type": "str", "required": True, "no_log": False},
}
KEYS_OPTIONS: dict[str, Any] = {**STORE_OPTIONS, "keys_name": {"type": "str", "default": "vault-init", "no_log": False}}


def vault_module(argument_spec: Mapping[str, Any], *, kubernetes: bool = True, **kwargs: Any) -> AnsibleModule:
    """An AnsibleModule on a Python that has what Vault and PKI need."""
    make = kube_module if kubernetes else AnsibleModule
    module = make(argument_spec, **kwargs)
    if _LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("hvac and cryptography"), exception=_LIBRARY_ERROR)
    return module


def _client(options: Mapping[str, Any], check: bool) -> KubeClient:
    """In check mode what does not exist yet must be told soon: a fresh controller runs all phases in it."""
    return KubeClient.from_options(options, attempts=2) if check else KubeClient.from_options(options)


def keys_client(params: Mapping[str, Any], *, check: bool = False) -> KubeClient:
    """Harvester, where the keys are."""
    names = ("kubeconfig", "context", "host", "api_key", "ca_cert")
    return _client({name: params[f"keys_{name}"] for name in names}, check)


def key_store(params: Mapping[str, Any], *, check: bool = False) -> KeyStore:
    return KeyStore(keys_client(params, check=check), params["keys_namespace"], params["keys_name"])


def doors(params: Mapping[str, Any], *, check: bool = False, patience: float = 30.0) -> Doors:
    """The ways to the servers. With `addresses`, pods are only looked at when a kubeconfig is named as well."""
    in_cluster = not params["addresses"] or params["kubeconfig"] or params["host"]
    return Doors(
        params["pods"],
        namespace=params["vault_namespace"],
        addresses=params["addresses"],
        address=params["address"] or "",
        ca_certificate=params["ca_certificate"] or "",
        cluster=(lambda: _client(params, check)) if in_cluster else None,
        patience=patience,
    )


def root_store(params: Mapping[str, Any], name: str, *, check: bool = False) -> RootStore:
    return RootStore(keys_client(params, check=check), params["keys_namespace"], name)


def leader_and_objects(params: Mapping[str, Any], ways: Doors, *, check: bool) -> tuple[Leader, Objects]:
    """What works at the active server, with secrets taken from the cluster in which Vault is used."""
    leader = Leader(ways, lambda: key_store(params, check=check), params["token"] or "")
    return leader, Objects(leader, SecretEntries(params), check=check)


class SecretEntries:
    """Values of Secrets, read when they are needed and never part of a result."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._client: KubeClient | None = None

    def __call__(self, reference: Mapping[str, str]) -> str | None:
        if set(reference) != {"namespace", "name", "key"}:
            why = f"it has {', '.join(sorted(reference)) or 'nothing'}"
            raise PlatformError("Reading an entry of data_from", why, "Give namespace, name and key.")
        self._client = self._client or KubeClient.from_options(self._params)
        path = f"/api/v1/namespaces/{reference['namespace']}/secrets/{reference['name']}"
        data = (self._client.get_or_none(path) or {}).get("data") or {}
        value = data.get(reference["key"])
        return None if value is None else base64.b64decode(value).decode()


def or_planned(
    check: bool, leader: Leader, work: Callable[[], dict[str, Any]], planned: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    """Do the work; in check mode, what cannot be asked yet counts as planned."""
    try:
        leader.connect(0.0 if check else 60.0)
    except (VaultNotReady, Unreachable) as exc:
        if not check:
            raise
        return planned(exc.why)
    return work()


def diff_of(changes: Iterable[Change]) -> dict[str, str]:
    """The differing fields of the changed objects; secrets are masked where the changes are made."""
    changed = [change for change in changes if change.changed]
    sides = {}
    for side in ("before", "after"):
        shown = {f"{change.kind} {change.name}": getattr(change, side) for change in changed if getattr(change, side)}
        sides[side] = yaml.dump(shown, Dumper=_dumper(), sort_keys=False) if shown else ""
    return sides


def _dumper() -> type[yaml.SafeDumper]:
    """As a person would write it: texts of several lines as blocks, nothing by reference."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return Dumper
