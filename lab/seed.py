# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The first objects of the three API servers."""

from __future__ import annotations

import time
from collections.abc import Mapping

import yaml

from lab import nodes, schemas
from lab.kube import Client, Object, Refused
from lab.settings import SERVERS, SOURCES, LabError

PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "StorageClass": "storageclasses",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "EndpointSlice": "endpointslices",
    "Namespace": "namespaces",
    "Deployment": "deployments",
    "DaemonSet": "daemonsets",
    "IngressClass": "ingressclasses",
    "HelmChart": "helmcharts",
    "Node": "nodes",
    "Cluster": "clusters",
    "Setting": "settings",
    "Feature": "features",
    "User": "users",
    "CiliumLoadBalancerIPPool": "ciliumloadbalancerippools",
    "CiliumL2AnnouncementPolicy": "ciliuml2announcementpolicies",
}


def fill(clients: Mapping[str, Client]) -> str:
    """Make everything that a fresh lab begins with; returns where the schemas came from."""
    said = []
    for server in SERVERS:
        crds, line = schemas.collect(schemas.GROUPS[server.name])
        schemas.install(clients[server.name], crds)
        said.append(f"{server.name}: {line}")
    for server in SERVERS:
        for item in yaml.safe_load_all((SOURCES / "manifests" / "objects" / f"{server.name}.yaml").read_text()):
            apply(clients[server.name], item)
    for client in clients.values():
        wait_for_accounts(client)
    return "; ".join(said)


def reference(client: Client) -> None:
    """What Rancher makes of the reference cluster, put there at once: nodes, and what phase 0 gives them."""
    for item in nodes.reference():
        create(client, "/api/v1/nodes", item)
    for item in yaml.safe_load_all((SOURCES / "manifests" / "seeded.yaml").read_text()):
        apply(client, item)


def path(item: Object) -> str:
    version, meta = item["apiVersion"], item["metadata"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    middle = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{base}{middle}/{PLURALS[item['kind']]}/{meta['name']}"


def apply(client: Client, item: Object, seconds: float = 20.0) -> None:
    """Also right after a schema came, while the server still says 404."""
    deadline = time.monotonic() + seconds
    # a status is a resource of its own, but for kinds that have none
    inline = "status" not in item or item["apiVersion"] in {"v1", "management.cattle.io/v3"}
    while True:
        try:
            client.apply(path(item), item if inline else {key: item[key] for key in item if key != "status"})
            if not inline:
                only = {key: item[key] for key in ("apiVersion", "kind", "metadata", "status")}
                client.apply(path(item), only, subresource="status")
            return
        except Refused as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def create(client: Client, collection: str, item: Object) -> None:
    try:
        client.request("POST", collection, item)
    except Refused as error:
        if error.reason != "AlreadyExists":
            raise


def wait_for_accounts(client: Client, seconds: float = 60.0) -> None:
    """Pods need the default ServiceAccount of their namespace: the controller-manager makes it late the first time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        spaces = {item["metadata"]["name"] for item in client.request("GET", "/api/v1/namespaces")["items"]}
        accounts = client.request("GET", "/api/v1/serviceaccounts")["items"]
        if spaces == {item["metadata"]["namespace"] for item in accounts if item["metadata"]["name"] == "default"}:
            return
        time.sleep(0.2)
    raise LabError("Waiting for the default service accounts: the controller-manager did not make them. Read its log.")
