# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the stand-in charts make: the names, ports and settings that others build on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import settings
from lab.charts import build

Render = Callable[..., dict[str, dict[str, Any]]]


def helm() -> str | None:
    kept = sorted((settings.cache() / "parts").glob("helm-*/helm"))
    return str(kept[-1]) if kept else shutil.which("helm")


needs_helm = pytest.mark.skipif(helm() is None, reason="no helm here yet: `make lab-up` brings it")
VAULT = {
    "injector": {"enabled": False},
    "server": {"ha": {"enabled": True, "raft": {"enabled": True, "setNodeId": True}}},
}


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    build.build_charts(folder)
    return folder


@pytest.fixture
def render(charts: Path, tmp_path: Path) -> Render:
    def one(chart: str, values: dict[str, Any], refused: str = "") -> dict[str, dict[str, Any]]:
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values))
        argv = [str(helm()), "template", chart, str(charts / chart), "--namespace", chart, "--values", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if refused:
            assert done.returncode != 0 and refused in done.stderr, done.stderr
            return {}
        assert done.returncode == 0, done.stderr
        objects = [item for item in yaml.safe_load_all(done.stdout) if item]
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in objects}

    return one


@needs_helm
def test_vault_is_an_ha_raft_cluster(render: Render) -> None:
    seen = render("vault", VAULT)
    services = {"vault", "vault-active", "vault-standby", "vault-internal"}
    assert {name.partition("/")[2] for name in seen if name.startswith("Service/")} == services
    active = seen["Service/vault-active"]["spec"]
    assert active["selector"]["vault-active"] == "true" and active["publishNotReadyAddresses"] is True
    assert [port["port"] for port in active["ports"]] == [8200, 8201]
    assert seen["Service/vault-internal"]["spec"]["clusterIP"] == "None"
    assert seen["PodDisruptionBudget/vault"]["spec"]["maxUnavailable"] == 1
    assert seen["ClusterRoleBinding/vault-server-binding"]["roleRef"]["name"] == "system:auth-delegator"
    assert "disable_mlock = true" in seen["ConfigMap/vault-config"]["data"]["extraconfig-from-values.hcl"]
    spec = seen["StatefulSet/vault"]["spec"]
    assert spec["podManagementPolicy"] == "Parallel" and spec["updateStrategy"] == {"type": "OnDelete"}
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    pod = spec["template"]["spec"]
    rule = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
    container = pod["containers"][0]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert env["VAULT_API_ADDR"] == "http://$(POD_IP):8200" and "VAULT_RAFT_NODE_ID" in env
    assert env["VAULT_CLUSTER_ADDR"] == "https://$(HOSTNAME).vault-internal:8201"
    assert container["readinessProbe"]["exec"]["command"][-1] == "vault status -tls-skip-verify"
    assert "livenessProbe" not in container


@needs_helm
def test_vault_takes_its_values(render: Render) -> None:
    raft = {"enabled": True, "config": 'storage "raft" { path = "{{ .Release.Name }}" }\ndisable_mlock = false'}
    server = {
        "ha": {"enabled": True, "raft": raft, "replicas": 5},
        "image": {"repository": "registry.example/vault", "tag": "1.19.0"},
        "readinessProbe": {"path": "/v1/sys/health?standbyok=true"},
        "extraEnvironmentVars": {"X": "y"},
        "extraVolumes": [{"type": "secret", "name": "tls"}],
        "annotations": "a: {{ .Release.Name }}",
        "nodeSelector": {"workload-type": "database"},
    }
    seen = render("vault", {"injector": {"enabled": False}, "server": server, "ui": {"enabled": True}})
    assert seen["ConfigMap/vault-config"]["data"]["extraconfig-from-values.hcl"] == raft["config"].replace(  # type: ignore[attr-defined]
        "{{ .Release.Name }}", "vault"
    )
    assert seen["PodDisruptionBudget/vault"]["spec"]["maxUnavailable"] == 2
    assert "Service/vault-ui" in seen
    template = seen["StatefulSet/vault"]["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert template["metadata"]["annotations"] == {"a": "vault"}
    assert template["spec"]["nodeSelector"] == {"workload-type": "database"}
    assert container["image"] == "registry.example/vault:1.19.0"
    assert container["readinessProbe"]["httpGet"]["path"] == "/v1/sys/health?standbyok=true"
    assert {"name": "X", "value": "y"} in container["env"]
    assert {"name": "userconfig-tls", "mountPath": "/vault/userconfig/tls", "readOnly": True} in container[
        "volumeMounts"
    ]


@needs_helm
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"injector": {"enabled": False}}, "knows only server.ha.enabled"),
        ({}, "server.ha.enabled"),
        ({**VAULT, "injector": {"enabled": True}}, "has no injector"),
        ({**VAULT, "csi": {"enabled": True}}, "has no CSI provider"),
    ],
)
def test_vault_says_what_the_stand_in_cannot(render: Render, values: dict[str, Any], words: str) -> None:
    render("vault", values, refused=words)


