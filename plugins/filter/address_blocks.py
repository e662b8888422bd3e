# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: a range of addresses as networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: address_blocks
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: A range of addresses as networks
description:
  - Returns the fewest networks that together hold every address of the range and no other, for what knows no ranges,
    such as the kernel's routing rules. One address is written without its length, as the kernel shows it.
options:
  _input:
    description: First and last address, C(198.51.100.2-198.51.100.20). Empty for none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the networks of the LoadBalancer pool
  ansible.builtin.debug:
    msg: "{{ platform_load_balancer_pool | harvester_rke2.platform.address_blocks }}"
"""

RETURN = r"""
_value:
  description: The networks in order.
  type: list
  elements: str
  sample: [198.51.100.2/31, 198.51.100.4/30, 198.51.100.8/29, 198.51.100.16/30, 198.51.100.20]
"""


def address_blocks(value: str) -> list[str]:
    """The networks of a range.

    :raises AnsibleFilterError: it is no range of IPv4 addresses.
    """
    if not value:
        return []
    first, _, last = (part.strip() for part in value.partition("-"))
    try:
        blocks = list(
            ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last or first))
        )
    except ValueError as error:
        mend = "Write first-last, such as 198.51.100.2-198.51.100.20."
        raise AnsibleFilterError(f"Making networks of the range '{value}': {error}. {mend}") from None
    return [str(block).removesuffix("/32") for block in blocks]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name to function."""
        return {"address_blocks": address_blocks}
