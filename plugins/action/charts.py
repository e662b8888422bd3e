# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``charts``: compares digests on the controller, and starts helm only for what differs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_kube import KUBERNETES_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_plan import HANDS
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.modules.charts import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _charts as charts
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_templates import Renderer

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Failed(Exception):
    """A module that this one has started has failed, with this result."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        super().__init__(result.get("msg", ""))


class ActionModule(ActionBase):
    """Bring the releases to their charts and values."""

    _executions = 0
    _variables: dict[str, Any] | None = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={**KUBERNETES_OPTIONS, **ARGUMENTS})
        if arguments["host"]:
            # helm would have to be given the token on its command line, where every user of the machine can read it.
            raise AnsibleActionFail("Helm is started with a kubeconfig: set `kubeconfig` instead of `host`.")
        self._variables = task_vars
        wanted = [self._chart(option, arguments) for option in arguments["charts"]]
        result: dict[str, Any] = {"changed": False, "releases": [], "diff": []}
        try:
            releases = arguments["releases"]
            if releases is None:
                releases = self._module("harvester_rke2.platform.cluster_info", self._connection_of(arguments))
                releases = releases["state"]["releases"]
            for chart in wanted:
                self._bring(chart, charts.current(releases, chart), arguments, result)
        except _Failed as exc:
            result.update(exc.result)
        result["module_executions"] = self._executions
        return result

    def _chart(self, option: Mapping[str, Any], arguments: Mapping[str, Any]) -> charts.Chart:
        try:
            local = charts.find_local(arguments["directory"], option["chart"], option["version"])
        except PlatformError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        if not local and not option["repository"]:
            raise AnsibleActionFail(
                f"The chart {option['chart']} {option['version']} of release {option['name']} is not in the directory "
                f"'{arguments['directory']}' and has no repository. Set `repository`, or put it into the directory."
            )
        values = charts.merged(self._values(option, arguments), option["extra_values"])
        return charts.Chart(
            name=option["name"],
            namespace=option["namespace"],
            repository=option["repository"],
            chart=option["chart"],
            version=option["version"],
            values=values,
            local=local,
            upgrade_crds=option["upgrade_crds"],
        )

    def _values(self, option: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        values = option["values"]
        if values is None or isinstance(values, Mapping):
            return values or {}
        folder = arguments["values_directory"] or ""
        path = os.path.join(folder, str(values))
        if not os.path.isfile(path):
            if values == f"{option['name']}.yml.j2":
                # The name that a description gives by itself: such a chart goes with its own defaults.
                return {}
            raise AnsibleActionFail(
                f"The values of release {option['name']} are to come from {path}, which is no file."
            )
        found = Renderer(self._templar, self._loader, self._variables or {}).objects(path)
        if len(found) > 1 or (found and not isinstance(found[0], Mapping)):
            raise AnsibleActionFail(f"{path} does not render to one mapping of values.")
        return found[0] if found else {}

    def _bring(
        self, chart: charts.Chart, live: Mapping[str, Any], arguments: Mapping[str, Any], result: dict[str, Any]
    ) -> None:
        status, digest = live.get("status", ""), chart.digest
        entry: dict[str, Any] = {
            "name": chart.name,
            "namespace": chart.namespace,
            "version": chart.version,
            "digest": digest,
            "result": "unchanged",
        }
        result["releases"].append(entry)
        if status == "deployed" and live.get("digest") == digest:
            return
        title = f"Helm release {chart.namespace}/{chart.name}"
        result["diff"].append(
            {
                "before_header": title,
                "after_header": title,
                "before": f"status: {status}\ndigest: {live.get('digest', '')}\n" if live else "",
                "after": f"status: deployed\ndigest: {digest}\nversion: {chart.version}\n",
            }
        )
        result["changed"] = True
        if self._task.check_mode:
            entry["result"] = "planned"
            return
        entry["result"] = "failed"
        if status in charts.PENDING_INSTALL | charts.PENDING_CHANGE:
            self._recover(chart, status, arguments)
            entry["recovered"] = status
        exists = bool(live) and status not in charts.PENDING_INSTALL
        if exists and chart.upgrade_crds:
            self._upgrade_crds(chart, arguments)
        self._deploy(chart, exists, arguments)
        entry["result"] = "upgraded" if exists else "installed"
        kept = {"name": chart.name, "namespace": chart.namespace, "digest": digest}
        self._module("harvester_rke2.platform.charts", {**self._connection_of(arguments), "digests": [kept]})

    def _deploy(self, chart: charts.Chart, exists: bool, arguments: Mapping[str, Any]) -> None:
        doing = "Upgrading" if exists else "Installing"
        with self._helms(doing, chart):
            said = self._module(
                "kubernetes.core.helm",
                {
                    **chart.arguments(),
                    "context": arguments["context"],
                    "binary_path": arguments["binary"] if os.path.isabs(arguments["binary"]) else None,
                    "timeout": f"{arguments['timeout']}s",
                },
                # Named in its option, the kubeconfig is copied with its credentials to a file in /tmp, which a kill
                # leaves.
                environment={"KUBECONFIG": arguments["kubeconfig"], "K8S_AUTH_KUBECONFIG": ""},
            )
        if exists and not said.get("changed"):
            # The module compares version and values, and so does not see that the content of a chart on disk, or the
            # manifest of a rolled-back release, is another one.
            words = ["upgrade", chart.name, *chart.source, "--values", "-", "--reset-values"]
            words += ["--timeout", f"{arguments['timeout']}s"]
            self._helm(doing, words, chart, arguments, stdin=json.dumps(chart.values))

    def _upgrade_crds(self, chart: charts.Chart, arguments: Mapping[str, Any]) -> None:
        """What Helm installs from a chart's folder `crds/` it never touches again."""
        # Not `show crds`, which puts nothing between one definition and the next.
        words = ["template", chart.name, *chart.source, "--include-crds", "--values", "-"]
        rendered = self._helm("Rendering", words, chart, arguments, stdin=json.dumps(chart.values))
        found = yaml.load_all(rendered["stdout"], Loader=_LOADER)
        definitions = [item for item in found if item and item["kind"] == "CustomResourceDefinition"]
        self._module(
            "harvester_rke2.platform.bundle",
            {
                **self._connection_of(arguments),
                "objects": definitions,
                "sources": [f"crds/ of {chart.chart} {chart.version}"] * len(definitions),
                "take_over": [*HANDS, "helm"],
                "wait": True,
                "wait_timeout": 30,
            },
        )

    def _recover(self, chart: charts.Chart, status: str, arguments: Mapping[str, Any]) -> None:
        """Helm refuses to touch a release whose last operation was killed."""
        timeout = ["--wait", "--timeout", f"{arguments['timeout']}s"]
        if status in charts.PENDING_INSTALL:
            words = ["uninstall", chart.name, "--ignore-not-found", *timeout]
            self._helm("Removing what is half installed of", words, chart, arguments)
        else:
            # Not --wait: pods of a sealed Vault are never ready, and the upgrade follows at once.
            self._helm("Rolling back", ["rollback", chart.name, *timeout[1:]], chart, arguments)

    @staticmethod
    @contextlib.contextmanager
    def _helms(doing: str, chart: charts.Chart) -> Iterator[None]:
        """What helm says becomes a sentence that names the release."""
        try:
            yield
        except _Failed as exc:
            sentence = charts.failure(f"{doing} the Helm release {chart.namespace}/{chart.name}", exc.result)
            raise _Failed({**exc.result, "msg": sentence}) from exc

    def _helm(
        self,
        doing: str,
        words: list[str],
        chart: charts.Chart,
        arguments: Mapping[str, Any],
        *,
        stdin: str | None = None,
    ) -> dict[str, Any]:
        connection = []
        for flag, value in (("--kubeconfig", arguments["kubeconfig"]), ("--kube-context", arguments["context"])):
            connection += [flag, value] if value else []
        argv = [arguments["binary"], *words, "--namespace", chart.namespace, *connection]
        with self._helms(doing, chart):
            return self._module("ansible.builtin.command", {"argv": argv, "stdin": stdin})

    @staticmethod
    def _connection_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {key: arguments[key] for key in KUBERNETES_OPTIONS}

    def _module(
        self, name: str, arguments: dict[str, Any], environment: Mapping[str, str | None] | None = None
    ) -> dict[str, Any]:
        self._executions += 1
        given = {key: value for key, value in arguments.items() if value is not None}
        before = self._task.environment
        if environment and environment["KUBECONFIG"]:
            self._task.environment = [*(before or []), dict(environment)]
        try:
            result: dict[str, Any] = self._execute_module(
                module_name=name, module_args=given, task_vars=self._variables
            )
        finally:
            self._task.environment = before
        result.pop("invocation", None)
        if result.get("failed") or result.get("rc"):
            raise _Failed({key: result[key] for key in ("msg", "stderr", "rc", "failed") if key in result})
        return result
