#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module charts: Helm releases that start no helm when nothing has changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: charts
short_description: Install and upgrade Helm releases, at no cost when nothing has changed
version_added: 0.1.0
description:
  - Compares a digest of chart, version and values (of a chart on disk also its content) with the one that is kept as
    annotation C(platform.harvester-rke2.io/digest) of the release's newest Secret. Where they agree nothing runs, not
    even a module.
  - What differs is installed or upgraded by M(kubernetes.core.helm) without waiting;
    M(harvester_rke2.platform.ready) waits for many releases at once.
  - A release that was killed half-way is first recovered. C(pending-install) and C(uninstalling) are uninstalled,
    C(pending-upgrade) and C(pending-rollback) are rolled back.
  - Values reach helm in a file or by standard input, never as arguments. They must hold no secrets, which Helm would
    keep in every revision.
options:
  charts:
    description: The releases.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the release.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      repository:
        description: Repository by V(https://) or V(oci://).
        type: str
        default: ''
      chart:
        description: Name of the chart.
        type: str
        required: true
      version:
        description: Version of the chart.
        type: str
        required: true
      values:
        description:
          - Values, or the name of a template below O(values_directory).
        type: raw
      extra_values:
        description: Values that are merged over O(charts[].values).
        type: dict
        default: {}
      upgrade_crds:
        description:
          - Apply the definitions of the chart's folder C(crds/) before an upgrade. Helm installs them, and never
            upgrades them.
        type: bool
        default: false
  values_directory:
    description: Directory of the values' templates.
    type: path
  releases:
    description:
      - Releases as M(harvester_rke2.platform.cluster_info) returns them. Without them it is run first.
    type: list
    elements: dict
  binary:
    description: The helm program.
    type: str
    default: helm
  directory:
    description:
      - Directory with charts C(<chart>-<version>.tgz) or C(<chart>/), which go before repositories.
    type: str
    default: ''
  timeout:
    description: Seconds for helm, which waits for hooks.
    type: int
    default: 600
  digests:
    description: Releases by C(name), C(namespace) and C(digest) to annotate. The action plugin sets it.
    type: list
    elements: dict
    default: []
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Compares digests and starts no helm; what would change is reported as V(planned).
  diff_mode:
    support: partial
    details:
      - Shows status, version and digest of the releases that change.
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Install or upgrade Vault
  harvester_rke2.platform.charts:
    binary: "{{ platform_helm_binary }}"
    releases: "{{ platform_state.releases }}"
    charts:
      - name: vault
        namespace: vault
        repository: https://helm.releases.hashicorp.com
        chart: vault
        version: 0.32.0
        values:
          server:
            ha:
              enabled: true
"""

RETURN = r"""
releases:
  description: One entry a release.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the release.
      type: str
    namespace:
      description: Its namespace.
      type: str
    version:
      description: Version of the chart.
      type: str
    digest:
      description: Digest of chart and values.
      type: str
    result:
      description: One of V(installed), V(upgraded), V(unchanged), V(planned), V(failed).
      type: str
    recovered:
      description: The status it had been left in, where it was recovered.
      type: str
"""

from typing import Any

from ..module_utils import _helm_release as helm
from ..module_utils._ansible_kube import kube_module, run
from ..module_utils._errors import PlatformError
from ..module_utils._kube_client import KubeClient

ARGUMENTS: dict[str, Any] = {
    "charts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "repository": {"type": "str", "default": ""},
            "chart": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "values": {"type": "raw"},
            "extra_values": {"type": "dict", "default": {}},
            "upgrade_crds": {"type": "bool", "default": False},
        },
    },
    "values_directory": {"type": "path"},
    "releases": {"type": "list", "elements": "dict"},
    "binary": {"type": "str", "default": "helm"},
    "directory": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 600},
    "digests": {"type": "list", "elements": "dict", "default": []},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Keep the digests; everything else is the action plugin's."""
    if params["charts"]:
        raise PlatformError(
            "Running the module charts",
            "charts are compared by its action plugin on the controller",
            "Call it as harvester_rke2.platform.charts in a task.",
        )
    client = KubeClient.from_options(params)
    changed = [
        helm.annotate(client, entry["namespace"], entry["name"], entry["digest"], check=check)
        for entry in params["digests"]
    ]
    return {"changed": any(changed)}


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
