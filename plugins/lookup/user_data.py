# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of the user data of a node pool."""

from __future__ import annotations

DOCUMENTATION = r"""
name: user_data
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Cloud-init user data of a pool's nodes
description:
  - Puts fragments of cloud-init's own keys and what roles put on a node (their C(meta/node.yml), the same that
    P(harvester_rke2.platform.node_part#lookup) returns) together into one user data. Lists of fragments follow each
    other, mappings are merged, and what two fragments say differently is refused.
  - The same variables give the same bytes, because one changed byte replaces every node of a pool.
  - For a pool, C(rke2_node_control_plane) follows from it, and its C(node_variables) stand over all other variables.
    In a fragment, C(pool) is the pool with its C(name).
options:
  _terms:
    description: Files, or directories whose C(*.yml.j2) files are taken in the order of their names.
    type: list
    elements: path
  pool:
    description: Name of the pool, one of C(platform_pools).
    type: str
    required: true
  parts:
    description: Roles that put something on a node, in the order in which it is done. By default C(rke2_node_parts).
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show what the nodes of a pool are told
  ansible.builtin.debug:
    msg: "{{ lookup('harvester_rke2.platform.user_data', pool='general') }}"
"""

RETURN = r"""
_raw:
  description: The user data, beginning with C(#cloud-config).
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part, _user_data
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _bundle_templates as templates
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the user data."""
        self.set_options(var_options=variables, direct=kwargs)
        name, known = self.get_option("pool"), dict(variables or {})
        pools = self._templar.copy_with_new_env(available_variables=known).template(known.get("platform_pools") or {})
        if name not in pools:
            raise AnsibleError(f"No pool is named {name}; platform_pools has {', '.join(pools) or 'none'}.")
        pool = {**pools[name], "name": name}
        known |= {"rke2_node_control_plane": bool(pool.get("control_plane", False)), **pool.get("node_variables", {})}
        renderer = templates.Renderer(self._templar, self._loader, {**known, "pool": pool})
        fragments = [
            (templates.shown(path), fragment) for path in templates.files(terms) for fragment in renderer.objects(path)
        ]
        try:
            fragments += self._parts(known)
            return [_user_data.dump(_user_data.merge(fragments))]
        except PlatformError as error:
            raise AnsibleError(str(error)) from error

    def _parts(self, known: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """What the roles put on a node, as one fragment."""
        seen = _node_parts.scope(_node_parts.COMPOSER, known, self._loader)
        composer = self._templar.copy_with_new_env(available_variables=seen)
        asked = self.get_option("parts")
        roles = composer.template(seen["rke2_node_parts"]) if asked is None else asked
        found = {role: _node_parts.load(role, known, self._templar, self._loader) for role in roles}
        parts = {role: part for role, part in found.items() if part is not None}
        install = composer.template(seen["rke2_node_install"])
        return [("the node's roles", _node_part.cloud_config(parts, install))] if parts else []
