#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_pool: set the number of machines of a pool."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_pool
short_description: Set the number of machines of a pool
version_added: 0.1.0
description:
  - Changes the number of machines of one pool of a cluster that Rancher provisions, and nothing else.
  - Refuses a number outside of what the autoscaler keeps the pool between, an even number of control-plane machines,
    and fewer of them than the quorum of those that are there.
  - Does not wait for the machines; M(harvester_rke2.platform.rancher_cluster_ready) does.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  pool:
    description: Name of the pool.
    type: str
    required: true
  quantity:
    description: How many machines it is to have.
    type: int
    required: true
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.full
  - harvester_rke2.platform.rancher
seealso:
  - module: harvester_rke2.platform.rancher_cluster_ready
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Have six general nodes
  harvester_rke2.platform.rancher_pool:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    pool: general
    quantity: 6
"""

RETURN = r"""
before:
  description: How many it was asked to have before.
  returned: success
  type: int
quantity:
  description: How many it is asked to have now.
  returned: success
  type: int
"""

from typing import Any

from ..module_utils import _rancher_pool as pools
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "pool": {"type": "str", "required": True},
    "quantity": {"type": "int", "required": True},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    client = Rancher.from_options(params).kubernetes(LOCAL)
    before = pools.set_quantity(client, params["name"], params["pool"], params["quantity"], check=check)
    after, title = params["quantity"], f"pool {params['pool']} of {params['name']}"
    diff = {"before": f"{title}: {before}\n", "after": f"{title}: {after}\n"}
    return {"changed": before != after, "before": before, "quantity": after, "diff": diff}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
