#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Unseal the servers of a Vault that are sealed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_unseal
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Unseal what is sealed of a Vault and wait until its Raft cluster is whole
description:
  - Reads the unseal keys from their Secret inside the module and unseals each server that is sealed.
  - Joining is left to C(retry_join) in the servers' configuration and judged by the leader's list of peers.
  - Notes on each pod which start of its container was unsealed. A server that is sealed although that start was
    unsealed before was sealed on purpose, and then nothing is unsealed without O(force).
  - Notes Vault's cluster id beside the keys, so that keys of another Vault are recognised later.
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
      - Nothing is sent but questions. A Vault that does not exist yet counts as planned.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  voters:
    description:
      - How many voters the leader must count. Defaults to the number of servers.
      - With V(0) the peers are not asked for, which needs no token.
    type: int
  force:
    description: Unseal also what was sealed on purpose.
    type: bool
    default: false
  timeout:
    description: Seconds for everything together. A server that joins gets its vote about 15 seconds later.
    type: int
    default: 90
seealso:
  - module: harvester_rke2.platform.vault_init
notes:
  - Written for HashiCorp Vault and OpenBao; see C(docs/vault.md) for the differences.
"""

EXAMPLES = r"""
- name: Unseal Vault
  harvester_rke2.platform.vault_unseal:
    kubeconfig: "{{ platform_kubeconfig }}"
    keys_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
"""

RETURN = r"""
unsealed:
  description: The servers that this run has unsealed (in check mode, would unseal).
  returned: success
  type: list
  elements: str
cluster_id:
  description: Vault's own id; empty while all servers are sealed.
  returned: success
  type: str
peers:
  description: The leader's Raft peers.
  returned: success
  type: list
  elements: dict
  sample: [{node_id: vault-0, address: "vault-0.vault-internal:8201", leader: true, voter: true}]
planned:
  description: Why nothing was looked at more closely in check mode.
  returned: in check mode, when Vault or its keys do not exist yet or it is sealed
  type: str
"""

from typing import Any

from ..module_utils import _ansible_vault as av
from ..module_utils._ansible_kube import run


def main() -> None:
    module = av.vault_module(
        {
            **av.ACCESS_OPTIONS,
            **av.KEYS_OPTIONS,
            "voters": {"type": "int"},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    run(module, lambda: unseal(module.params, module.check_mode))


def unseal(params: dict[str, Any], check: bool) -> dict[str, Any]:
    from ..module_utils._vault_unseal import Unsealing

    with av.doors(params, check=check) as doors:
        return Unsealing(
            doors=doors,
            store=lambda: av.key_store(params, check=check),
            voters=params["voters"],
            force=params["force"],
            token=params["token"] or "",
            check=check,
            timeout=params["timeout"],
        ).run()


if __name__ == "__main__":
    main()
