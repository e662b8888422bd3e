#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Set up the intermediate CA inside Vault, signed by the root CA on Harvester."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_intermediate
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Set up an intermediate CA whose key never leaves Vault
description:
  - Mounts the PKI secret engine, has the key made inside Vault, signs its request in this process with the root key
    read from Harvester (CA, pathlen 0), imports the chain and makes it the default issuer.
  - A run that was killed in between is taken up with the same key; a second key is never made.
  - Leaves Vault's C(leaf_not_after_behavior) at C(err) and fails early when the intermediate would end before the
    leaves it issues.
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.kubernetes
  - harvester_rke2.platform.vault
  - harvester_rke2.platform.store
  - harvester_rke2.platform.vault.keys
attributes:
  check_mode:
    support: full
    details:
      - Only reads. A Vault that does not exist yet counts as planned.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description: Where the PKI secret engine is mounted.
    type: str
    default: pki_int
  root_name:
    description: Name of the root CA's Secret in O(keys_namespace).
    type: str
    default: root-ca
  common_name:
    description: Common name of the intermediate CA. Like O(organization) and O(key_bits), it counts when it is made.
    type: str
    default: Platform Intermediate CA
  organization:
    description: Organization in the subject.
    type: str
  key_bits:
    description: Size of the RSA key.
    type: int
    choices: [2048, 3072, 4096]
    default: 4096
  ttl:
    description: Lifetime of the intermediate, and the mount's longest one.
    type: str
    default: 87600h
  leaf_ttl:
    description: The longest lifetime of a leaf; the intermediate must outlast it.
    type: str
    default: 720h
  renew_below:
    description:
      - Make a new intermediate beside the old one, and the new one the default, when less than this is left.
      - With V(0h) nothing is renewed.
    type: str
    default: 0h
  replace_foreign:
    description: Make an intermediate although the mount has one that another root issued.
    type: bool
    default: false
  issuing_certificates:
    description: URLs at which the issuer's certificate is found, put into leaves.
    type: list
    elements: str
  crl_distribution_points:
    description: URLs of the CRL, put into leaves.
    type: list
    elements: str
seealso:
  - module: harvester_rke2.platform.root_ca
  - module: harvester_rke2.platform.vault_objects
"""

EXAMPLES = r"""
- name: Set up the intermediate CA
  harvester_rke2.platform.vault_intermediate:
    kubeconfig: "{{ platform_kubeconfig }}"
    keys_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
    common_name: "{{ platform_domain }} Intermediate CA"
    issuing_certificates: [http://vault.vault.svc:8200/v1/pki_int/ca]
    crl_distribution_points: [http://vault.vault.svc:8200/v1/pki_int/crl]
"""

RETURN = r"""
certificate:
  description: The intermediate's certificate, PEM; empty when it is only planned.
  returned: success
  type: str
chain:
  description: The intermediate's and the root's certificate, PEM.
  returned: when there is one
  type: str
subject:
  description: The intermediate's subject.
  returned: when there is one
  type: str
fingerprint:
  description: SHA-256 fingerprint of the intermediate.
  returned: when there is one
  type: str
not_after:
  description: When the intermediate ends.
  returned: success
  type: str
issuer_id:
  description: Vault's name of the issuer.
  returned: success
  type: str
objects:
  description: What was changed.
  returned: success
  type: list
  elements: dict
  sample: [{kind: mount, name: pki_int, result: created}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible_vault as av
from ..module_utils._ansible_kube import run

WARN_HOURS = 8760
URLS = ("issuing_certificates", "crl_distribution_points")


def main() -> None:
    words: dict[str, Any] = {"type": "list", "elements": "str"}
    module = av.vault_module(
        {
            **av.ACCESS_OPTIONS,
            **av.KEYS_OPTIONS,
            "path": {"type": "str", "default": "pki_int"},
            "root_name": {"type": "str", "default": "root-ca"},
            "common_name": {"type": "str", "default": "Platform Intermediate CA"},
            "organization": {"type": "str"},
            # `no_log: false` because this is the size of a key.
            "key_bits": {"type": "int", "choices": [2048, 3072, 4096], "default": 4096, "no_log": False},
            "ttl": {"type": "str", "default": "87600h"},
            "leaf_ttl": {"type": "str", "default": "720h"},
            "renew_below": {"type": "str", "default": "0h"},
            "replace_foreign": {"type": "bool", "default": False},
            **dict.fromkeys(URLS, words),
        },
        supports_check_mode=True,
    )
    run(module, lambda: ensure(module))


def ensure(module: AnsibleModule) -> dict[str, Any]:
    from ..module_utils._vault_compare import hours
    from ..module_utils._vault_intermediate import Intermediate

    params = module.params
    with av.doors(params, check=module.check_mode) as doors:
        leader, objects = av.leader_and_objects(params, doors, check=module.check_mode)
        flow = Intermediate(
            leader=leader,
            objects=objects,
            root=lambda: av.root_store(params, params["root_name"], check=module.check_mode).read(),
            mount=params["path"].strip("/"),
            common_name=params["common_name"],
            organization=params["organization"] or "",
            bits=params["key_bits"],
            ttl_hours=hours(params["ttl"], "ttl"),
            leaf_hours=hours(params["leaf_ttl"], "leaf_ttl"),
            renew_below_hours=hours(params["renew_below"], "renew_below"),
            replace_foreign=params["replace_foreign"],
            urls={name: params[name] for name in URLS if params[name] is not None},
            check=module.check_mode,
        )
        result = av.or_planned(module.check_mode, leader, flow.run, flow.planned)
        if flow.hours_left and flow.hours_left < WARN_HOURS:
            module.warn(f"The intermediate CA ends on {result['not_after']}: renew it with vault_pki_renew_below.")
        return {**result, "diff": av.diff_of(flow.changes)}


if __name__ == "__main__":
    main()
