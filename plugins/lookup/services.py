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
  - Returns the description (C(meta/service.yml)) of each service that is enabled, its strings templated in the scope of
    the role's own defaults under the play's variables, checked and completed with its defaults.
  - Services are the roles of this collection and of C(roles_path) that have a C(meta/service.yml). A service is enabled
    unless the variable C(<role>_enabled) is false.
  - To each description are added C(slug), its name as Kubernetes takes it, C(path), the role's folder, C(hooks), the
    names of its own task files, and C(objects), whether it has templates of objects.
options:
  _terms:
    description: Names of services. Without any, all enabled ones. A service named here is returned also when disabled.
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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleTemplateError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils._description import validate

SHARED_ROLE = "platform"
COLLECTION_ROLES = Path(__file__).resolve().parents[2] / "roles"
_READ: dict[Path, Any] = {}


def role_directories() -> dict[str, Path]:
    """Role name to folder; the collection's roles, then those of ``roles_path``, of which none replaces one of ours."""
    found: dict[str, Path] = {}
    for base in [COLLECTION_ROLES, *(Path(path) for path in C.DEFAULT_ROLES_PATH or [])]:
        if base.is_dir():
            for description in sorted(base.glob("*/meta/service.yml")):
                role = description.parents[1]
                found.setdefault(role.name, role)
    return found


def read(path: Path, loader: DataLoader) -> Any:
    """A role's file, its strings to be templated. Read once: the loader's own cache gives out a deep copy each time."""
    if path not in _READ:
        content = loader.load_from_file(str(path), cache="none", trusted_as_template=True) if path.exists() else None
        _READ[path] = content or {}
    return _READ[path]


def scope_of(role: Path, variables: Mapping[str, Any], loader: DataLoader) -> dict[str, Any]:
    """What a role's templates see, wherever read: its own and the shared defaults, under the play's variables."""
    shared, own = (read(base / "defaults" / "main.yml", loader) for base in (COLLECTION_ROLES / SHARED_ROLE, role))
    return {**shared, **own, **variables}


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def _enabled(self, role: Path, variables: Mapping[str, Any]) -> bool:
        switch = f"{role.name}_enabled"
        scope = scope_of(role, variables, self._loader)
        value = self._templar.copy_with_new_env(available_variables=scope).template(scope.get(switch, True))
        try:
            return bool(boolean(value, strict=True))
        except TypeError:
            # Without its cause, whose text Ansible would append: a list of everything that could be meant.
            raise AnsibleError(f"{switch} must be true or false, but is '{value}'.") from None

    def _describe(self, role: Path, enabled: bool, variables: Mapping[str, Any]) -> dict[str, Any]:
        scope = scope_of(role, variables, self._loader)
        source = role / "meta" / "service.yml"
        raw = read(source, self._loader)
        try:
            service = validate(self._templar.copy_with_new_env(available_variables=scope).template(raw), str(source))
        except ValueError as error:
            raise AnsibleError(str(error)) from error
        except AnsibleTemplateError as error:
            raise AnsibleError(
                f"The description {source} cannot be used: {error} Mend the variable that it names."
            ) from error
        if service["name"] != role.name:
            raise AnsibleError(
                f"The description {source} names the service '{service['name']}', but its role is '{role.name}'. "
                "Name both alike."
            )
        return {
            **service,
            "enabled": enabled,
            "slug": role.name.replace("_", "-"),
            "path": str(role),
            "hooks": sorted(path.stem for path in (role / "tasks").glob("*.yml") if path.stem != "main"),
            "objects": (role / "templates" / "objects").is_dir(),
        }

    def _may_be_of(self, phase: int | None, role: Path) -> bool:
        """Whether it is worth templating: nearly every description says its phase as a plain number."""
        said = read(role / "meta" / "service.yml", self._loader)
        said = said.get("phase") if isinstance(said, dict) else None
        return phase is None or not isinstance(said, int) or said == phase

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the descriptions."""
        self.set_options(var_options=variables, direct=kwargs)
        phase = self.get_option("phase")
        roles = role_directories()
        unknown = [name for name in terms if name not in roles]
        if unknown:
            raise AnsibleError(
                f"No service is named {', '.join(unknown)}; the services are {', '.join(sorted(roles))}."
            )
        known = dict(variables or {})
        enabled = {name: self._enabled(roles[name], known) for name in terms or roles}
        services = [
            self._describe(roles[name], on, known)
            for name, on in enabled.items()
            if (on or terms) and self._may_be_of(phase, roles[name])
        ]
        wanted = [service for service in services if phase is None or service["phase"] == phase]
        return sorted(wanted, key=lambda service: (service["phase"], service["name"]))
