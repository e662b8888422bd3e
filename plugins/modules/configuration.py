#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action ``configuration``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: configuration
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Refuse a wrong configuration before anything is touched
description:
  - Checks the shared variables (C(platform_*)), sizes, names that no role declares, and how the enabled services fit together.
  - Fails once, with every fault in a sentence that says how to mend it. An unknown name that begins like one of another
    role's variables is only warned about.
  - Runs on the controller; no connection is made.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  action:
    support: full
  async:
    support: none
  become:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
    description: Changes nothing in any mode.
  connection:
    support: none
  delegation:
    support: none
  diff_mode:
    support: none
  platform:
    platforms: all
options:
  services:
    description: The descriptions of the enabled services, from the lookup P(harvester_rke2.platform.services#lookup).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse a wrong configuration
  harvester_rke2.platform.configuration:
    services: "{{ query('harvester_rke2.platform.services') }}"
"""

RETURN = r"""
"""
