#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module harvester_orphans: remove what a destroyed cluster has left on Harvester."""

from __future__ import annotations

DOCUMENTATION = r"""
module: harvester_orphans
short_description: Remove what a destroyed cluster has left on Harvester
version_added: 0.1.0
description:
  - Removes the virtual machines, their instances, data volumes and claims, with their data, that belonged to a cluster
    which Rancher no longer has. They stay behind when credentials go before machines.
  - What holds them (finalizers) is taken off when Harvester has not let go after O(grace).
  - While Rancher has a cluster of the name, nothing is removed.
options:
  name:
    description: Name of the cluster that has gone.
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
  grace:
    description: Seconds that Harvester's own controllers get for each kind.
    type: int
    default: 30
  timeout:
    description: Seconds for everything.
    type: int
    default: 300
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.full
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Remove what an earlier cluster has left
  harvester_rke2.platform.harvester_orphans:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    harvester_cluster: harvester
    name: production
    namespace: production
"""

RETURN = r"""
orphans:
  description: What was, or would be, removed, by C(kind), C(namespace), C(name) and C(held_by).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils import _rancher_cluster as clusters
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "harvester_cluster": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "grace": {"type": "int", "default": 30},
    "timeout": {"type": "int", "default": 300},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params, attempts=3 if check else 6)
    name, namespace = params["name"], params["namespace"]
    doing = f"Removing what the cluster {name} has left on Harvester"
    try:
        there = {item["metadata"]["name"] for item in rancher.kubernetes(LOCAL).list_all(clusters.CLUSTERS)["items"]}
        harvester = rancher.kubernetes(rancher.cluster_id(params["harvester_cluster"]))
    except Unreachable:
        if not check:
            raise
        return {"changed": False, "orphans": []}
    if name in there:
        # Not a failure: phase 0 may well be run again with the switch still on.
        return {"changed": False, "orphans": []}
    left = clusters.orphans(harvester, namespace, name, there)
    if left and not check:
        stuck = clusters.remove(harvester, namespace, left, params["grace"], params["timeout"])
        if stuck:
            raise PlatformError(
                doing,
                f"after {params['timeout']} s there are still {', '.join(stuck)}",
                "Look at them on Harvester: something puts them back, or holds them outside the API.",
            )
    listed = "".join(f"{entry['kind']} {entry['namespace']}/{entry['name']}\n" for entry in left)
    return {"changed": bool(left), "orphans": left, "diff": {"before": listed, "after": ""}}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
