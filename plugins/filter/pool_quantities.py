# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: whose the numbers of a cluster's pools are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: pool_quantities
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Rules that leave the size of pools to the autoscaler
description:
  - Returns the O(harvester_rke2.platform.bundle#module:set_once) rules for a Cluster of Rancher. The number of a pool
    whose minimum and maximum differ is set when the pool is made, and later only brought back between the two.
positional: cluster
options:
  _input:
    description: The pools by name, C(platform_pools).
    type: dict
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show whose numbers they are
  ansible.builtin.debug:
    msg: "{{ platform_pools | harvester_rke2.platform.pool_quantities('production') }}"
"""

RETURN = r"""
_value:
  description: The rules.
  type: list
  elements: dict
"""


def pool_quantities(pools: Mapping[str, Mapping[str, Any]], cluster: str) -> list[dict[str, Any]]:
    """One rule for each pool that may grow."""
    return [
        {
            "kind": "Cluster",
            "name": cluster,
            "fields": [f'.spec.rkeConfig.machinePools[name="{name}"].quantity'],
            "minimum": int(pool["minimum"]),
            "maximum": int(pool["maximum"]),
        }
        for name, pool in pools.items()
        if int(pool["minimum"]) != int(pool["maximum"])
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"pool_quantities": pool_quantities}
