# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: machine configs that a run may not change by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: frozen_machine_configs
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Rules that keep a run from replacing nodes by accident
description:
  - Returns the O(harvester_rke2.platform.bundle#module:frozen) rules for machine configs in use, but for those whose
    pools have all been given free.
positional: allowed
options:
  _input:
    description: Machine config to its pools, as M(harvester_rke2.platform.rancher_cluster_info) returns them.
    type: dict
    required: true
  allowed:
    description: Pools whose nodes may be replaced.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what a run may not change
  ansible.builtin.debug:
    msg: "{{ info.state.machine_configs | harvester_rke2.platform.frozen_machine_configs(['compute']) }}"
"""

RETURN = r"""
_value:
  description: The rules.
  type: list
  elements: dict
"""


def frozen_machine_configs(
    configs: Mapping[str, Iterable[str]], allowed: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """One rule for each config in use by a pool that has not been given free; the sentence names all such pools."""
    free = set(allowed or ())
    held = {name: sorted(set(pools) - free) for name, pools in configs.items()}
    return [
        {
            "kind": "HarvesterConfig",
            "name": name,
            "free": [".common"],
            "why": f"every node of the pool {' and of the pool '.join(pools)} would be replaced",
            "mend": "List these pools in rke2_cluster_allow_roll to have that, or undo the change.",
        }
        for name, pools in held.items()
        if pools
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"frozen_machine_configs": frozen_machine_configs}
