#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module cluster_info: what a run needs to know about the cluster, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Read the state of a cluster in one call
version_added: 0.1.0
description:
  - Reads version, nodes, storage classes, CustomResourceDefinitions, bundles and Helm releases (with the digests that
    M(harvester_rke2.platform.charts) keeps), so that no role has to ask again.
  - A cluster that does not exist or does not answer is no failure but V(false) in C(reachable). A credential that is
    refused is a failure.
  - Other tokens of Rancher are looked at too, so that one which has ended is told at the start of a phase, not by what
    works with it.
options:
  harvester_kubeconfig:
    description:
      - Kubeconfig of the Harvester cluster, which keeps the root CA.
      - Without it, or while the root CA does not exist, C(root_ca_certificate) is empty.
    type: path
  rancher_url:
    description: Address of Rancher, by which Harvester is then reached instead of by O(harvester_kubeconfig).
    type: str
    default: ''
  rancher_token:
    description: Token for O(rancher_url).
    type: str
    default: ''
  rancher_ca_certificate:
    description: CA that Rancher is verified with, as PEM text or as the path of a file with it.
    type: str
    default: ''
  rancher_tokens:
    description:
      - Tokens of other users of Rancher, each under the name of the variable that it comes from. One that Rancher does
        not take is a failure; one that ends within two weeks is warned about.
    type: dict
    default: {}
  kinds:
    description: Kinds whose objects are listed, each by C(api_version) and C(kind). One that is not served has none.
    type: list
    elements: dict
    default: []
    suboptions:
      api_version:
        description: API version.
        type: str
        required: true
      kind:
        description: Kind.
        type: str
        required: true
  harvester_cluster:
    description: Name of Harvester in Rancher. Without it O(harvester_kubeconfig) is used.
    type: str
    default: ''
  keys_namespace:
    description: Namespace of the root CA's Secret on Harvester.
    type: str
    default: ''
  root_ca_name:
    description: Name of that Secret.
    type: str
    default: root-ca
  renewable:
    description:
      - This run makes a new kubeconfig where that is needed. So one that is refused counts as a cluster that does not
        answer, not as a failure.
    type: bool
    default: false
  helm_binary:
    description: The helm program. With it, helm and the Python packages that modules need are checked first.
    type: str
    default: ''
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.kubernetes
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Read the state of the cluster
  harvester_rke2.platform.cluster_info:
    kubeconfig: "{{ platform_kubeconfig }}"
    harvester_kubeconfig: "{{ platform_harvester_kubeconfig }}"
    keys_namespace: "{{ platform_keys_namespace }}"
  register: info
"""

RETURN = r"""
state:
  description: The state; every key is always there.
  returned: always
  type: dict
  contains:
    reachable:
      description: Whether the API answered.
      type: bool
    why:
      description: Why it did not.
      type: str
    version:
      description: Version of the API server, such as V(v1.34.8+rke2r2).
      type: str
    server:
      description: Address of the API server.
      type: str
    nodes:
      description: Number of nodes.
      type: int
    node_labels:
      description: Name of each node to its labels.
      type: dict
    releases:
      description: Helm releases by C(name), C(namespace), C(revision), C(status) and C(digest).
      type: list
      elements: dict
    applysets:
      description: Names of the bundles that have been applied.
      type: list
      elements: str
    crds:
      description: Names of the CustomResourceDefinitions.
      type: list
      elements: str
    gateway_api_version:
      description: Version of the Gateway API's definitions without C(v), or an empty string.
      type: str
    storage_classes:
      description: Storage classes by C(name), C(provisioner), C(default), C(expandable) and C(binding_mode).
      type: list
      elements: dict
    objects:
      description: Objects of O(kinds), each as kind, namespace and name.
      type: list
      elements: str
    root_ca_certificate:
      description: Certificate of the root CA (PEM), or an empty string.
      type: str
    harvester_why:
      description: Why the root CA could not be read.
      type: str
    harvester_host:
      description: Address of Harvester's API behind Rancher; an empty string without O(rancher_url).
      type: str
    rancher_tokens:
      description: >-
        By the names of O(rancher_tokens), who works with each (C(user)) and for how many days (C(days), V(-1) without
        an end).
      type: dict
