# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The option group `rancher` and the frame of every module that uses it (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._ansible_kube import QuietModule
from ._yaml import LIBRARY_ERROR

RANCHER_OPTIONS: dict[str, Any] = {
    "rancher_url": {"type": "str", "required": True},
    "rancher_token": {"type": "str", "required": True, "no_log": True},
    "rancher_ca_certificate": {"type": "str", "default": ""},
}


def rancher_module(argument_spec: Mapping[str, Any], **kwargs: Any) -> AnsibleModule:
    """An AnsibleModule that has Rancher's options, on a Python that has what they need."""
    module = QuietModule(argument_spec={**RANCHER_OPTIONS, **argument_spec}, **kwargs)
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=LIBRARY_ERROR)
    return module
