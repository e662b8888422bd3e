#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Make the platform's root CA once and keep it on Harvester."""

from __future__ import annotations

DOCUMENTATION = r"""
module: root_ca
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Make the root CA once and keep it on Harvester
description:
  - Makes a self-signed root CA and stores certificate and key as one immutable, create-only Secret, in one process.
  - The key is in no file, no argument, no result and no message, and is never sent to Vault.
  - A root CA that is there is verified (a pair, a CA, not expired) and returned; it is never replaced.
  - With O(state=archived) that of a cluster which is given up is moved aside, under another name beside it.
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.store
attributes:
  check_mode:
    support: full
    details:
      - Nothing is made. A cluster of the keys that does not exist yet counts as planned.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: Whether the root CA is made and kept, or moved aside.
    type: str
    choices: [present, archived]
    default: present
  keys_name:
    description:
      - Name of the Secret with the keys of Vault. With O(state=archived) the root CA is named after that Vault's id.
    type: str
    default: vault-init
  name:
    description: Name of the Secret (type C(kubernetes.io/tls)).
    type: str
    default: root-ca
  common_name:
    description: Common name of the CA. Like the options below, it counts only when the CA is made.
    type: str
    default: Platform Root CA
  organization:
    description: Organization in the subject.
    type: str
  ttl:
    description: Lifetime.
    type: str
    default: 131400h
  key_bits:
    description: Size of the RSA key.
    type: int
    choices: [3072, 4096]
    default: 4096
requirements:
  - cryptography >= 44
seealso:
  - module: harvester_rke2.platform.vault_intermediate
"""

EXAMPLES = r"""
- name: Make the root CA
  harvester_rke2.platform.root_ca:
    keys_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
    common_name: "{{ platform_domain }} Root CA"
  register: root_ca
"""

RETURN = r"""
archived:
  description: Name of the Secret to which it was, or would be, moved; empty if there was none.
  returned: when O(state=archived)
  type: str
certificate:
  description: The certificate, PEM. Empty in check mode as long as there is none.
  returned: when O(state=present)
  type: str
subject:
  description: Its subject.
  returned: when there is one
  type: str
fingerprint:
  description: Its SHA-256 fingerprint.
  returned: when there is one
  type: str
not_after:
  description: When it ends.
  returned: when there is one
  type: str
  sample: "2041-11-22T10:00:00Z"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible_vault as av
from ..module_utils._ansible_kube import run
from ..module_utils._errors import Unreachable

WARN_HOURS = 2 * 8760


def main() -> None:
    module = av.vault_module(
        {
            **av.STORE_OPTIONS,
            "state": {"type": "str", "choices": ["present", "archived"], "default": "present"},
            "keys_name": {"type": "str", "default": "vault-init", "no_log": False},
            "name": {"type": "str", "default": "root-ca"},
            "common_name": {"type": "str", "default": "Platform Root CA"},
            "organization": {"type": "str"},
            "ttl": {"type": "str", "default": "131400h"},
            # `no_log: false` because this is the size of a key.
            "key_bits": {"type": "int", "choices": [3072, 4096], "default": 4096, "no_log": False},
        },
        kubernetes=False,
        supports_check_mode=True,
    )
    run(module, lambda: archive(module) if module.params["state"] == "archived" else ensure(module))


def archive(module: AnsibleModule) -> dict[str, Any]:
    store = av.root_store(module.params, module.params["name"])
    name = store.archive(module.params["keys_name"], check=module.check_mode)
    diff = {"before": f"{module.params['name']}\n", "after": f"{name}\n"} if name else {}
    return {"changed": bool(name), "archived": name, "diff": diff}


def ensure(module: AnsibleModule) -> dict[str, Any]:
    from ..module_utils._pki import facts, hours_left
    from ..module_utils._vault_compare import hours

    params = module.params
    ttl = hours(params["ttl"], "ttl")
    planned = {"changed": True, "certificate": "", "diff": {"before": "", "after": f"CN={params['common_name']}\n"}}
    try:
        store = av.root_store(params, params["name"], check=module.check_mode)
        root, made = store.read(), False
    except Unreachable:
        if not module.check_mode:
            raise
        return planned
    if root is None:
        if module.check_mode:
            return planned
        root, made = store.create(params["common_name"], params["organization"] or "", ttl, params["key_bits"])
    result: dict[str, Any] = {"changed": made, **facts(root.certificate)}
    if made:
        result["diff"] = {"before": "", "after": f"{result['subject']} until {result['not_after']}\n"}
    elif hours_left(root.certificate) < WARN_HOURS:
        module.warn(f"The root CA ends on {result['not_after']}: plan its replacement (docs/vault.md).")
    return result


if __name__ == "__main__":
    main()
