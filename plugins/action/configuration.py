# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of the module ``configuration``: everything happens on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.harvester_rke2.platform.plugins.module_utils import _configuration

ROLES = Path(__file__).resolve().parents[2] / "roles"
SHARED = "platform"
display = Display()


class ActionModule(ActionBase):
    """Refuse a wrong configuration before anything is touched."""

    _requires_connection = False
    _supports_check_mode = True

    def _declared(self) -> dict[str, set[str]]:
        """Role name to the variables that its argument specification declares."""
        declared: dict[str, set[str]] = {}
        for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
            content = self._loader.load_from_file(str(path))
            options: set[str] = set()
            for entry in content["argument_specs"].values():
                options |= set(entry.get("options") or {})
            declared[path.parents[1].name] = options
        return declared

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check names, values and how the services fit together; fail with all faults at once."""
        super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        _, arguments = self.validate_argument_spec(
            argument_spec={"services": {"type": "list", "elements": "dict", "required": True}}
        )
        declared = self._declared()
        # What the platform role itself registers and sets is no user's variable.
        internal = {"platform_state", "platform_root_ca_certificate"}
        known = set().union(*declared.values()) | internal
        faults = _configuration.unknown_names(variables, known, f"{SHARED}_")
        for role in sorted(set(declared) - {SHARED}):
            for sentence in _configuration.unknown_names(variables, known, f"{role}_"):
                display.warning(sentence)
        own = {name: self._templar.template(variables[name]) for name in sorted(known & set(variables)) if name.startswith(f"{SHARED}_")}
        faults += _configuration.check(own, arguments["services"])
        sizes = {name: self._templar.template(variables[name]) for name in sorted(known & set(variables)) if name.endswith("_size")}
        faults += _configuration.check_quantities(sizes)
        if faults:
            raise AnsibleError("The configuration was refused and nothing was touched:\n" + "\n".join(f"  - {fault}" for fault in faults))
        return {"changed": False, "module_executions": 0}
