#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Bring objects inside Vault to what a list says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_objects
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Policies, mounts, auth methods, roles and other objects of Vault from one list
description:
  - Reads each object, compares it with what is wanted, and writes only what differs, in the order of the list.
  - Durations, lists and numbers are compared by meaning. Fields that are not named are left alone, except for
    PKI roles, which Vault always writes as a whole.
  - What was written is read again, so a standby that lags, or a value that reads back otherwise, is noticed.
  - Values that are secret come from Kubernetes Secrets (O(objects[].data_from)) and are read inside the module.
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
      - Only reads. When Vault does not exist yet, is not initialised or is sealed, everything counts as planned.
  diff_mode:
    support: full
    details:
      - Fields from O(objects[].data_from) and O(objects[].secret_fields) are masked.
  idempotent:
    support: full
options:
  objects:
    description: The objects, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - V(policy) has O(objects[].name) and O(objects[].policy).
          - V(mount) (a secret engine), V(auth) (an auth method) and V(audit) (an audit device) have O(objects[].path),
            O(objects[].type), and O(objects[].description), O(objects[].config), O(objects[].options).
          - V(auth_config) and V(auth_role) are C(auth/<path>/config) and C(auth/<path>/role/<name>).
          - V(pki_role), V(pki_urls) and V(pki_auto_tidy) are below the PKI mount O(objects[].path).
          - V(kv) is the entry O(objects[].name) of the version 2 engine at O(objects[].path); it is created once and
            never overwritten.
          - V(write) is any O(objects[].path) that gives back, when read, what is written to it.
        type: str
        required: true
        choices: [policy, mount, auth, audit, auth_config, auth_role, pki_role, pki_urls, pki_auto_tidy, kv, write]
      path:
        description: Path of the mount, or of the object itself for V(write).
        type: str
      name:
        description: Name of a policy, role or kv entry.
        type: str
      state:
        description:
          - With V(absent) the object is removed. Mounts lose their data by that.
          - Not for V(auth_config), V(pki_urls), V(pki_auto_tidy) and V(kv).
        type: str
        choices: [present, absent]
        default: present
      type:
        description: Type of a mount, auth method or audit device.
        type: str
      description:
        description: Description of a mount, auth method or audit device.
        type: str
      config:
        description: Tuning of a mount or auth method, for example C(max_lease_ttl).
        type: dict
      options:
        description: Options of a mount (C(version) of a kv engine) or audit device (C(file_path)).
        type: dict
      policy:
        description: Text of a policy (HCL).
        type: str
      data:
        description: Fields of the object.
        type: dict
      data_from:
        description:
          - Fields whose values are entries of Secrets in the cluster of O(kubeconfig), as
            C({namespace, name, key}).
        type: dict
      secret_fields:
        description:
          - Fields in O(objects[].data) that are secret, or that Vault never gives back.
          - Like those of O(objects[].data_from), they are not compared, but written when something else differs.
        type: list
        elements: str
      optional:
        description: For V(audit), pass over an OpenBao, which takes audit devices from its configuration file only.
        type: bool
        default: false
  purge:
    description:
      - Kinds of which everything that is not in O(objects) is removed.
      - Roles are only removed below auth methods and PKI mounts that O(objects) names with that kind.
    type: list
    elements: str
    choices: [policy, auth_role, pki_role]
    default: []
"""

EXAMPLES = r"""
- name: Let cert-manager sign certificates of the domain
  harvester_rke2.platform.vault_objects:
    kubeconfig: "{{ platform_kubeconfig }}"
    keys_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
    objects:
      - kind: pki_role
        path: pki_int
        name: example-dot-com
        data:
          allowed_domains: [example.com]
          allow_subdomains: true
          allow_ip_sans: false
          allow_localhost: false
          require_cn: false
          max_ttl: 720h
      - kind: policy
        name: cert-manager
        policy: |
          path "pki_int/sign/example-dot-com" { capabilities = ["create", "update"] }
      - {kind: auth, path: kubernetes, type: kubernetes}
      - kind: auth_config
        path: kubernetes
        data: {kubernetes_host: "https://kubernetes.default.svc:443"}
      - kind: auth_role
        path: kubernetes
        name: cert-manager-issuer
        data:
          bound_service_account_names: [vault-issuer]
          bound_service_account_namespaces: [cert-manager]
          audience: vault://vault-issuer
          token_policies: [cert-manager]
          token_ttl: 10m
"""

RETURN = r"""
objects:
  description: What became of each object.
  returned: success
  type: list
  elements: dict
  sample: [{kind: policy, name: cert-manager, result: created}]
planned:
  description: Why the objects were not compared.
  returned: in check mode, when Vault cannot be asked yet
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible_vault as av
from ..module_utils._ansible_kube import run

NEEDS: dict[str, list[str]] = {
    "policy": ["name"],
    "mount": ["path"],
    "auth": ["path"],
    "audit": ["path"],
    "auth_config": ["path"],
    "auth_role": ["path", "name"],
    "pki_role": ["path", "name"],
    "pki_urls": ["path"],
    "pki_auto_tidy": ["path"],
    "kv": ["path", "name"],
    "write": ["path"],
}
OBJECT: dict[str, Any] = {
    "kind": {"type": "str", "required": True, "choices": list(NEEDS)},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **{field: {"type": "str"} for field in ("path", "name", "type", "description", "policy")},
    **{field: {"type": "dict"} for field in ("config", "options", "data", "data_from")},
    # `no_log: false` because these are names of fields.
    "secret_fields": {"type": "list", "elements": "str", "no_log": False},
    "optional": {"type": "bool", "default": False},
}


def main() -> None:
    module = av.vault_module(
        {
            **av.ACCESS_OPTIONS,
            **av.KEYS_OPTIONS,
            "objects": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": OBJECT,
                "required_if": [["kind", kind, fields] for kind, fields in NEEDS.items()],
            },
            "purge": {"type": "list", "elements": "str", "choices": ["policy", "auth_role", "pki_role"], "default": []},
        },
        supports_check_mode=True,
    )
    run(module, lambda: settle(module))


def settle(module: AnsibleModule) -> dict[str, Any]:
    from ..module_utils._vault_objects import Change, masked, title

    params = module.params
    specs = [{**spec, "path": (spec["path"] or "").strip("/") or None} for spec in params["objects"]]
    # Ansible shows a module's parameters at -vvv, and these may hold secrets.
    params["objects"] = [masked(spec) for spec in specs]
    with av.doors(params, check=module.check_mode) as doors:
        leader, objects = av.leader_and_objects(params, doors, check=module.check_mode)

        def work() -> dict[str, Any]:
            changes = [objects.settle(spec) for spec in specs]
            changes += objects.purge(params["purge"], specs)
            return result(changes)

        def planned(why: str) -> dict[str, Any]:
            after = {"planned": why}
            return {**result([Change(spec["kind"], title(spec), "planned", {}, after) for spec in specs]), **after}

        def result(changes: list[Change]) -> dict[str, Any]:
            changed = any(change.changed for change in changes)
            summaries = [change.summary() for change in changes]
            return {"changed": changed, "objects": summaries, "diff": av.diff_of(changes)}

        return av.or_planned(module.check_mode, leader, work, planned)


if __name__ == "__main__":
    main()
