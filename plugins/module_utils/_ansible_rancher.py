# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The option group `rancher` and the frame of every module that uses it (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._ansible_kube import quiet_module

RANCHER_OPTIONS: dict[str, Any] = {
    "rancher_url": {"type": "str", "required": True},
    "rancher_token": {"type": "str", "required": True, "no_log": True},
    "rancher_ca_certificate": {"type": "str", "default": ""},
}


def rancher_module(argument_spec: Mapping[str, Any], **kwargs: Any) -> AnsibleModule:
    """An AnsibleModule that has Rancher's options, on a Python that has what they need."""
    return quiet_module({**RANCHER_OPTIONS, **argument_spec}, **kwargs)
