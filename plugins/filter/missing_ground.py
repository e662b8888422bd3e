# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over the services' descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: missing_ground
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: What a phase needs and earlier phases have not made yet
description:
  - Returns one sentence for each requirement of the phase's services that is not deployed, which names the services
    that need it and the phase to run first. Of a cluster that does not answer it returns why.
positional: phase, state, planned
options:
  _input:
    description: The descriptions of the enabled services.
    type: list
    elements: dict
    required: true
  phase:
    description: The phase that is to run.
    type: int
    required: true
  state:
    description: What M(harvester_rke2.platform.cluster_info) returned.
    type: dict
    required: true
  planned:
    description: Phases of this run whose work counts as done, which it does in check mode.
    type: list
    elements: int
    default: []
"""

EXAMPLES = r"""
- name: Show what phase 3 lacks
  ansible.builtin.debug:
    msg: "{{ query('harvester_rke2.platform.services') | harvester_rke2.platform.missing_ground(3, platform_state) }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""


def missing_ground(
    services: list[dict[str, Any]], phase: int, state: dict[str, Any], planned: list[int] | None = None
) -> list[str]:
    """Return one sentence for each requirement that is not there."""
    done = set(planned or [])
    sentences = []
    if phase > 0 and not state["root_ca_certificate"] and 0 not in done:
        # What cannot be read is not called missing: phase 0 would be the wrong advice.
        if state.get("harvester_why"):
            sentences.append(f"Phase {phase} needs the root CA on Harvester. {state['harvester_why']}")
        else:
            sentences.append(f"Phase {phase} needs the root CA, which phase 0 makes: run it first (--tags phase0).")
    earlier = set(range(1, phase)) - done
    if earlier and not state.get("reachable", True):
        return [*sentences, f"Phase {phase} needs the cluster. {state['why']}"]
    by_name = {service["name"]: service for service in services}
    deployed = set(state["applysets"])
    wanted: dict[str, list[str]] = {}
    for service in services:
        for needed in service["requires"] if service["phase"] == phase else []:
            first = by_name[needed]["phase"]
            if first < phase and by_name[needed]["slug"] not in deployed and first not in done:
                wanted.setdefault(needed, []).append(service["name"])
    for needed, names in wanted.items():
        who, first = f"{', '.join(names)} need{'s' if len(names) == 1 else ''}", by_name[needed]["phase"]
        sentences.append(f"{who} {needed}, which phase {first} makes: run it first (--tags phase{first}).")
    return sentences


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"missing_ground": missing_ground}
