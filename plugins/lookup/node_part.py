# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of what a role puts on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node_part
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: What a role puts on a node
description:
  - Returns the files, packages, commands and units of a role's C(meta/node.yml), rendered in the scope of the role's
    own defaults under the play's variables. The user data of new nodes is put together from the same
    (P(harvester_rke2.platform.user_data#lookup)).
  - A role whose variable C(<role>_enabled) is false returns nothing.
options:
  _terms:
    description: Names of roles.
    type: list
    elements: str
    required: true
  node_variables:
    description: Variables that stand over all others, as those of a pool do in its nodes' user data.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the files of the firewall
  ansible.builtin.debug:
    msg: "{{ query('harvester_rke2.platform.node_part', 'node_firewall') | map(attribute='files') | flatten }}"
"""

RETURN = r"""
_raw:
  description: >-
    Of each enabled role C(files) (path, mode, content, or the template of a secret one), C(absent) paths, C(packages),
    C(commands), C(units), C(sysctl), C(environment) and a C(digest) of all.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the parts."""
        self.set_options(var_options=variables, direct=kwargs)
        try:
            known = {**(variables or {}), **self.get_option("node_variables")}
            parts = [_node_parts.load(role, known, self._templar, self._loader) for role in terms]
        except PlatformError as error:
            raise AnsibleError(str(error)) from error
        return [part for part in parts if part is not None]
