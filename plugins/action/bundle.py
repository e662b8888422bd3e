# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``bundle``: renders on the controller, waits in slices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _diff
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_kube import KUBERNETES_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_order import Item, read, waves
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.modules.bundle import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _bundle_templates as templates
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_wait import Slices

_HEADER = "# Rendered by harvester_rke2.platform from "


class ActionModule(ActionBase):
    """Render the templates, hand the objects to the module, and wait for them."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={**KUBERNETES_OPTIONS, **ARGUMENTS})
        objects, sources = self._objects(arguments, task_vars or {})
        try:
            if arguments["state"] == "rendered":
                return self._render(arguments, objects, sources)
            if not objects and not arguments["name"]:
                return {"changed": False, "objects": [], "module_executions": 0}
            # Mistakes that need no cluster are told before one is talked to.
            read(objects, sources)
        except PlatformError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return self._apply(arguments, objects, sources, task_vars)

    def _objects(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
        renderer = templates.Renderer(self._templar, self._loader, variables)
        objects: list[Any] = []
        sources: list[str] = []
        for wanted in arguments["templates"]:
            try:
                path = self._find_needle("templates", wanted)
            except AnsibleError as exc:
                raise AnsibleActionFail(f"Looking for the templates {wanted}: {exc}") from exc
            for name in templates.files([path]):
                found = renderer.objects(name)
                objects += found
                sources += [templates.shown(name)] * len(found)
        given = arguments["objects"]
        names = arguments["sources"] or [f"objects[{index}]" for index in range(len(given))]
        return [*objects, *given], [*sources, *names]

    def _apply(
        self, arguments: dict[str, Any], objects: list[Any], sources: list[str], variables: dict[str, Any] | None
    ) -> dict[str, Any]:
        slices = Slices(
            self._task.get_name() or arguments["name"] or "bundle",
            arguments["wait_timeout"],
            lambda name, args: self._execute_module(module_name=name, module_args=args, task_vars=variables),
        )
        wanted = {key: arguments[key] for key in arguments if key not in ("templates", "destination")}
        done: list[dict[str, Any]] = []
        while True:
            result = slices.run(
                "bundle", {**wanted, "objects": objects, "sources": sources, "wait_timeout": slices.slice()}
            )
            if not (result.get("failed") and result.get("again")) or slices.left <= 0:
                break
            slices.tell(result)
            done.append(result)
        if result.get("failed") and result.get("not_ready") and not result.get("hopeless") and slices.left > 0:
            slices.tell(result)
            result = self._wait_on(result, slices, arguments, objects)
        result["changed"] = any(part.get("changed") for part in (*done, result))
        for sentence in result.get("frozen") or ():
            Display().warning(f"A run would be refused here. {sentence}")
        result["module_executions"] = slices.executions
        return result

    @staticmethod
    def _wait_on(
        applied: dict[str, Any], slices: Slices, arguments: Mapping[str, Any], objects: list[Any]
    ) -> dict[str, Any]:
        """Everything is applied: what is left is to wait, without applying again."""
        references = []
        for obj in objects:
            meta = {"name": obj["metadata"]["name"]}
            namespace = obj["metadata"].get("namespace") or arguments["namespace"]
            if namespace:
                meta["namespace"] = namespace
            references.append({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta})
        connection = {key: arguments[key] for key in KUBERNETES_OPTIONS}
        waited = slices.until_ready({**connection, "objects": references})
        result = {key: value for key, value in waited.items() if key not in ("changed", "ready")}
        for key in ("objects", "diff", "kept", "changed"):
            if key in applied:
                result[key] = applied[key]
        return result

    def _render(self, arguments: Mapping[str, Any], objects: list[Any], sources: list[str]) -> dict[str, Any]:
        """Write one file a template, and remove files of earlier runs that no template makes any more."""
        if not arguments["destination"]:
            raise AnsibleActionFail("state=rendered needs `destination`, the directory to write to.")
        folder = Path(self._loader.path_dwim(os.path.expanduser(arguments["destination"])))
        wanted: dict[Path, str] = {}
        items = [item for wave in waves(read(objects, sources)) for item in wave]
        for source in dict.fromkeys(item.source for item in items):
            name = "objects.yml" if source.startswith("objects[") else Path(source).name.removesuffix(".j2")
            mine = [item for item in items if item.source == source]
            path = folder / name
            head = "" if path in wanted else f"{_HEADER}{name}.j2; changes will be overwritten.\n---\n"
            wanted[path] = wanted.get(path, "---\n" * (path in wanted)) + head + _diff.dump_all(map(_public, mine))
        diff = []
        for path in sorted({*wanted, *(folder.glob("*.yml") if folder.is_dir() else ())}):
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            after = wanted.get(path, "")
            if before == after or (not after and not before.startswith(_HEADER)):
                continue
            headers = {"before_header": str(path), "after_header": str(path)}
            diff.append({**headers, "before": before, "after": after})
            if not self._task.check_mode:
                self._write(path, after)
        entries = [
            {
                "source": item.source,
                "kind": item.kind,
                "namespace": item.namespace,
                "name": item.name,
                "result": "rendered",
                "ms": 0.0,
            }
            for item in items
        ]
        return {"changed": bool(diff), "objects": entries, "diff": diff, "module_executions": 0}

    @staticmethod
    def _write(path: Path, text: str) -> None:
        if not text:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step: a killed run leaves the old file or the new one.
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def _public(item: Item) -> dict[str, Any]:
    if item.kind == "Secret" and (item.obj.get("data") or item.obj.get("stringData")):
        raise PlatformError(
            f"Rendering {item.title} of {item.source}",
            "it holds data, and a secret is never written to a file",
            "Make it with generated_secret or External Secrets, and refer to it by name.",
        )
    return item.obj
