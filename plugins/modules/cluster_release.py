#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module cluster_release: delete what a cluster's workloads hold outside of it, before the cluster goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_release
short_description: Delete what a cluster's workloads hold outside of it
version_added: 0.1.0
description:
  - Deletes, inside a cluster that is about to be destroyed, what would otherwise be left on Harvester, with its data.
    First Services of type LoadBalancer, then custom objects that have finalizers, then the namespaces with claims; then
    it waits until Harvester's driver has deleted the volumes.
  - Namespaces of the system stay; claims in them are deleted.
  - What still holds on after O(timeout) is told, and is no failure, as the cluster must be destroyable all the same.
  - A cluster that is not there, or does not answer, is left alone, which is told.
  - The wait goes on in slices of at most 30 seconds, after each of which a line says what is left.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  confirm:
    description: The same name once more, as a person has given it.
    type: str
    required: true
  timeout:
    description: Seconds for everything.
    type: int
    default: 600
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.full
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Let go of volumes and addresses
  harvester_rke2.platform.cluster_release:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    confirm: "{{ confirm_destroy }}"
"""

RETURN = r"""
released:
  description: What was deleted or, in check mode, would be.
  returned: success
  type: list
  elements: str
held:
  description: What still holds on.
  returned: success
  type: list
  elements: str
why:
  description: Why the cluster was left alone, or an empty string.
  returned: success
  type: str
"""

from typing import Any

from ..module_utils import _cluster_release as workloads
from ..module_utils import _rancher_cluster as clusters
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._kube_client import ApiError, KubeClient
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "confirm": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 600},
}


def _inside(rancher: Rancher, name: str) -> tuple[KubeClient | None, str]:
    """The way into the cluster, or why there is none."""
    cluster = rancher.kubernetes(LOCAL).get_or_none(f"{clusters.CLUSTERS}/{name}")
    if cluster is None:
        return None, "Rancher has no cluster of that name"
    if cluster["metadata"].get("deletionTimestamp"):
        return None, "it is being deleted already"
    identity = str((cluster.get("status") or {}).get("clusterName") or "")
    client = rancher.kubernetes(identity)
    try:
        client.request("GET", "/version", retry=False)
    except (ApiError, Unreachable) as exc:
        return None, f"it does not answer ({exc.why})"
    return client, ""


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    name, doing = params["name"], f"Letting go of what the cluster {params['name']} holds outside of it"
    if params["confirm"] != name:
        raise PlatformError(doing, f"'{params['confirm']}' is not its name", "Nothing was touched.")
    client, why = _inside(Rancher.from_options(params), name)
    if client is None:
        return {"changed": False, "released": [], "held": [], "why": why}
    plan = [title for titles in workloads.planned(client).values() for title in titles]
    diff = {"before": "".join(f"{title}\n" for title in plan), "after": ""}
    if check:
        return {"changed": bool(plan), "released": plan, "held": [], "why": "", "diff": diff}
    gone, held = workloads.release(client, params["timeout"])
    if held:
        listed = ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
        raise PlatformError(
            doing,
            f"after {params['timeout']} s there are still {listed}",
            waiting=True,
            progress=f"{len(held)} left, such as {held[0]}",
            changed=bool(gone),
            released=gone,
            held=held,
        )
    return {"changed": bool(plan), "released": gone, "held": [], "why": "", "diff": diff}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