@needs_helm
def test_cert_manager(render: Render) -> None:
    config = {"apiVersion": "controller.config.cert-manager.io/v1alpha1", "kind": "ControllerConfiguration"}
    values = {
        "crds": {"enabled": True},
        "config": {**config, "enableGatewayAPI": True},
        "podDisruptionBudget": {"enabled": True},
    }
    seen = render("cert-manager", values)
    for part in ("cert-manager", "cert-manager-webhook", "cert-manager-cainjector"):
        assert {f"Deployment/{part}", f"ServiceAccount/{part}", f"Service/{part}"} <= set(seen)
    pod = seen["Deployment/cert-manager"]["spec"]["template"]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9402"
    container = pod["spec"]["containers"][0]
    assert container["image"] == "quay.io/jetstack/cert-manager-controller:v1.19.3"
    assert "--config=/var/cert-manager/config/config.yaml" in container["args"]
    assert "--cluster-resource-namespace=$(POD_NAMESPACE)" in container["args"]
    assert yaml.safe_load(seen["ConfigMap/cert-manager"]["data"]["config.yaml"]) == values["config"]
    assert seen["PodDisruptionBudget/cert-manager"]["spec"]["minAvailable"] == 1
    role = seen["Role/cert-manager-tokenrequest"]["rules"][0]
    assert role["resources"] == ["serviceaccounts/token"] and role["resourceNames"] == ["cert-manager"]
    assert seen["Role/cert-manager:leaderelection"]["metadata"]["namespace"] == "kube-system"
    crds = [item for name, item in seen.items() if name.startswith("CustomResourceDefinition/")]
    assert {crd["spec"]["names"]["kind"] for crd in crds} >= {
        "Certificate",
        "ClusterIssuer",
        "Issuer",
        "CertificateRequest",
    }
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)
    assert not any("WebhookConfiguration" in name for name in seen)


@needs_helm
def test_cert_manager_without_crds_brings_none(render: Render) -> None:
    seen = render("cert-manager", {})
    assert not any(name.startswith("CustomResourceDefinition/") for name in seen)
    assert "ConfigMap/cert-manager" not in seen


@needs_helm
def test_external_secrets(render: Render) -> None:
    seen = render("external-secrets", {"replicaCount": 2, "webhook": {"podDisruptionBudget": {"enabled": True}}})
    for part in ("", "-webhook", "-cert-controller"):
        assert f"Deployment/external-secrets{part}" in seen
    assert seen["Deployment/external-secrets"]["spec"]["replicas"] == 2
    assert "Service/external-secrets-webhook" in seen and "PodDisruptionBudget/external-secrets-webhook-pdb" in seen
    assert "CustomResourceDefinition/clustersecretstores.external-secrets.io" in seen


def definitions(seen: dict[str, Any]) -> set[str]:
    return {name.partition("/")[2] for name in seen if name.startswith("CustomResourceDefinition/")}


