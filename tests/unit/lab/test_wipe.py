# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What RKE2's own Deployments make again is not taken for what a cluster left."""

from __future__ import annotations

from lab.kube import Object
from lab.rancher.wipe import owned


def meta(uid: str, owner: str = "", controller: bool = True) -> Object:
    return {"uid": uid, "ownerReferences": [{"uid": owner, "controller": controller}] if owner else []}


def test_owned_downwards() -> None:
    metas = [meta("deployment"), meta("set", "deployment"), meta("pod", "set"), meta("other", "elsewhere")]
    assert owned([*metas, meta("friend", "deployment", controller=False)], {"deployment"}) == {"set", "pod"}
