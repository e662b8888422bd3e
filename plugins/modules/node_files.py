#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module: the files of a node, all in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Files of a node, all in one task
description:
  - Writes files whole, owned by root, each put in place by a rename, and removes others. Missing folders are made.
  - Unlike M(ansible.builtin.copy) it says in check mode what it would write also where a folder is missing.
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.full
options:
  files:
    description: What is to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: Its whole text.
        type: str
        required: true
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0644"
  absent:
    description: Absolute paths of files that are not to be there.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Answer ARP only for the interface that was asked
  harvester_rke2.platform.node_files:
    files:
      - path: /etc/sysctl.d/90-arp.conf
        content: |
          net.ipv4.conf.all.arp_ignore = 1
          net.ipv4.conf.all.arp_announce = 2
"""

RETURN = r"""
paths:
  description: What was written or removed, or would have been in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/sysctl.d/90-arp.conf]
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    diffs = [_write(module, **file) for file in module.params["files"]]
    diffs += [_remove(module, path) for path in module.params["absent"]]
    changes = [diff for diff in diffs if diff]
    module.exit_json(
        changed=bool(changes), paths=[diff["after_header"] for diff in changes], diff=changes if module._diff else []
    )


def _read(module: AnsibleModule, path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        module.fail_json(msg=f"Reading {path}: {error.strerror}. Run as root, and look at what stands there.")
        raise


def _write(module: AnsibleModule, path: str, content: str, mode: str) -> dict[str, Any]:
    before = _read(module, path)
    shown = {"before_header": path, "after_header": path, "before": before or "", "after": content}
    owned: dict[str, Any] = {"path": path, "owner": "root", "group": "root", "mode": mode, "attributes": None}
    owned |= {"secontext": module.selinux_default_context(path) if module.selinux_enabled() else [None] * 3}
    if before == content:
        details: dict[str, Any] = {}
        changed = module.set_fs_attributes_if_different(owned, False, diff=details)
        return {**details, "before_header": path, "after_header": path} if changed else {}
    if not module.check_mode:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(content)
            os.chmod(temporary, int(mode, 8))
            module.atomic_move(temporary, path)
        except OSError as error:
            module.fail_json(msg=f"Writing {path}: {error.strerror}. Run as root, on a disk with room.")
        module.set_fs_attributes_if_different(owned, True)
    return shown


def _remove(module: AnsibleModule, path: str) -> dict[str, Any]:
    before = _read(module, path)
    if before is None:
        return {}
    if not module.check_mode:
        try:
            os.unlink(path)
        except OSError as error:
            module.fail_json(msg=f"Removing {path}: {error.strerror}. Run as root, and look at what stands there.")
    return {"before_header": path, "after_header": path, "before": before, "after": ""}


if __name__ == "__main__":
    main()
