# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of the enabled services' descriptions."""

from __future__ import annotations

DOCUMENTATION = r"""
name: services
author: The harvester_rke2.platform authors (@harvester-rke2)
version_added: 0.1.0
short_description: Descriptions of the platform's services
description:
  - Returns the description (C(meta/service.yml)) of each service that is enabled, its strings templated in the scope of the
    role's own defaults under the play's variables, checked and completed with its defaults.
  - Services are the roles of this collection and of C(roles_path) that have a C(meta/service.yml). A service is enabled
    unless the variable C(<role>_enabled) is false.
  - To each description are added C(path), the role's folder, and C(hooks), the names of its own task files.
options:
  _terms:
    description: Names of services. Without any, all enabled ones. A service named here is returned even when it is not enabled.
    type: list
    elements: str
  phase:
    description: Only the services of this phase.
    type: int
"""

EXAMPLES = r"""
- name: Show every host name of the platform
  ansible.builtin.debug:
    msg: "{{ query('harvester_rke2.platform.services') | map(attribute='routes') | flatten | map(attribute='host') }}"
"""

RETURN = r"""
_raw:
  description: The descriptions, ordered by phase and name.
  type: list
  elements: dict
"""

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible import constants as C  # noqa: E402
from ansible.errors import AnsibleError  # noqa: E402
from ansible.module_utils.parsing.convert_bool import boolean  # noqa: E402
from ansible.plugins.lookup import LookupBase  # noqa: E402

from ansible_collections.harvester_rke2.platform.plugins.module_utils._description import validate  # noqa: E402

SHARED_ROLE = "platform"
COLLECTION_ROLES = Path(__file__).resolve().parents[2] / "roles"


def role_directories() -> dict[str, Path]:
    """Role name to folder; the collection's roles first, then those of ``roles_path``, of which none replaces one of ours."""
    found: dict[str, Path] = {}
    for base in [COLLECTION_ROLES, *(Path(path) for path in C.DEFAULT_ROLES_PATH or [])]:
        if base.is_dir():
            for description in sorted(base.glob("*/meta/service.yml")):
                role = description.parents[1]
                found.setdefault(role.name, role)
    return found


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def _defaults(self, role: Path) -> dict[str, Any]:
        path = role / "defaults" / "main.yml"
        if not path.exists():
            return {}
        return dict(self._loader.load_from_file(str(path), trusted_as_template=True) or {})

    def _describe(self, role: Path, variables: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any] | None:
        scope = {**shared, **self._defaults(role), **variables}
        templar = self._templar.copy_with_new_env(available_variables=scope)
        source = role / "meta" / "service.yml"
        raw = self._loader.load_from_file(str(source), trusted_as_template=True)
        enabled = boolean(templar.template(scope.get(f"{role.name}_enabled", True)), strict=True)
        try:
            service = validate(templar.template(raw), str(source))
        except ValueError as error:
            raise AnsibleError(str(error)) from error
        if service["name"] != role.name:
            raise AnsibleError(f"The description {source} names the service '{service['name']}', but its role is '{role.name}'. Name both alike.")
        return {
            **service,
            "enabled": enabled,
            "path": str(role),
            "hooks": sorted(path.stem for path in (role / "tasks").glob("*.yml") if path.stem != "main"),
            "objects": (role / "templates" / "objects").is_dir(),
        }

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the descriptions."""
        self.set_options(var_options=variables, direct=kwargs)
        phase = self.get_option("phase")
        roles = role_directories()
        unknown = [name for name in terms if name not in roles]
        if unknown:
            raise AnsibleError(f"No service is named {', '.join(unknown)}; the services are {', '.join(sorted(roles))}.")
        shared = self._defaults(COLLECTION_ROLES / SHARED_ROLE)
        services = [self._describe(roles[name], dict(variables or {}), shared) for name in (terms or roles)]
        wanted = [
            service
            for service in services
            if service and (terms or service["enabled"]) and (phase is None or service["phase"] == phase)
        ]
        return sorted(wanted, key=lambda service: (service["phase"], service["name"]))
