#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module generated_secret: generate Secrets once, and never change them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: generated_secret
short_description: Generate Kubernetes Secrets once
version_added: 0.1.0
description:
  - Creates Secrets, and in existing ones the keys that are missing. An existing key is never changed, whatever its
    rule says now; to rotate one, delete it first.
  - In several namespaces a Secret gets the same values. If they differ already, the module fails and changes nothing.
  - Values appear in no result, diff or log.
options:
  secrets:
    description: The Secrets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the Secret.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        default: ''
      namespaces:
        description: Namespaces that get the same Secret.
        type: list
        elements: str
        default: []
      type:
        description: Its type, which counts only when it is created.
        type: str
        default: Opaque
      labels:
        description: Its labels, which count only when it is created.
        type: dict
        default: {}
      keys:
        description:
          - Key to rule. A rule may have C(format), C(length), C(alphabet), C(value), C(user) and C(of).
          - C(format) is V(password) (the default), V(hex), V(base64), V(fixed) or V(htpasswd).
          - A password has C(length) characters (32) of C(alphabet), with a small letter, a capital and a digit. Of
            V(hex), C(length) counts characters (64), of V(base64) the random bytes that are encoded (32).
          - V(fixed) is C(value), which must not be secret. V(htpasswd) is an entry for C(user) with the password of the
            key C(of).
        type: dict
        required: true
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.kubernetes
attributes:
  check_mode:
    support: full
    details:
      - Asks the API server by C(dryRun=All). Without an API or a namespace the Secrets are reported as V(planned).
  diff_mode:
    support: full
    details:
      - Shows names of keys only.
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Generate the database password where server and client need it
  harvester_rke2.platform.generated_secret:
    secrets:
      - name: keycloak-db
        namespaces: [database, keycloak]
        type: kubernetes.io/basic-auth
        keys:
          username: {format: fixed, value: keycloak}
          password: {length: 40}
"""

RETURN = r"""
secrets:
  description: One entry a Secret and namespace.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    namespace:
      description: Its namespace.
      type: str
    added_keys:
      description: Names of the keys that were generated.
      type: list
      elements: str
    result:
      description: One of V(created), V(changed), V(unchanged), V(planned), V(unvalidated).
      type: str
"""

from typing import Any

from ..module_utils._ansible_kube import kube_module, run
from ..module_utils._errors import Unreachable
from ..module_utils._generated_secret import Wanted, ensure
from ..module_utils._kube_client import KubeClient

ARGUMENTS: dict[str, Any] = {
    "secrets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": ""},
            "namespaces": {"type": "list", "elements": "str", "default": []},
            "type": {"type": "str", "default": "Opaque"},
            "labels": {"type": "dict", "default": {}},
            "keys": {"type": "dict", "required": True, "no_log": False},
        },
    },
}


def execute(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    wanted = [Wanted.read(option) for option in params["secrets"]]
    entries: list[dict[str, Any]] = []
    try:
        client = KubeClient.from_options(params, attempts=2 if check else 6)
        for secret in wanted:
            entries += ensure(client, secret, check=check)
    except Unreachable:
        if not check:
            raise
        entries = [
            {"name": secret.name, "namespace": namespace, "added_keys": sorted(secret.keys), "result": "planned"}
            for secret in wanted
            for namespace in secret.namespaces
        ]
    made = [entry for entry in entries if entry["result"] != "unchanged"]
    result: dict[str, Any] = {"changed": bool(made), "secrets": entries}
    if made:
        result["diff"] = {
            "before": "",
            "after": "".join(
                f"{entry['namespace']}/{entry['name']}: {', '.join(entry['added_keys'])}\n" for entry in made
            ),
        }
    return result


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)
    run(module, lambda: execute(module.params, module.check_mode))


if __name__ == "__main__":
    main()
