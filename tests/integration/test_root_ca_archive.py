# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The root CA of a cluster that is given up is moved aside and never lost, on the lab's real Harvester API server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient
from ansible_collections.harvester_rke2.platform.plugins.module_utils._root_ca import RootStore
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_keys import CLUSTER_ID

from lab.settings import Lab

DIRECTORY = Lab.from_environment().directory
KUBECONFIG = DIRECTORY / "kubeconfig" / "harvester.yaml"

pytestmark = [
    pytest.mark.skipif(not KUBECONFIG.exists(), reason=f"no lab runs in {DIRECTORY}"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def store() -> Iterator[RootStore]:
    client = KubeClient.from_options({"kubeconfig": str(KUBECONFIG)})
    name = f"keys-{uuid.uuid4().hex[:6]}"
    made = RootStore(client, name, "root-ca")
    made.create("Lab Root CA", "", 24, 3072)
    yield made
    client.delete(f"/api/v1/namespaces/{name}")


def secrets(store: RootStore) -> dict[str, Any]:
    items = store.client.request("GET", f"/api/v1/namespaces/{store.namespace}/secrets")["items"]
    return {item["metadata"]["name"]: item for item in items}


def test_it_gets_the_id_of_the_vault_beside_it_and_keeps_its_key(store: RootStore) -> None:
    folder = f"/api/v1/namespaces/{store.namespace}/secrets"
    meta = {"name": "vault-init", "annotations": {CLUSTER_ID: "0a1b-2c3d"}}
    store.client.request("POST", folder, body={"apiVersion": "v1", "kind": "Secret", "metadata": meta})
    before = secrets(store)["root-ca"]["data"]
    assert store.archive("vault-init", check=True) == "root-ca-0a1b-2c3d" and "root-ca" in secrets(store)
    assert store.archive("vault-init", check=False) == "root-ca-0a1b-2c3d"
    kept = secrets(store)
    assert "root-ca" not in kept and kept["root-ca-0a1b-2c3d"]["data"] == before
    assert kept["root-ca-0a1b-2c3d"]["immutable"] and kept["root-ca-0a1b-2c3d"]["type"] == "kubernetes.io/tls"
    assert store.archive("vault-init", check=False) == ""
    # The next life gets one of its own.
    assert store.create("Lab Root CA", "", 24, 3072)[1]


def test_killed_between_copy_and_removal_the_next_run_finishes(store: RootStore, monkeypatch: Any) -> None:
    def killed(*_unused: Any, **_options: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KubeClient, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            store.archive("vault-init", check=False)
    assert len([name for name in secrets(store) if name.startswith("root-ca")]) == 2
    name = store.archive("vault-init", check=False)
    assert [one for one in secrets(store) if one.startswith("root-ca")] == [name]


def test_another_one_of_that_name_is_never_overwritten(store: RootStore) -> None:
    name = store.archive("vault-init", check=True)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"tls.key": "AAAA"}}
    store.client.request("POST", f"/api/v1/namespaces/{store.namespace}/secrets", body=body)
    with pytest.raises(PlatformError, match="none is ever overwritten"):
        store.archive("vault-init", check=False)
    assert secrets(store)["root-ca"]["data"]["tls.key"] != "AAAA" and secrets(store)[name]["data"]["tls.key"] == "AAAA"
