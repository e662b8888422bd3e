# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of the module ``configuration``: everything happens on the controller."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible.release import __version__
from ansible.utils.display import Display
from ansible_collections.harvester_rke2.platform.plugins.lookup.services import (
    COLLECTION_ROLES,
    SHARED_ROLE,
    read,
    role_directories,
    scope_of,
)
from ansible_collections.harvester_rke2.platform.plugins.module_utils import (
    _configuration,
    _configuration_cluster,
    _configuration_nodes,
    _tools,
)

# What the role platform itself sets is no user's variable, but bears its prefix.
SET_BY_US = {"platform_state", "platform_root_ca_certificate"}
display = Display()


class ActionModule(ActionBase):
    """Refuse a wrong configuration before anything is touched."""

    _requires_connection = False
    _supports_check_mode = True

    def _declared(self) -> dict[Path, dict[str, Any]]:
        """Role to the options that its argument specification declares."""
        declared: dict[Path, dict[str, Any]] = {}
        for role in sorted({*COLLECTION_ROLES.iterdir(), *role_directories().values()}):
            path = role / "meta" / "argument_specs.yml"
            if path.exists():
                entries = read(path, self._loader)["argument_specs"].values()
                options = [(entry.get("options") or {}).items() for entry in entries]
                declared[role] = dict(itertools.chain(*options))
        return declared

    def _values(self, role: Path, names: set[str], variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The values of a role's variables, as its templates would see them, and a fault for each that has none."""
        scope = scope_of(role, variables, self._loader)
        templar = self._templar.copy_with_new_env(available_variables=scope)
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name in sorted(names):
            try:
                values[name] = templar.template(scope[name])
            except AnsibleError as error:
                faults.append(f"{name} cannot be evaluated ({error}): correct its expression.")
        return values, faults

    def _names(self, declared: Mapping[Path, Mapping[str, Any]], variables: Mapping[str, Any]) -> list[str]:
        known = set[str]().union(*declared.values())
        for role in declared:
            if role.name != SHARED_ROLE:
                for sentence in _configuration.unknown_names(variables, known, f"{role.name}_"):
                    display.warning(sentence)
        return _configuration.unknown_names(set(variables) - SET_BY_US, known, f"{SHARED_ROLE}_")

    def _services(self, pools: Any, variables: dict[str, Any]) -> list[str]:
        # Asked for here and not by an argument, which would be evaluated first, with values of the wrong type in it.
        lookup = lookup_loader.get("harvester_rke2.platform.services", loader=self._loader, templar=self._templar)
        try:
            services = lookup.run([], variables)
        except AnsibleError as error:
            return [str(error)]
        return _configuration.check_services(services, pools, role_directories())

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check names, types, values and how the services fit together; fail with all faults at once."""
        super().run(tmp, task_vars)
        spec = {"of": {"choices": ["cluster", "node"], "default": "cluster"}}
        of_node = self.validate_argument_spec(argument_spec=spec)[1]["of"] == "node"
        variables = dict(task_vars or {})
        declared = self._declared()
        of_nodes = {
            name: option
            for role, options in declared.items()
            if (role / "meta" / "node.yml").exists()
            for name, option in options.items()
        }
        too_old = _tools.core_fault(__version__)
        faults = [*([too_old] if too_old else []), *self._names(declared, variables)]
        values: dict[str, Any] = {}
        mistyped: list[str] = []
        for role, options in declared.items():
            # What a node's role checks hangs on its defaults, too.
            preset = read(role / "defaults" / "main.yml", self._loader) if (role / "meta" / "node.yml").exists() else {}
            found, unusable = self._values(role, set(options) & {*variables, *preset}, variables)
            mistyped += unusable + _configuration.check_types(role.name, options, found)
            values |= found
        faults += mistyped
        # What a value of the wrong type means for the others is not worth guessing.
        if not mistyped and of_node:
            clusters = variables.get("groups", {}).get("rke2_clusters", [])
            faults += _configuration_nodes.check(values) + _configuration_nodes.check_cluster(values, clusters)
        elif not mistyped:
            shared = _configuration.check(values)
            faults += shared
            faults += _configuration.check_quantities(values)
            faults += _configuration_cluster.check(values)
            pools = values["platform_pools"]
            if not _configuration.check_pools(pools):
                # What the nodes make of wrong networks is not worth telling.
                faults += [] if shared else _configuration_nodes.check_pools(values, of_nodes)
                faults += self._services(pools, variables)
        if faults:
            listed = "\n".join(f"  - {fault}" for fault in faults)
            return {"failed": True, "msg": f"The configuration was refused and nothing was touched:\n{listed}"}
        return {"changed": False, "module_executions": 0}
