#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_cluster_info: what phase 0 must know before it makes a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_cluster_info
short_description: Read what Rancher and Harvester say about a cluster that is to be made
version_added: 0.1.0
description:
  - Checks the token, finds the ids of Harvester and of the cluster, reads the cluster as it is provisioned, and whether
    Harvester has room for the machines that the pools' minimum asks for and that are not there yet.
  - Lists what an earlier cluster of the same name has left on Harvester.
  - Rancher that does not answer is no failure but V(false) in C(reachable). A token that is refused is a failure.
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
  pools:
    description: Pools by name, each with C(minimum), C(cpu), C(memory_gib) and C(disk_gib).
    type: dict
    required: true
  warn_days:
    description: Days before its end from which on the token is warned about.
    type: int
    default: 14
  volume_replicas:
    description: Copies that Longhorn keeps of each volume.
    type: int
    default: 3
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Read what Rancher and Harvester say
  harvester_rke2.platform.rancher_cluster_info:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    harvester_cluster: harvester
    name: production
    namespace: production
    pools: "{{ platform_pools }}"
  register: info
"""

RETURN = r"""
state:
  description: The state; every key is always there.
  returned: always
  type: dict
  contains:
    reachable:
      description: Whether Rancher answered.
      type: bool
    why:
      description: Why it did not.
      type: str
    rancher_version:
      description: Version of Rancher.
      type: str
    token_days:
      description: Days until the token ends, or V(-1) for one that does not or cannot be looked at.
      type: float
    clock_ahead:
      description: Seconds by which this machine's clock is ahead of Rancher's.
      type: float
    harvester_id:
      description: Id of Harvester in Rancher.
      type: str
    harvester_server:
      description: Address of Harvester's own API, which its load balancer keeps, or an empty string.
      type: str
    management_host:
      description: Address of the management cluster's API behind Rancher.
      type: str
    exists:
      description: Whether Rancher has a Cluster of the name.
      type: bool
    deleting:
      description: Whether it is being deleted.
      type: bool
    version:
      description: Its RKE2 version.
      type: str
    quantities:
      description: Pool to the number of machines that it is asked for.
      type: dict
    machine_configs:
      description: Machine config in use to the list of its pools, whose nodes a change of it replaces.
      type: dict
    free:
      description: What Harvester has left (C(cpu), C(memory_gib), C(storage_gib)); empty where it is not known.
      type: dict
    shortages:
      description: A sentence for each thing there is too little of.
      type: list
      elements: str
    orphans:
      description: What an earlier cluster of the name has left, by C(kind), C(namespace), C(name) and C(held_by).
      type: list
      elements: dict
"""

from typing import Any

from ..module_utils import _rancher_capacity as capacity
from ..module_utils import _rancher_cluster as clusters
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._errors import Unreachable
from ..module_utils._kube_client import KubeClient
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "harvester_cluster": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "pools": {"type": "dict", "required": True},
    "warn_days": {"type": "int", "default": 14},
    "volume_replicas": {"type": "int", "default": 3},
}
NOTHING: dict[str, Any] = {
    "reachable": False,
    "why": "",
    "rancher_version": "",
    "token_days": -1.0,
    "clock_ahead": 0.0,
    "harvester_id": "",
    "harvester_server": "",
    "management_host": "",
    "exists": False,
    "deleting": False,
    "version": "",
    "quantities": {},
    "machine_configs": {},
    "free": {},
    "shortages": [],
    "orphans": [],
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params, attempts=3 if check else 6)
    known = {**NOTHING, "management_host": rancher.address(LOCAL)}
    try:
        return {"state": {**known, **_read(rancher, params)}}
    except Unreachable as exc:
        return {"state": {**known, "why": str(exc)}}


def _read(rancher: Rancher, params: dict[str, Any]) -> dict[str, Any]:
    days = rancher.token_days()
    harvester_id = rancher.cluster_id(params["harvester_cluster"])
    local, harvester = rancher.kubernetes(LOCAL), rancher.kubernetes(harvester_id)
    there = {item["metadata"]["name"]: item for item in local.list_all(clusters.CLUSTERS)["items"]}
    cluster = there.pop(params["name"], None)
    quantities = clusters.quantities(cluster)
    need, counts = capacity.missing(params["pools"], quantities)
    room = capacity.read(harvester, params["namespace"])
    left = [] if cluster else clusters.orphans(harvester, params["namespace"], params["name"], there)
    return {
        "reachable": True,
        "rancher_version": rancher.version(),
        "token_days": -1.0 if days is None else round(days, 1),
        "clock_ahead": round(local.clock_ahead(), 1),
        "harvester_id": harvester_id,
        "harvester_server": _own_address(harvester),
        "exists": cluster is not None,
        "deleting": bool(cluster and cluster["metadata"].get("deletionTimestamp")),
        "version": str(((cluster or {}).get("spec") or {}).get("kubernetesVersion") or ""),
        "quantities": quantities,
        "machine_configs": clusters.configs_in_use(cluster),
        "free": room.free(),
        "shortages": capacity.judge(need, counts, room, params["namespace"], params["volume_replicas"]),
        "orphans": left,
    }


def _own_address(harvester: KubeClient) -> str:
    found = harvester.get_or_none("/api/v1/namespaces/harvester-system/configmaps/vip")
    address = str(((found or {}).get("data") or {}).get("ip") or "")
    return f"https://{address}:6443" if address else ""


def warnings(state: dict[str, Any], days: int) -> list[str]:
    """What does not stop a run, but will stop somebody later."""
    found = []
    if 0 <= state["token_days"] < days:
        found.append(
            f"Rancher's token ends in {state['token_days']:.1f} days. Its copies in the cloud credential and in the "
            "kubeconfig end with it, and then no pool grows: make a new one and run phase 0 again."
        )
    if state["orphans"]:
        listed = ", ".join(f"{entry['kind']} {entry['namespace']}/{entry['name']}" for entry in state["orphans"])
        found.append(
            f"An earlier cluster of this name has left {len(state['orphans'])} objects on Harvester: {listed}. Set "
            "rke2_cluster_remove_orphans: true to remove them, with their data."
        )
    return found


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)

    def tell() -> dict[str, Any]:
        result = execute(module.params, module.check_mode)
        for sentence in warnings(result["state"], module.params["warn_days"]):
            module.warn(sentence)
        return result

    run(module, tell)


if __name__ == "__main__":
    main()
