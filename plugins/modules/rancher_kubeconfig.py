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
  - The file holds a token that is good for this cluster only, and lives as long as Rancher's setting
    C(kubeconfig-default-token-ttl-minutes) says. A file that is there is kept while its token is taken and its address
    is the cluster's.
  - Before a token is made its description is written beside the file. So a run that was killed before it could keep the
    token leaves nothing behind that the next one does not find and delete.
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
from ..module_utils._kube_client import ApiError, Broken
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
    if not check:
        _finish(rancher, path)
    why = files.why_not(path, server)
    if not why:
        if files.mode_is_right(path):
            return {**_result(path, server, ""), "changed": False}
        if not check:
            os.chmod(path, files.MODE)
        return _result(path, server, "others could read it")
    if not check:
        _forget(rancher, files.token_name(path))
        token = _token(rancher, files.announce(path, name), cluster["id"])
        try:
            files.write(path, files.document(name, server, params["rancher_ca_certificate"], token))
        except PlatformError:
            rancher.delete_token(token.partition(":")[0])
            raise
        files.done(path)
        left = files.why_not(path, server)
        if left:
            raise PlatformError(doing, f"Rancher's answer does not work: {left}", "Look at Rancher's log.")
    return _result(path, server, why)


def _finish(rancher: Rancher, path: str) -> None:
    """Delete the token that a run which was killed has made and not kept."""
    mark = files.announced(path)
    if not mark:
        return
    for name in rancher.tokens(mark):
        if name != files.token_name(path):
            rancher.delete_token(name)
    files.done(path)


def _forget(rancher: Rancher, name: str) -> None:
    """Delete the token of the file that is about to be replaced, if it is one of ours."""
    if name and rancher.token_description(name).startswith(files.OURS):
        rancher.delete_token(name)


def _token(rancher: Rancher, mark: str, cluster: str) -> str:
    """A token of that description, and only one, whatever becomes of the answer."""
    minutes = rancher.kubeconfig_minutes()
    for left in (2, 1, 0):
        try:
            return rancher.make_token(mark, cluster, minutes)
        except (ApiError, Broken) as exc:
            if not left or (isinstance(exc, ApiError) and exc.status < 500):
                raise
            for name in rancher.tokens(mark):
                rancher.delete_token(name)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _remove(rancher: Rancher, path: str, check: bool) -> dict[str, Any]:
    """The token first: without its file nobody would know it."""
    if not check:
        _finish(rancher, path)
    server, name = files.leads_to(path), files.token_name(path)
    ours = server.startswith(f"{rancher.url}/k8s/clusters/") and name
    if not ours or not rancher.token_description(name).startswith(files.OURS):
        return {**_result(path, server, ""), "changed": False, "diff": {}}
    if not check:
        rancher.delete_token(name)
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
