#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Initialise a Vault once, with its keys saved before anything else happens."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_init
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Initialise Vault once and never lose its keys
description:
  - Initialises the first server of a Vault after all servers said that they are not initialised, and after the place
    of the keys has proved, by a create-only marker, that it can be written.
  - The request is sent once and never repeated. Its answer goes to a synced file of mode 0600 first, then into one
    immutable Secret, which is read back and compared; only then the file is removed.
  - A run that was killed in between is finished by the next one on the same machine.
  - Changes nothing and says what was found when there are keys of another Vault, when servers were initialised apart
    from each other, or when Vault is initialised and its keys are nowhere.
  - No result, message or log of this module holds a key or a token.
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
      - Nothing is written, not even the marker. A Vault that does not exist yet counts as planned.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(present) the Vault is initialised and its keys are saved.
      - With V(archived) the keys of a Vault that is given up are moved aside under its cluster id; Vault itself is not
        looked at. Needs O(archive_keys).
    type: str
    choices: [present, archived]
    default: present
  cluster_name:
    description: Name of the cluster. It names the spool's directory, and is what O(archive_keys) must say.
    type: str
    required: true
  shares:
    description: How many keys are made.
    type: int
    default: 5
  threshold:
    description: How many of the keys are needed to unseal.
    type: int
    default: 3
  spool_directory:
    description:
      - Directory of the spool file C(vault-init.json), which exists from the initialisation until the Secret is saved.
      - Defaults to C(~/.local/state/harvester_rke2/<cluster_name>).
    type: path
  offline_copy:
    description:
      - File that gets a copy of the keys, mode 0600. It is written once, compared afterwards and never replaced.
      - Take it off the machine to a safe place.
    type: path
  archive_keys:
    description:
      - Consent, by saying O(cluster_name), to move the keys of a former Vault aside when no server is initialised, or
        with O(state=archived).
      - They are kept in the same namespace under another name.
    type: str
  timeout:
    description: Seconds to wait until the servers answer.
    type: int
    default: 60
seealso:
  - module: harvester_rke2.platform.vault_unseal
notes:
  - Goes to each server by itself and needs no token. O(address) and O(token) are taken, but not used, so that defaults
    can be set for the whole action group C(vault).
  - Written for HashiCorp Vault and OpenBao; see C(docs/vault.md) for the differences.
"""

EXAMPLES = r"""
- name: Initialise Vault
  harvester_rke2.platform.vault_init:
    kubeconfig: "{{ platform_kubeconfig }}"
    keys_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
    cluster_name: "{{ platform_cluster_name }}"

- name: Initialise a Vault outside Kubernetes and keep an offline copy of its keys
  harvester_rke2.platform.vault_init:
    addresses:
      vault-a: https://vault-a.example.com:8200
      vault-b: https://vault-b.example.com:8200
      vault-c: https://vault-c.example.com:8200
    ca_certificate: "{{ lookup('ansible.builtin.file', 'ca.crt') }}"
    keys_kubeconfig: ~/harvester.yaml
    keys_namespace: production-keys
    cluster_name: production
    offline_copy: /media/safe/vault-init.json
"""

RETURN = r"""
initialized:
  description: Whether the Vault is initialised and its keys are saved.
  returned: success
  type: bool
cluster_id:
  description: Vault's own id, once an unseal has noted it beside the keys; empty before.
  returned: success
  type: str
keys_secret:
  description: The place of the keys.
  returned: when initialized
  type: dict
  sample: {namespace: production-keys, name: vault-init}
finished:
  description: True when this run completed what an earlier one had left.
  returned: when it did
  type: bool
archived:
  description: Name of the Secret to which the keys of a former Vault were moved.
  returned: when they were
  type: str
spool:
  description: The file in which the keys are safe.
  returned: on failure after the initialisation
  type: str
"""

from typing import Any

from ..module_utils import _ansible_vault as av
from ..module_utils._ansible_kube import run
from ..module_utils._errors import PlatformError


def main() -> None:
    module = av.vault_module(
        {
            **av.ACCESS_OPTIONS,
            **av.KEYS_OPTIONS,
            "state": {"type": "str", "choices": ["present", "archived"], "default": "present"},
            "cluster_name": {"type": "str", "required": True},
            "shares": {"type": "int", "default": 5},
            "threshold": {"type": "int", "default": 3},
            "spool_directory": {"type": "path"},
            "offline_copy": {"type": "path"},
            # `no_log: false` because this is a cluster's name.
            "archive_keys": {"type": "str", "no_log": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    run(module, lambda: initialise(module.params, module.check_mode))


def initialise(params: dict[str, Any], check: bool) -> dict[str, Any]:
    from ..module_utils._vault_init import Initialisation
    from ..module_utils._vault_spool import SecretFile

    if not 1 <= params["threshold"] <= params["shares"] <= 255:
        why = f"{params['threshold']} of {params['shares']} keys cannot be asked for"
        raise PlatformError("Initialising Vault", why, "Set 1 <= threshold <= shares <= 255.")
    directory = params["spool_directory"] or f"~/.local/state/harvester_rke2/{params['cluster_name']}"
    offline = params["offline_copy"]
    with av.doors(params, check=check) as doors:
        flow = Initialisation(
            doors=doors,
            store=lambda: av.key_store(params, check=check),
            spool=SecretFile(f"{directory}/vault-init.json", "the spool file"),
            cluster=params["cluster_name"],
            shares=params["shares"],
            threshold=params["threshold"],
            offline=SecretFile(offline, "the offline copy") if offline else None,
            archive_consent=params["archive_keys"] or "",
            check=check,
            timeout=params["timeout"],
        )
        return flow.archive() if params["state"] == "archived" else flow.run()


if __name__ == "__main__":
    main()
