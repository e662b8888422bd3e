# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Assemble the stand-in charts: the charts of this folder and the schemas that the real ones bring along."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from lab import schemas
from lab.kube import Object
from lab.settings import REPOSITORY

SOURCES = Path(__file__).parent
# what upstream's chart refuses, the stand-in refuses too, where upstream's schema of values is at hand
VALUES = REPOSITORY.parent / "shared" / "chart-values"
# chart: (API groups whose CRDs it brings, when it installs them, when it keeps them); without a condition they lie in
# the chart's folder crds/, which Helm installs from and never upgrades
CRDS = {
    "cert-manager": (
        ("cert-manager.io", "acme.cert-manager.io"),
        "or .Values.crds.enabled .Values.installCRDs",
        ".Values.crds.keep",
    ),
    "cloudnative-pg": (("postgresql.cnpg.io",), ".Values.crds.create", "true"),
    "external-secrets": (("external-secrets.io",), ".Values.installCRDs", "false"),
    "mariadb-operator-crds": (("k8s.mariadb.com",), "true", "false"),
    "plugin-barman-cloud": (("barmancloud.cnpg.io",), ".Values.crds.create", "true"),
    "redis-operator": (("redis.redis.opstreelabs.in",), "", ""),
}
LABELS = """
    app: {{ .Chart.Name }}
    app.kubernetes.io/name: {{ .Chart.Name }}
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/component: crds
    app.kubernetes.io/version: {{ .Chart.AppVersion }}
    helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}"""


def build_charts(destination: Path) -> list[str]:
    """Write every stand-in chart below `destination`; their names and versions."""
    built = []
    for source in sorted(path.parent for path in SOURCES.glob("*/Chart.yaml")):
        target = destination / source.name
        fresh = destination / f".{source.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(source, fresh)
        if source.name in CRDS:
            groups, wanted, keep = CRDS[source.name]
            folder = fresh / ("templates/crds" if wanted else "crds")
            folder.mkdir(parents=True)
            for crd in schemas.collect(groups)[0]:
                text = template(crd, wanted, keep) if wanted else yaml.dump(crd, width=1000, Dumper=_DUMPER)
                (folder / f"{crd['metadata']['name']}.yaml").write_text(text)
        schema = VALUES / source.name / "values.schema.json"
        if schema.exists():
            shutil.copy(schema, fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        about = yaml.safe_load((target / "Chart.yaml").read_text())
        built.append(f"{about['name']} {about['version']}")
    return built


def template(crd: Object, wanted: str, keep: str) -> str:
    """A CRD as a template: labels and the condition are Helm's, everything else is taken as it is."""
    meta = crd["metadata"]
    body = yaml.dump({"spec": crd["spec"]}, sort_keys=False, width=1000, Dumper=_DUMPER)
    annotations = "".join(
        f"    {key}: {value!r}\n"
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith("helm.sh/")
    )
    return (
        f"{{{{- if {wanted} }}}}\n"
        f"apiVersion: {crd['apiVersion']}\nkind: {crd['kind']}\nmetadata:\n  name: {meta['name']}\n"
        f"  annotations:\n    platform.harvester-rke2.io/stand-in: 'true'\n{annotations}"
        f"    {{{{- if {keep} }}}}\n    helm.sh/resource-policy: keep\n    {{{{- end }}}}\n"
        f"  labels:{LABELS}\n"
        f"{escaped(body)}"
        f"{{{{- end }}}}\n"
    )


def escaped(text: str) -> str:
    """Braces in descriptions are no templates."""
    return text.replace("{{", "{{ `{{` }}")


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
