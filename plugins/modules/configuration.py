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
  - Checks the shared variables (C(platform_*)), the types of all roles' variables, sizes, names that no role declares,
    how the enabled services fit together, and the C(checks) of their descriptions.
  - Fails once, with every fault in a sentence that says how to mend it. An unknown name that begins like one of another
    role's variables is only warned about.
  - Runs on the controller; no connection is made.
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.info_module
  - harvester_rke2.platform.attributes.action
options:
  of:
    description: What the host of the play is, a cluster or one node under SSH.
    type: str
    choices: [cluster, node]
    default: cluster
seealso:
  - plugin: harvester_rke2.platform.services
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Refuse a wrong configuration
  harvester_rke2.platform.configuration:
"""

RETURN = r"""
"""
