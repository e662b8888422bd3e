# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of every module that talks to Vault, and of those that read its keys."""

from __future__ import annotations


class ModuleDocFragment:
    # The servers of one Vault.
    DOCUMENTATION = r"""
options:
  vault_namespace:
    description: Namespace of Vault's pods in the cluster of O(kubeconfig).
    type: str
    default: vault
  pods:
    description:
      - Names of Vault's pods. Their Raft node ids are expected to be the same names.
      - Each is reached by a port-forward through the Kubernetes API, inside the module.
    type: list
    elements: str
    default: [vault-0, vault-1, vault-2]
  addresses:
    description:
      - For a Vault outside Kubernetes, its servers' addresses by their Raft node ids; O(pods) is then not used.
      - The addresses must be C(https://) and verify with O(ca_certificate); C(http://) is accepted on loopback only.
    type: dict
  address:
    description:
      - Address of the active server, for example V(https://vault.example.com). It is tried first for what only the
        active server can do.
      - When it does not answer, does not verify with O(ca_certificate), or leads to a standby, the active server is
        looked for among O(pods) (or O(addresses)).
    type: str
  ca_certificate:
    description:
      - PEM of the CA which O(address) and O(addresses) are verified with.
      - Without it the machine's own CAs are used. There is no way to switch the verification off.
    type: str
  token:
    description:
      - Token to work with. Needed only where the root token in the keys' Secret has been revoked.
      - Defaults to E(VAULT_TOKEN), then to the root token, which is read inside the module.
    type: str
requirements:
  - hvac >= 2.3
  - cryptography >= 44
"""

    # The Secret with Vault's keys.
    KEYS = r"""
options:
  keys_name:
    description: Name of the Secret with the unseal keys and the root token.
    type: str
    default: vault-init
"""
