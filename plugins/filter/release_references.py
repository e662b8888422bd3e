# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter from charts to the releases that M(harvester_rke2.platform.ready) takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: release_references
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Name the releases of charts
description: Returns for each chart of a description the release that M(harvester_rke2.platform.ready) waits for.
options:
  _input:
    description: The charts.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the releases of all services
  ansible.builtin.debug:
    msg: >-
      {{ query('harvester_rke2.platform.services') | map(attribute='charts') | flatten
         | harvester_rke2.platform.release_references }}
"""

RETURN = r"""
_value:
  description: The releases.
  type: list
  elements: dict
"""


def release_references(charts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``name`` and ``namespace``."""
    return [{"name": chart["name"], "namespace": chart["namespace"]} for chart in charts]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"release_references": release_references}
