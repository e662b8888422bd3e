#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_cluster_remains: list what of a cluster is on Harvester and in Rancher."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_cluster_remains
short_description: List what of a cluster is on Harvester and in Rancher
version_added: 0.1.0
description:
  - Lists what has the name of a cluster, or lies in its namespaces, after it was destroyed. Kinds that a Rancher or
    Harvester does not have, and what the token's user may not see, are left out.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  harvester_cluster:
    description: Name of Harvester in Rancher.
    type: str
    required: true
  namespace:
    description: Namespace on Harvester of the cluster's machines.
    type: str
    required: true
  keys_namespace:
    description: Namespace on Harvester of its keys and root CA.
    type: str
    required: true
  shared_namespace:
    description: Namespace on Harvester of the networks and images that clusters share.
    type: str
    required: true
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: List what is left
  harvester_rke2.platform.rancher_cluster_remains:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    harvester_cluster: harvester
    name: production
    namespace: production
    keys_namespace: production-keys
    shared_namespace: default
"""

RETURN = r"""
remains:
  description: A line for each object, with where it is.
  returned: always
  type: list
  elements: str
  sample: ["Harvester: Secret production-keys/root-ca-0a1b (kept)"]
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..module_utils import _rancher_cluster as clusters
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._kube_client import ApiError, KubeClient
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "harvester_cluster": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    # `no_log: false` because this is a name.
    "keys_namespace": {"type": "str", "required": True, "no_log": False},
    "shared_namespace": {"type": "str", "required": True},
}
KEPT = " (kept)"
SHARED = " (clusters share it)"
Place = tuple[str, str, str, Callable[[dict[str, Any]], bool]]


def places(params: dict[str, Any], others: list[str]) -> dict[str, list[Place]]:
    """Server to what to look at there: kind, path, what is said of it, which of the objects."""
    name, space, keys, shared = (params[key] for key in ("name", "namespace", "keys_namespace", "shared_namespace"))

    def every(item: dict[str, Any]) -> bool:
        return True

    def named(item: dict[str, Any]) -> bool:
        own = item["metadata"]["name"]
        return own in (name, f"cc-{name}") or clusters.belongs(own, name, others)

    def spaces(item: dict[str, Any]) -> bool:
        return item["metadata"]["name"] in (space, keys)

    fleet = f"namespaces/{clusters.FLEET}"
    return {
        "Harvester": [
            ("Namespace", "/api/v1/namespaces", KEPT, spaces),
            *((kind, path.format(space), "", every) for kind, path in clusters.REMAINS.items()),
            ("LoadBalancer", f"/apis/loadbalancer.harvesterhci.io/v1beta1/namespaces/{space}/loadbalancers", "", every),
            ("ServiceAccount", f"/api/v1/namespaces/{space}/serviceaccounts", "", named),
            ("Secret", f"/api/v1/namespaces/{keys}/secrets", KEPT, every),
            (
                "NetworkAttachmentDefinition",
                f"/apis/k8s.cni.cncf.io/v1/namespaces/{shared}/network-attachment-definitions",
                SHARED,
                every,
            ),
            (
                "VirtualMachineImage",
                f"/apis/harvesterhci.io/v1beta1/namespaces/{shared}/virtualmachineimages",
                SHARED,
                every,
            ),
        ],
        "Rancher": [
            ("Cluster", clusters.CLUSTERS, "", lambda item: bool(item["metadata"]["name"] == name)),
            ("Machine", clusters.MACHINES, "", named),
            ("HarvesterConfig", f"/apis/rke-machine-config.cattle.io/v1/{fleet}/harvesterconfigs", "", named),
            ("Secret", f"/api/v1/{fleet}/secrets", "", named),
            ("Secret", "/api/v1/namespaces/cattle-global-data/secrets", "", named),
        ],
    }


def found_at(server: str, client: KubeClient, place: Place) -> Iterator[str]:
    kind, path, said, wanted = place
    try:
        items = (client.get_or_none(path) or {}).get("items") or []
    except ApiError as exc:
        if exc.status != 403:
            raise
        return
    for item in filter(wanted, items):
        meta = item["metadata"]
        title = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
        yield f"{server}: {kind} {title}{said}"


def execute(params: dict[str, Any]) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params)
    local = rancher.kubernetes(LOCAL)
    clients = {"Harvester": rancher.kubernetes(rancher.cluster_id(params["harvester_cluster"])), "Rancher": local}
    there = {item["metadata"]["name"] for item in local.list_all(clusters.CLUSTERS)["items"]}
    wanted = places(params, sorted(there - {params["name"]}))
    work = [(server, clients[server], place) for server, listed in wanted.items() for place in listed]
    with ThreadPoolExecutor(8) as pool:
        lines = [line for found in pool.map(lambda one: list(found_at(*one)), work) for line in found]
    return {"remains": lines}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params))


if __name__ == "__main__":
    main()
