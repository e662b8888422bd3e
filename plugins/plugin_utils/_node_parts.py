# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What roles put on a node, read from their meta/node.yml and rendered (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.lookup.services import COLLECTION_ROLES, read, scope_of
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _bundle_templates as templates

COMPOSER = "rke2_node"


def scope(role: str, variables: Mapping[str, Any], loader: DataLoader) -> dict[str, Any]:
    """What a part's templates see: its defaults over the composing role's and the shared ones, under the variables.

    Also the internal variables of both roles.
    """
    composer, own = (
        [read(COLLECTION_ROLES / name / kind / "main.yml", loader) for kind in ("defaults", "vars")]
        for name in (COMPOSER, role)
    )
    return {**scope_of(COLLECTION_ROLES / COMPOSER, {}, loader), **composer[1], **own[0], **own[1], **variables}


def load(role: str, variables: Mapping[str, Any], templar: Templar, loader: DataLoader) -> dict[str, Any] | None:
    """The part of one role; nothing when its switch ``<role>_enabled`` is off."""
    source = COLLECTION_ROLES / role / "meta" / "node.yml"
    if not source.exists():
        raise AnsibleError(f"The role {role} puts nothing on a node: it has no meta/node.yml.")
    seen = scope(role, variables, loader)
    own = templar.copy_with_new_env(available_variables=seen)
    if not boolean(own.template(seen.get(f"{role}_enabled", True)), strict=False):
        return None
    part = _node_part.validate(own.template(read(source, loader)), str(source))
    renderer = templates.Renderer(templar, loader, seen)
    contents = {
        file["path"]: renderer.text(str(_template(role, file["template"])))
        for file in part["files"]
        if file["when"] and not file["secret"]
    }
    result = _node_part.complete(part, contents)
    for file in result["secret_files"]:
        file["template"] = str(_template(role, file["template"]))
    return result


def _template(role: str, name: str) -> Path:
    return COLLECTION_ROLES / role / "templates" / name