@needs_helm
def test_cloudnative_pg(render: Render) -> None:
    seen = render("cloudnative-pg", {"replicaCount": 2, "image": {"tag": "1.28.1"}})
    assert {"Deployment/cloudnative-pg", "Service/cnpg-webhook-service"} <= set(seen)
    assert {"ConfigMap/cnpg-controller-manager-config", "ConfigMap/cnpg-default-monitoring"} <= set(seen)
    assert seen["Deployment/cloudnative-pg"]["spec"]["replicas"] == 2
    (container,) = seen["Deployment/cloudnative-pg"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/cloudnative-pg/cloudnative-pg:1.28.1"
    assert {port["name"]: port["containerPort"] for port in container["ports"]}["metrics"] == 8080
    assert {"clusters.postgresql.cnpg.io", "scheduledbackups.postgresql.cnpg.io"} <= definitions(seen)
    assert not definitions(render("cloudnative-pg", {"crds": {"create": False}}))
    render("cloudnative-pg", {"monitoring": {"podMonitorEnabled": True}}, refused="has no PodMonitor")


@needs_helm
def test_plugin_barman_cloud(render: Render) -> None:
    seen = render("plugin-barman-cloud", {"certificate": {"duration": "24h"}})
    assert seen["Service/barman-cloud"]["spec"]["ports"][0]["port"] == 9090
    assert {"Issuer/selfsigned-issuer", "Certificate/barman-cloud-client", "Certificate/barman-cloud-server"} <= set(
        seen
    )
    assert seen["Certificate/barman-cloud-server"]["spec"]["duration"] == "24h"
    (container,) = seen["Deployment/plugin-barman-cloud"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/cloudnative-pg/plugin-barman-cloud:v0.11.0"
    assert definitions(seen) == {"objectstores.barmancloud.cnpg.io"}


@needs_helm
def test_redis_operator(render: Render, charts: Path) -> None:
    gate = {"featureGates": {"GenerateConfigInInitContainer": True}}
    seen = render("redis-operator", gate)
    assert {"Deployment/redis-operator", "ServiceAccount/redis-operator", "ClusterRole/redis-operator"} <= set(seen)
    assert not definitions(seen), "they are in crds/, which Helm installs and does not render"
    assert "redisreplications.redis.redis.opstreelabs.in.yaml" in {file.name for file in charts.glob("*/crds/*")}
    (container,) = seen["Deployment/redis-operator"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "quay.io/opstree/redis-operator:v0.24.0"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert {"name": "FEATURE_GATES", "value": "GenerateConfigInInitContainer=true"} in container["env"]
    render("redis-operator", {"redisOperator": {"webhook": True}}, refused="has no webhook")


@needs_helm
def test_mariadb_operator(render: Render) -> None:
    assert "mariadbs.k8s.mariadb.com" in definitions(render("mariadb-operator-crds", {}))
    seen = render("mariadb-operator", {"webhook": {"ha": {"enabled": True}, "nodeSelector": {"a": "b"}}})
    assert not definitions(seen)
    parts = {"mariadb-operator", "mariadb-operator-webhook", "mariadb-operator-cert-controller"}
    assert {name.partition("/")[2] for name in seen if name.startswith("Deployment/")} == parts
    assert seen["Service/mariadb-operator-webhook"]["spec"]["ports"][0]["port"] == 443
    assert seen["Deployment/mariadb-operator-webhook"]["spec"]["replicas"] == 3
    assert seen["ConfigMap/mariadb-operator-env"]["data"]["RELATED_IMAGE_MARIADB"].endswith("mariadb:11.8.5")
    render("mariadb-operator", {"crds": {"enabled": True}}, refused="has no definitions")
    render("mariadb-operator", {"metrics": {"enabled": True}}, refused="nor ServiceMonitors")


@needs_helm
def test_cluster_autoscaler(render: Render) -> None:
    values = {
        "cloudProvider": "rancher",
        "cloudConfigPath": "/config/cloud-config",
        "autoDiscovery": {"clusterName": "lab"},
        "extraArgs": {"scale-down-unneeded-time": "30m", "expander": "least-waste"},
        "extraVolumeSecrets": {"config": {"mountPath": "/config", "items": [{"key": "a", "path": "b"}]}},
        "extraEnv": {"SSL_CERT_DIR": "/ca"},
    }
    name = "cluster-autoscaler-rancher-cluster-autoscaler"
    seen = render("cluster-autoscaler", values)
    assert {f"Deployment/{name}", f"PodDisruptionBudget/{name}", f"ClusterRoleBinding/{name}"} <= set(seen)
    assert seen[f"Service/{name}"]["spec"]["ports"][0]["port"] == 8085
    pod = seen[f"Deployment/{name}"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry.k8s.io/autoscaling/cluster-autoscaler:v1.34.2"
    assert {
        "--cloud-provider=rancher",
        "--cloud-config=/config/cloud-config",
        "--scale-down-unneeded-time=30m",
        # the chart's own stay beside them
        "--v=4",
    } <= set(container["command"])
    assert {"name": "SSL_CERT_DIR", "value": "/ca"} in container["env"]
    assert container["volumeMounts"] == [{"name": "config", "mountPath": "/config", "readOnly": True}]
    assert pod["volumes"] == [
        {"name": "config", "secret": {"secretName": "config", "items": [{"key": "a", "path": "b"}]}}
    ]
    assert not render("cluster-autoscaler", {**values, "autoDiscovery": {}}), (
        "as the real one, without a cluster's name"
    )
    render("cluster-autoscaler", {}, refused="knows only cloudProvider: rancher")


def test_braces_in_a_schema_are_no_templates() -> None:
    crd = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"description": "use {{ .x }} here"}}
    text = build.template(crd, ".Values.a", ".Values.b")
    assert "use {{ `{{` }} .x }} here" in text and text.startswith("{{- if .Values.a }}\n")


def test_charts_are_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "left-over").touch()
    assert "vault 0.32.0" in build.build_charts(tmp_path)
    assert not (tmp_path / "vault" / "left-over").exists() and not list(tmp_path.glob(".*"))
