# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of every module that reads or keeps what must never be lost: Vault's keys and the root CA."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  keys_kubeconfig:
    description: Path of the kubeconfig of the cluster where keys are kept, which is Harvester.
    type: path
  keys_context:
    description: Context of O(keys_kubeconfig).
    type: str
  keys_host:
    description: Address of that cluster's API server. With it no kubeconfig is read.
    type: str
  keys_api_key:
    description: Token for O(keys_host).
    type: str
  keys_ca_cert:
    description: CA that O(keys_host) is verified with, as PEM text or as the path of a file with it.
    type: str
  keys_namespace:
    description: Namespace of the keys, by convention C(<cluster>-keys).
    type: str
    required: true
"""
