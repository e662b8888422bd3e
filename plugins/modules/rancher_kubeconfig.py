#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module rancher_kubeconfig: keep a working kubeconfig of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rancher_kubeconfig
short_description: Keep a working kubeconfig of a cluster of Rancher
version_added: 0.1.0
description:
  - Writes the cluster's kubeconfig, which leads through Rancher's proxy, readable for its owner alone.
  - Rancher makes a new token for each kubeconfig that is asked for. So a file that is there is kept while its token is
    taken and its address is the cluster's.
  - A Rancher that does not answer is a failure, not a reason to make another token.
  - With O(state=absent) the file's token is deleted in Rancher, then the file. A file that leads elsewhere, or whose
    token was not made for a kubeconfig, is left alone.
options:
  state:
    description: Whether the kubeconfig is kept or, with its token, removed.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the cluster.
    type: str
    required: true
  path:
    description: Where the kubeconfig is kept.
    type: path
    required: true
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.rancher
attributes:
  check_mode:
    support: full
    details:
      - No token is made. A cluster that does not exist yet counts as planned.
  diff_mode:
    support: full
    details:
      - Tells the server and the reason, and nothing of the file's content.
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Keep a working kubeconfig
  harvester_rke2.platform.rancher_kubeconfig:
    rancher_url: https://rancher.example.com
    rancher_token: "{{ platform_rancher_token }}"
    name: production
    path: ~/.kube/production.yaml
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
server:
  description: The address that it leads to; empty while the cluster does not exist.
  returned: always
  type: str
why:
  description: Why a new one was, or would be, fetched; empty if the file was kept.
  returned: always
  type: str
"""

import os
from typing import Any

from ..module_utils import _rancher_kubeconfig as files
from ..module_utils._ansible_kube import run
from ..module_utils._ansible_rancher import rancher_module
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._rancher import Rancher

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "name": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    path, name = params["path"], params["name"]
    rancher = Rancher.from_options(params, attempts=3 if check else 6)
    if params["state"] == "absent":
        return _remove(rancher, path, check)
    doing = f"Fetching the kubeconfig of the cluster {name} from Rancher"
    try:
        cluster = rancher.cluster(name)
    except Unreachable as exc:
        if not check:
            raise
        return _result(path, "", exc.why)
    if cluster is None:
        if check:
            return _result(path, "", "the cluster does not exist yet")
        raise PlatformError(doing, "Rancher has no cluster of that name", "Run phase 0, which makes it.")
    server = rancher.address(cluster["id"])
    why = files.why_not(path, server)
    if not why:
        if files.mode_is_right(path):
            return {**_result(path, server, ""), "changed": False}
        if not check:
            os.chmod(path, files.MODE)
        return _result(path, server, "others could read it")
    if not check:
        text = rancher.generate_kubeconfig(cluster["id"])
        files.write(path, files.completed(text, server, params["rancher_ca_certificate"], doing))
        left = files.why_not(path, server)
        if left:
            raise PlatformError(doing, f"Rancher's answer does not work: {left}", "Look at Rancher's log.")
    return _result(path, server, why)


def _remove(rancher: Rancher, path: str, check: bool) -> dict[str, Any]:
    """The token first: without its file nobody would know it."""
    server, token = files.minted(path, rancher.url)
    if not token:
        return {**_result(path, server, ""), "changed": False, "diff": {}}
    if not check:
        rancher.delete_token(token)
        os.unlink(path)
    return {**_result(path, server, "it is removed"), "diff": {"before": f"server: {server}\n", "after": ""}}


def _result(path: str, server: str, why: str) -> dict[str, Any]:
    diff = {"before_header": path, "after_header": path, "before": f"# {why}\n", "after": f"server: {server}\n"}
    return {"changed": True, "path": path, "server": server, "why": why, "diff": diff}


def main() -> None:
    module = rancher_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
