# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of every module that talks to Rancher's own API."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  rancher_url:
    description: Address of Rancher, such as C(https://rancher.example.com).
    type: str
    required: true
  rancher_token:
    description: Token of Rancher's API, C(token-xxxxx:...), without a scope.
    type: str
    required: true
  rancher_ca_certificate:
    description:
      - CA that Rancher is verified with, as PEM text or as the path of a file with it.
      - Defaults to what the system trusts.
    type: str
    default: ''
requirements:
  - python >= 3.11
  - PyYAML
"""
