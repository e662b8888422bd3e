#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_cluster_upgraded: follow an upgrade node by node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_cluster_upgraded
short_description: Follow an upgrade node by node
version_added: 0.1.0
description:
  - Waits until every node has the version, is Ready and takes work again, and Rancher calls the cluster settled.
  - Ends early, without C(done), when a server of Vault is sealed, because the budget of its pods lets no further node
    be drained until somebody has unsealed it.
  - Fails as soon as the control plane has lost its majority, or a node has been out for O(node_timeout), and says which
    node and why. Rancher takes no further node then, as the one that is out counts.
  - The wait goes on in slices of at most 30 seconds, after each of which a line says how far it is.
  - In check mode it looks once.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  version:
    description: Version of RKE2, such as V(v1.34.8+rke2r2).
    type: str
    required: true
  vault_namespace:
    description: Namespace of Vault; it is not looked at without.
    type: str
    default: ''
  node_timeout:
    description: Seconds that one node may be out.
    type: int
    default: 900
  timeout:
    description: Seconds to wait.
    type: int
    default: 3600
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Wait until every node has the version
  harvester_rke2.platform.rancher_cluster_upgraded:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    version: v1.34.9+rke2r1
"""

RETURN = r"""
done:
  description: Whether everything is as it should be.
  returned: always
  type: bool
sealed:
  description: Servers of Vault that are sealed.
  returned: always
  type: list
  elements: str
out:
  description: Nodes that take no work, with the reason.
  returned: always
  type: dict
behind:
  description: Nodes that do not have the version yet.
  returned: always
  type: list
  elements: str
progress:
  description: All of it in one line.
  returned: always
  type: str
"""

from typing import Any

from ..module_utils import _rancher_cluster as clusters
from ..module_utils import _rancher_upgrade as upgrade
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._rancher import Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "vault_namespace": {"type": "str", "default": ""},
    "node_timeout": {"type": "int", "default": 900},
    "timeout": {"type": "int", "default": 3600},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher, name, version = Rancher.from_options(params), params["name"], params["version"]
    return clusters.follow(
        lambda: upgrade.progress(rancher, name, version, params["vault_namespace"]),
        lambda result: bool(check or result["done"] or result["sealed"]),
        params["timeout"],
        doing=f"Upgrading the cluster {name} to {version}",
        why="it is not there",
        mend="Look at the node that is named in Rancher and at its console on Harvester, then run again.",
    )


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