"""

from typing import Any

from ..module_utils import _cluster_info as info
from ..module_utils import _tools as tools
from ..module_utils._ansible_kube import kube_module, run
from ..module_utils._errors import NoConnection, PlatformError, Unreachable
from ..module_utils._kube_client import KubeClient
from ..module_utils._rancher import Rancher

ARGUMENTS: dict[str, Any] = {
    "harvester_kubeconfig": {"type": "path"},
    "rancher_url": {"type": "str", "default": ""},
    "rancher_token": {"type": "str", "default": "", "no_log": True},
    "rancher_ca_certificate": {"type": "str", "default": ""},
    "rancher_tokens": {"type": "dict", "default": {}, "no_log": True},
    "harvester_cluster": {"type": "str", "default": ""},
    "kinds": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"api_version": {"type": "str", "required": True}, "kind": {"type": "str", "required": True}},
    },
    "keys_namespace": {"type": "str", "default": "", "no_log": False},
    "root_ca_name": {"type": "str", "default": "root-ca"},
    "renewable": {"type": "bool", "default": False},
    "helm_binary": {"type": "str", "default": ""},
}
# What has gone for good must be told soon: a fresh controller runs all phases in check mode.
_ATTEMPTS = 3
_WARN_DAYS = 14


def execute(params: dict[str, Any], command: tools.Command | None = None) -> dict[str, Any]:
    """Everything but the frame of the module; the tools are looked at if there is a ``command`` that runs them."""
    if params["helm_binary"] and command:
        _check_tools(params["helm_binary"], command)
    try:
        client = KubeClient.from_options(params, attempts=_ATTEMPTS)
        state = info.read(client, params["kinds"], renewable=params["renewable"])
    except NoConnection as exc:
        state = {**info.NOTHING, "why": str(exc)}
    try:
        harvester = _harvester(params, state)
        if harvester is not None and params["keys_namespace"]:
            state["root_ca_certificate"] = info.root_ca(harvester, params["keys_namespace"], params["root_ca_name"])
    except Unreachable as exc:
        state["harvester_why"] = str(exc)
    return {"state": state}


def _check_tools(helm: str, command: tools.Command) -> None:
    faults = [sentence for sentence in (*tools.library_faults(), tools.helm_fault(helm, command)) if sentence]
    if faults:
        raise PlatformError("Checking the tools of this machine", " ".join(faults))


def _harvester(params: dict[str, Any], state: dict[str, Any]) -> KubeClient | None:
    if params["rancher_url"] and params["harvester_cluster"]:
        rancher = Rancher.from_options(params, attempts=_ATTEMPTS)
        # Until Rancher answers the name stands for the id: a way that is closed must not turn into another one.
        state["harvester_host"] = rancher.address(params["harvester_cluster"])
        state["rancher_tokens"] = _holders(params)
        cluster = rancher.cluster_id(params["harvester_cluster"])
        state["harvester_host"] = rancher.address(cluster)
        return rancher.kubernetes(cluster)
    if params["harvester_kubeconfig"]:
        return KubeClient.from_options({"kubeconfig": params["harvester_kubeconfig"]}, attempts=_ATTEMPTS)
    return None


def _holders(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    url, ca = params["rancher_url"], params["rancher_ca_certificate"] or ""
    return {
        name: Rancher(url, token, ca, attempts=_ATTEMPTS, variable=name).holder()
        for name, token in params["rancher_tokens"].items()
    }


def warnings(state: dict[str, Any]) -> list[str]:
    """What does not stop a run, but will stop somebody later."""
    return [
        f"The token of {name} ends in {found['days']:.0f} days: make a new one for its user, and run phase 1 again."
        for name, found in state["rancher_tokens"].items()
        if 0 <= found["days"] < _WARN_DAYS
    ]


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)

    def tell() -> dict[str, Any]:
        # Else a program that is not there ends the module before it can say what to do.
        result = execute(module.params, lambda words: module.run_command(words, handle_exceptions=False))
        for sentence in warnings(result["state"]):
            module.warn(sentence)
        return result

    run(module, tell)


if __name__ == "__main__":
    main()
