#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_machine_config_efi: switch the machine configs of an adopted cluster to UEFI."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_machine_config_efi
short_description: Switch the machine configs of a cluster to UEFI
version_added: 0.1.0
description:
  - For clusters that were not made by phase 0. Sets C(enableEfi) on the HarvesterConfigs of a cluster, and nothing
    else.
  - Rancher replaces every node of a pool whose machine config changes. So a pool with nodes needs the consent
    O(allow_roll); without it nothing is changed, and the pools are named.
  - Tells which virtual machines still boot by BIOS.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  pools:
    description: Only the machine configs of these pools.
    type: list
    elements: str
    default: []
  allow_roll:
    description: Pools whose nodes may be replaced.
    type: list
    elements: str
    default: []
  harvester_cluster:
    description: Name of Harvester in Rancher. Without it, virtual machines are not looked at.
    type: str
    default: ''
  namespace:
    description: Namespace of the virtual machines on Harvester; by default named like the cluster.
    type: str
    default: ''
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.rancher
attributes:
  check_mode:
    support: full
    details:
      - A missing consent is told as a warning.
  diff_mode:
    support: full
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Boot the nodes of one pool by UEFI
  harvester_rke2.platform.rancher_machine_config_efi:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    pools: [general]
    allow_roll: [general]
    harvester_cluster: harvester
"""

RETURN = r"""
switched:
  description: Machine configs that were, or would be, changed.
  returned: success
  type: list
  elements: str
pools:
  description: Their pools, whose nodes Rancher replaces.
  returned: success
  type: list
  elements: str
bios:
  description: Virtual machines that still boot by BIOS.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _machine_config_efi as efi
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "pools": {"type": "list", "elements": "str", "default": []},
    "allow_roll": {"type": "list", "elements": "str", "default": []},
    "harvester_cluster": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": ""},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params)
    local = rancher.kubernetes(LOCAL)
    configs = efi.read(local, params["name"], params["pools"])
    refusal = efi.consent(configs, params["allow_roll"])
    if refusal is not None and not check:
        raise refusal
    switched = [config for config in configs if not config.efi and efi.switch_on(local, config, check=check)]
    result: dict[str, Any] = {
        "changed": bool(switched),
        "switched": [config.name for config in switched],
        "pools": [pool for config in switched for pool in config.pools],
        "bios": [],
        "diff": {
            "before": "".join(f"{config.name}: enableEfi: false\n" for config in switched),
            "after": "".join(f"{config.name}: enableEfi: true\n" for config in switched),
        },
    }
    if params["harvester_cluster"]:
        harvester = rancher.kubernetes(rancher.cluster_id(params["harvester_cluster"]))
        pools = [pool for config in configs for pool in config.pools]
        result["bios"] = efi.bios_machines(harvester, params["namespace"] or params["name"], params["name"], pools)
    if refusal is not None:
        result["refused"] = str(refusal)
    return result


def tell(module: AnsibleModule) -> dict[str, Any]:
    result = execute(module.params, module.check_mode)
    if "refused" in result:
        module.warn(f"A run would be refused here. {result.pop('refused')}")
    if result["bios"]:
        module.warn(f"These machines boot by BIOS until they are replaced: {', '.join(result['bios'])}.")
    return result


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: tell(module))


if __name__ == "__main__":
    main()
