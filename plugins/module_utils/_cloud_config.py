# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The kubeconfig of Harvester's cloud provider in a guest cluster (private to this collection)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ._yaml import yaml

# Without it Rancher's planner gives no Secret to a cluster's nodes.
AUTHORIZED = "v2prov-secret-authorized-for-cluster"


def kubeconfig(server: str, namespace: str, data: Mapping[str, str]) -> str:
    """The same text for the same token: a Secret that changes is brought to every node again."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {"certificate-authority-data": data["ca.crt"], "server": server}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": namespace, "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"token": base64.b64decode(data["token"]).decode()}}],
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def secret(name: str, cluster: str, server: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """The Secret that `cloud-provider-config: secret://fleet-default:<name>` names."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "fleet-default", "annotations": {AUTHORIZED: cluster}},
        "type": "Opaque",
        "stringData": {"credential": kubeconfig(server, namespace, data)},
    }
