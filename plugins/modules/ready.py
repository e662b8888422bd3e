#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module ready: wait for many objects at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ready
short_description: Wait until Kubernetes objects are ready
version_added: 0.1.0
description:
  - Waits for objects, for everything a bundle has applied and for everything a Helm release consists of, with one
    watch a kind.
  - Each kind has its own rule (roll-outs of workloads, Jobs, claims, CustomResourceDefinitions, APIServices,
    load balancers, cert-manager, Gateway API, CloudNativePG, OpsTree, MariaDB, Argo CD, External Secrets, Harvester,
    KubeVirt, Rancher, Cluster API). A kind without a rule must exist and, if it has a condition C(Ready), be ready.
  - The wait goes on in slices of at most 30 seconds, after each of which a line says what is missing.
  - What can no longer become ready (a failed Job) ends the wait at once.
  - In check mode it looks once and never fails, because what is missing may be what the run would make.
options:
  objects:
    description:
      - Objects, by C(apiVersion), C(kind) and C(metadata), or by C(api_version), C(kind), C(name) and C(namespace).
    type: list
    elements: dict
    default: []
  applysets:
    description: Names of bundles, all of whose objects must be ready.
    type: list
    elements: str
    default: []
  releases:
    description: Helm releases, all of whose objects must be ready.
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
  timeout:
    description: Seconds to wait.
    type: int
    default: 300
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.kubernetes
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Wait for everything that this phase has deployed
  harvester_rke2.platform.ready:
    applysets: [vault, cert-manager]
    releases:
      - name: vault
        namespace: vault
      - name: cert-manager
        namespace: cert-manager
    timeout: 900

- name: Wait for the issuer
  harvester_rke2.platform.ready:
    objects:
      - apiVersion: cert-manager.io/v1
        kind: ClusterIssuer
        metadata:
          name: vault-issuer
"""

RETURN = r"""
ready:
  description: Whether everything is ready.
  returned: always
  type: bool
waited_for:
  description: How many objects were looked at.
  returned: success
  type: int
not_ready:
  description: What is not ready.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
    namespace:
      description: Its namespace.
      type: str
    name:
      description: Its name.
      type: str
    reason:
      description: Its own reason, and that of its pods.
      type: str
    events:
      description: Last warning events about it and its pods.
      type: list
      elements: str
    hopeless:
      description: Whether waiting longer is in vain.
      type: bool
"""

from typing import Any

from ..module_utils._ansible_kube import kube_module, run
from ..module_utils._bundle_order import read
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._kube_client import KubeClient
from ..module_utils._ready import Target, Waiter, of_applysets, of_releases, timed_out

ARGUMENTS: dict[str, Any] = {
    "objects": {"type": "list", "elements": "dict", "default": []},
    "applysets": {"type": "list", "elements": "str", "default": []},
    "releases": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
        },
    },
    "timeout": {"type": "int", "default": 300},
}


def _reference(obj: dict[str, Any]) -> dict[str, Any]:
    """Both ways of naming an object become one."""
    meta = dict(obj.get("metadata") or {})
    for key in ("name", "namespace"):
        if obj.get(key):
            meta[key] = obj[key]
    return {
        "apiVersion": obj.get("apiVersion") or obj.get("api_version"),
        "kind": obj.get("kind"),
        "metadata": {key: meta[key] for key in ("name", "namespace") if meta.get(key)},
    }


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    try:
        client = KubeClient.from_options(params, attempts=2 if check else 6)
        targets = [Target.of(item.obj) for item in read([_reference(obj) for obj in params["objects"]], [])]
        targets += of_applysets(client, params["applysets"])
        targets += of_releases(client, params["releases"])
        waiter = Waiter(client, targets)
        not_ready = waiter.wait(0.0 if check else params["timeout"])
    except Unreachable:
        if not check:
            raise
        return {"ready": False, "not_ready": [], "waited_for": 0, "reachable": False}
    except PlatformError as exc:
        if not check:
            raise
        return {"ready": False, "not_ready": [], "waited_for": 0, "why": str(exc)}
    total = len(waiter.targets)
    if not_ready and not check:
        raise timed_out(not_ready, total, params["timeout"])
    return {"ready": not not_ready, "not_ready": not_ready, "waited_for": total}


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
