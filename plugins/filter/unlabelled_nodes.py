# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter from nodes to those that services cannot choose yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: unlabelled_nodes
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Worker nodes without their pool's label
description:
  - Returns the names of the nodes of worker pools that lack the label C(workload-type), by which services choose nodes.
  - A node's pool is that of its label C(rke.cattle.io/rke-machine-pool-name), or else follows from its name.
positional: cluster, pools
options:
  _input:
    description: Name of each node to its labels, as M(harvester_rke2.platform.cluster_info) returns them.
    type: dict
    required: true
  cluster:
    description: Name of the cluster, with which the nodes' names begin.
    type: str
    required: true
  pools:
    description: The node pools, C(platform_pools).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the nodes that nothing is scheduled on
  ansible.builtin.debug:
    msg: >-
      {{ platform_state.node_labels
         | harvester_rke2.platform.unlabelled_nodes(platform_cluster_name, platform_pools) }}
"""

RETURN = r"""
_value:
  description: Their names, sorted.
  type: list
  elements: str
"""


def unlabelled_nodes(
    node_labels: Mapping[str, Mapping[str, str]], cluster: str, pools: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the names of worker nodes that lack the label."""
    found = []
    # The longest first: a pool's name may begin with another's.
    names = sorted(pools, key=len, reverse=True)
    for node, labels in node_labels.items():
        by_name = next((pool for pool in names if node.startswith(f"{cluster}-{pool}-")), "")
        pool = pools.get(labels.get("rke.cattle.io/rke-machine-pool-name") or by_name)
        if pool is not None and not pool.get("control_plane") and "workload-type" not in labels:
            found.append(node)
    return sorted(found)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"unlabelled_nodes": unlabelled_nodes}
