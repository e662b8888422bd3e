#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_cluster_version: have Rancher bring a cluster to another version of RKE2."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_cluster_version
short_description: Have Rancher bring a cluster to another version of RKE2
version_added: 0.1.0
description:
  - Refuses an earlier version, a step over more than one minor version, a version that Rancher does not offer, a
    cluster whose upgrade strategy takes more than one node at a time, and one that is not healthy.
  - Has etcd snapshotted and waits until a snapshot has succeeded; then sets the version, and nothing else.
  - Does not wait for the nodes; M(harvester_rke2.platform.rancher_cluster_upgraded) does. A version that is set already
    is no change, however far its nodes are.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  version:
    description: Version of RKE2, such as V(v1.34.8+rke2r2).
    type: str
    required: true
  snapshot:
    description: Have etcd snapshotted first.
    type: bool
    default: true
  snapshot_timeout:
    description: Seconds that a snapshot may take.
    type: int
    default: 300
  vault_namespace:
    description: Namespace of Vault, none of whose servers may be sealed; it is not looked at without.
    type: str
    default: ''
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.full
  - harvester_rke2.platform.rancher
seealso:
  - module: harvester_rke2.platform.rancher_cluster_upgraded
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Set another version
  harvester_rke2.platform.rancher_cluster_version:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    version: v1.34.9+rke2r1
"""

RETURN = r"""
before:
  description: Version that the cluster was asked to have before.
  returned: success
  type: str
snapshot:
  description: Name of the snapshot of etcd, or an empty string if none was taken.
  returned: success
  type: str
"""

from typing import Any

from ..module_utils import _rancher_upgrade as upgrade
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._rancher import LOCAL, Rancher
from ..module_utils._rancher_pool import living

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "snapshot": {"type": "bool", "default": True},
    "snapshot_timeout": {"type": "int", "default": 300},
    "vault_namespace": {"type": "str", "default": ""},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    name, version = params["name"], params["version"]
    doing = f"Upgrading the cluster {name} to {version}"
    rancher = Rancher.from_options(params)
    local = rancher.kubernetes(LOCAL)
    cluster = living(local, name, doing)
    before, taken = str(cluster["spec"].get("kubernetesVersion") or ""), ""
    upgrade.judge_strategy(doing, cluster)
    if before != version:
        upgrade.judge_step(doing, before, version, rancher.releases())
        upgrade.judge_health(doing, rancher, name, params["vault_namespace"])
        if not check:
            if params["snapshot"]:
                taken = upgrade.snapshot(local, name, params["snapshot_timeout"])
            upgrade.set_version(local, name, version)
    diff = {"before": f"{name}: {before}\n", "after": f"{name}: {version}\n"}
    return {"changed": before != version, "before": before, "snapshot": taken, "diff": diff}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
