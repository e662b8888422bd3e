#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module run_lease: keep other runs away from a cluster until this one has ended."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lease
short_description: Keep other runs away from a cluster
version_added: 0.1.0
description:
  - Takes a Lease on Harvester for this run of C(ansible-playbook). While another run has it, it is refused with who
    that is and since when.
  - A small process in the background renews the Lease as long as C(ansible-playbook) lives, and gives it back when that
    has ended, however it ended. When this process is killed too, or its machine is lost, the Lease runs out.
  - A holder that has not renewed the Lease for its whole duration is taken over. A dead holder of the same machine is
    taken over at once.
  - Taken again in the same run, it does nothing.
  - It never reports a change, as it is not about the cluster; in check mode it does nothing.
options:
  name:
    description: Name of the Lease.
    type: str
    default: run
  namespace:
    description: Namespace of the Lease, by convention C(<cluster>-keys). It is made when it is missing.
    type: str
    required: true
  cluster:
    description: Name of the cluster, for messages.
    type: str
    required: true
  pid:
    description: Process of the run. The action plugin sets it.
    type: int
    default: 0
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is taken, and nothing is refused.
  diff_mode:
    support: none
  idempotent:
    support: full
notes:
  - Needs a local connection, as it looks for the process of the run.
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Keep other runs away from the cluster
  harvester_rke2.platform.run_lease:
    kubeconfig: "{{ platform_harvester_kubeconfig }}"
    namespace: production-keys
    cluster: production
"""

RETURN = r"""
holder:
  description: What this run is called in the Lease.
  returned: outside check mode
  type: str
overlapped:
  description:
    - Whether another run had the cluster after this one had begun. What was read before is then out of date.
  returned: outside check mode
  type: bool
taken_from:
  description: Who had the Lease, and did not give it back; or an empty string.
  returned: outside check mode
  type: str
held_by:
  description: Who has it.
  returned: when it is refused
  type: str
"""

import datetime
import getpass
import hashlib
import os
import socket
from typing import Any

from ..module_utils import _run_lease as leases
from ..module_utils._ansible_kube import kube_module, run
from ..module_utils._errors import PlatformError
from ..module_utils._kube_client import KubeClient

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "default": "run"},
    "namespace": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "pid": {"type": "int", "default": 0},
}


def this_run(pid: int) -> leases.Run:
    """The same for every task of a run, and another for the next run."""
    host, process = socket.gethostname(), leases.process_of(pid)
    number = hashlib.sha256(f"{host} {pid} {process}".encode()).hexdigest()[:8]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container a user may have a number and no name.
        user = str(os.getuid())
    return leases.Run(f"{user}@{host} (run {number})", process)


def execute(params: dict[str, Any]) -> dict[str, Any]:
    """Everything but the frame of the module."""
    me, pid = this_run(params["pid"]), params["pid"]
    if not pid or not leases.lives(pid, me.process):
        raise PlatformError(
            f"Keeping other runs away from the cluster {params['cluster']}",
            "the process of this run is not on the machine that the module runs on",
            "Set ansible_connection: local for the cluster's host.",
        )
    client = KubeClient.from_options(params)
    lease = leases.RunLease(client, params["namespace"], params["name"], me, params["cluster"])
    taken = lease.acquire()
    if not taken["already"]:
        # Its own connections: those of ours must not be used by two.
        config = client.config

        def work() -> None:
            own = KubeClient(config, attempts=2)
            leases.keep(leases.RunLease(own, lease.namespace, lease.name, me, lease.cluster), pid)

        leases.in_background(work)
    return {
        "holder": me.holder,
        "taken_from": taken["taken_from"],
        "overlapped": bool(taken["taken_from"]) or _since(taken["renewed"]) > leases.began(pid),
    }


def _since(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() if moment else 0.0


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=False)

    def tell() -> dict[str, Any]:
        result = execute(module.params)
        if result["taken_from"]:
            module.warn(f"{result['taken_from']} had the cluster and did not give it back: it is taken over.")
        return result

    run(module, tell)


if __name__ == "__main__":
    main()
