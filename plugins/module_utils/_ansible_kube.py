# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The option group `kubernetes` and the frame of every module that uses it (private to this collection)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._errors import PlatformError
from ._yaml import LIBRARY_ERROR

KUBERNETES_OPTIONS: dict[str, Any] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "ca_cert": {"type": "str"},
}
WAIT_OPTIONS: dict[str, Any] = {
    "wait": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
}


class _QuietModule(AnsibleModule):
    """Ansible logs every parameter to the system's log, and objects may hold Secrets."""

    def _log_invocation(self) -> None:
        self.log(f"{self._name} was called (its parameters are not logged)")


def kube_module(argument_spec: Mapping[str, Any], **kwargs: Any) -> AnsibleModule:
    """An AnsibleModule that has the connection options, on a Python that has what they need."""
    return quiet_module({**KUBERNETES_OPTIONS, **argument_spec}, **kwargs)


def quiet_module(argument_spec: Mapping[str, Any], **kwargs: Any) -> AnsibleModule:
    """The frame of every module that talks to a Kubernetes API, however it gets there."""
    module = _QuietModule(argument_spec=dict(argument_spec), **kwargs)
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("PyYAML"), exception=LIBRARY_ERROR)
    return module


def run(module: AnsibleModule, function: Callable[[], Mapping[str, Any]]) -> None:
    """Call the function and end the module with its result, or with the sentence of its error."""
    try:
        result = dict(function())
    except PlatformError as exc:
        module.fail_json(msg=str(exc), **{"changed": False, **exc.data})
    module.exit_json(**{"changed": False, **result})
