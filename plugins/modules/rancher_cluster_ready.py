#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_cluster_ready: wait until Rancher has made a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_cluster_ready
short_description: Wait until Rancher has made a cluster
version_added: 0.1.0
description:
  - Waits until Rancher says that the cluster is ready, all machines of all its pools run, and all its nodes are ready.
  - The wait goes on in slices of at most 30 seconds, after each of which a line says how far each pool is.
  - It ends early when Rancher says for longer than a slice that it cannot go on (a machine that cannot be made, a
    Cluster in which it finds something wrong).
  - In check mode it looks once and never fails.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 1800
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.rancher
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Wait until the cluster is there
  harvester_rke2.platform.rancher_cluster_ready:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
"""

RETURN = r"""
ready:
  description: Whether it is ready.
  returned: always
  type: bool
pools:
  description: Pools by C(name), with C(wanted) and C(running) machines, and C(troubles).
  returned: always
  type: list
  elements: dict
stuck:
  description: What Rancher says that it cannot do, each with the machine and the pool that it concerns.
  returned: always
  type: list
  elements: str
progress:
  description: All of it in one line.
  returned: always
  type: str
id:
  description: Id of the cluster in Rancher, or an empty string.
  returned: always
  type: str
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..module_utils import _rancher_cluster as clusters
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._kube_client import ApiError
from ..module_utils._rancher import LOCAL, Rancher

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 1800},
}


def look(rancher: Rancher, name: str) -> dict[str, Any]:
    """How far it is now."""
    state = clusters.state(rancher.kubernetes(LOCAL), name)
    ready, shown = state.ready, state.shown()
    if ready:
        try:
            troubles = clusters.unready_nodes(rancher.kubernetes(state.management_id))
        except (ApiError, Unreachable) as exc:
            # Rancher's tunnel into a cluster comes up a little after the cluster.
            troubles = [exc.why]
        ready = not troubles
        shown = "; ".join([shown, *troubles[:3]])
    pools = [asdict(pool) for pool in state.pools]
    return {"ready": ready, "pools": pools, "progress": shown, "id": state.management_id, "stuck": state.stuck}


def given_up(name: str, stuck: Sequence[str]) -> PlatformError:
    """The failure that does not wait for the time-out."""
    more = f"; and {len(stuck) - 3} more" if len(stuck) > 3 else ""
    return PlatformError(
        f"Waiting for the cluster {name}",
        f"Rancher cannot go on: {'; '.join(stuck[:3])}{more}",
        "Mend what is named there, then run again: Rancher goes on from where it is.",
    )


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    rancher = Rancher.from_options(params, attempts=2 if check else 6)

    def now() -> dict[str, Any]:
        try:
            return look(rancher, params["name"])
        except Unreachable as exc:
            if not check:
                raise
            return {"ready": False, "pools": [], "progress": exc.why, "id": "", "stuck": []}

    return clusters.follow(
        now,
        lambda result: check or result["ready"],
        params["timeout"],
        doing=f"Waiting for the cluster {params['name']}",
        why="it is not ready",
        mend="Look at its machines in Rancher and at the virtual machines' consoles on Harvester, then run again.",
    )


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
