#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module harvester_cloud_config: the cloud provider's kubeconfig, carried from Harvester to Rancher."""

from __future__ import annotations

DOCUMENTATION = r"""
module: harvester_cloud_config
short_description: Carry the cloud provider's credential from Harvester to Rancher
version_added: 0.1.0
description:
  - Reads the token of a ServiceAccount on Harvester, makes the kubeconfig of Harvester's cloud provider of it, and
    keeps that in a Secret in C(fleet-default), from where Rancher puts it onto the cluster's nodes.
  - Both ends are in one process, so that the token is in no file, no argument and no result.
  - A token of a ServiceAccount does not pass Rancher's proxy, so the kubeconfig leads to Harvester itself.
options:
  harvester_cluster:
    description: Id of Harvester in Rancher.
    type: str
    required: true
  server:
    description: Address of Harvester's API as the nodes reach it, such as C(https://192.0.2.10:6443).
    type: str
    required: true
  namespace:
    description: Namespace on Harvester of the ServiceAccount and of the machines.
    type: str
    required: true
  token_secret:
    description: Secret of the type C(kubernetes.io/service-account-token) there.
    type: str
    required: true
  cluster:
    description: Name of the cluster whose nodes may have it.
    type: str
    required: true
  name:
    description: Name of the Secret in C(fleet-default).
    type: str
    required: true
  timeout:
    description: Seconds that Harvester may take to make the token.
    type: int
    default: 30
  webhook_timeout:
    description: Seconds that Rancher's admission webhook may be late, as it is on a fresh server.
    type: int
    default: 300
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.rancher
attributes:
  check_mode:
    support: full
    details:
      - A token that does not exist yet counts as planned.
  diff_mode:
    support: full
    details:
      - The content is masked.
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Carry the cloud provider's credential to Rancher
  harvester_rke2.platform.harvester_cloud_config:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    harvester_cluster: c-m-abcdefgh
    server: https://192.0.2.10:6443
    namespace: production
    token_secret: production-cloud-provider
    cluster: production
    name: production-cloud-config
"""

RETURN = r"""
objects:
  description: The Secret's C(kind), C(namespace), C(name) and C(result), as M(harvester_rke2.platform.bundle) tells it.
  returned: success
  type: list
  elements: dict
"""

import time
from typing import Any

from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._bundle import Bundle, Options, planned
from ..module_utils._bundle_order import Item, read
from ..module_utils._cloud_config import secret
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._kube_client import KubeClient
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "harvester_cluster": {"type": "str", "required": True},
    "server": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    # `no_log: false` because this is the name of where the token is.
    "token_secret": {"type": "str", "required": True, "no_log": False},
    "cluster": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 30},
    "webhook_timeout": {"type": "int", "default": 300},
}


def _token(harvester: KubeClient, params: dict[str, Any], *, check: bool) -> dict[str, str] | None:
    """The data of the ServiceAccount's Secret once Harvester has filled it; None if check mode finds none."""
    path = f"/api/v1/namespaces/{params['namespace']}/secrets/{params['token_secret']}"
    deadline = time.monotonic() + params["timeout"]
    while True:
        data: dict[str, str] = (harvester.get_or_none(path) or {}).get("data") or {}
        if data.get("token") and data.get("ca.crt"):
            return data
        if check:
            return None
        if time.monotonic() > deadline:
            raise PlatformError(
                f"Reading the cloud provider's token, {params['namespace']}/{params['token_secret']} on Harvester",
                f"it has no token after {params['timeout']} s",
                "Harvester's controller-manager fills it when the ServiceAccount is there: look at both.",
            )
        time.sleep(0.5)


def _planned(params: dict[str, Any], why: str, *, diff: bool) -> dict[str, Any]:
    name = {"name": params["name"], "namespace": "fleet-default"}
    items = [Item(0, "harvester_cloud_config", {"apiVersion": "v1", "kind": "Secret", "metadata": name})]
    return planned(items, why, diff=diff).result()


def execute(params: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params, attempts=2 if check else 6)
    try:
        data = _token(rancher.kubernetes(params["harvester_cluster"]), params, check=check)
        if data is None:
            return _planned(params, "its token does not exist yet", diff=diff)
        wanted = secret(params["name"], params["cluster"], params["server"], params["namespace"], data)
        items = read([wanted], ["harvester_cloud_config"])
        return Bundle(rancher.kubernetes(LOCAL), items, Options(check=check, diff=diff)).present().result()
    except Unreachable as exc:
        if not check:
            raise
        return _planned(params, exc.why, diff=diff)


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode, module._diff))


if __name__ == "__main__":
    main()
