# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of every module that talks to a Kubernetes API."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig on the machine where the module runs.
      - Defaults to the environment variables E(K8S_AUTH_KUBECONFIG) and E(KUBECONFIG), then to C(~/.kube/config).
      - Its user must have a token, a token file or a client certificate. The server is always verified.
    type: path
  context:
    description:
      - Context of the kubeconfig.
      - Defaults to E(K8S_AUTH_CONTEXT), then to the current context.
    type: str
  host:
    description:
      - Address of the API server, such as C(https://rancher.example.com/k8s/clusters/local). With it no kubeconfig is
        read.
    type: str
  api_key:
    description: Token for O(host).
    type: str
  ca_cert:
    description:
      - CA that O(host) is verified with, as PEM text or as the path of a file with it.
      - Defaults to what the system trusts.
    type: str
requirements:
  - python >= 3.11
  - PyYAML
"""
