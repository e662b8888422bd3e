# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Command lines of the real programs of the control plane."""

from __future__ import annotations

import sys
from pathlib import Path

from lab import settings
from lab.pki import system_kubeconfig
from lab.processes import Program
from lab.rancher import settings as rancher
from lab.settings import CLUSTER, SERVERS, SOURCES, Lab, Server

ISSUER = "https://kubernetes.default.svc.cluster.local"  # as RKE2 sets it
KWOK_PORT = 10240  # of every node

# The Harvester and Rancher servers hold objects only: namespaces, garbage and tokens must work, nothing runs there.
SMALL_CONTROLLERS = ",".join(
    [
        "namespace-controller",
        "garbage-collector-controller",
        "serviceaccount-controller",
        "serviceaccount-token-controller",
        "root-ca-certificate-publisher-controller",
        "clusterrole-aggregation-controller",
    ]
)


def etcd(lab: Lab, version: str) -> Program:
    peer = "http://127.0.0.1:2380"
    return Program(
        "etcd",
        [
            str(lab.path("bin", "etcd")),
            "--name=lab",
            f"--data-dir={lab.path('etcd')}",
            f"--listen-client-urls={settings.ETCD}",
            f"--advertise-client-urls={settings.ETCD}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            # as RKE2 with etcd-expose-metrics: each control-plane node's address leads to this one member
            "--listen-metrics-urls=http://0.0.0.0:2381",
            # a lab's data need not outlive a power cut, and three API servers write a lot at once
            "--unsafe-no-fsync",
            "--auto-compaction-retention=5m",
            "--log-level=warn",
        ],
        version=version,
    )


def apiserver(lab: Lab, server: Server, version: str) -> Program:
    pki = lab.path("pki", server.name)
    return Program(
        f"kube-apiserver-{server.name}",
        [
            str(lab.path("bin", "kube-apiserver")),
            f"--etcd-servers={settings.ETCD}",
            f"--etcd-prefix=/{server.name}",
            f"--bind-address={server.address}",
            "--secure-port=6443",
            f"--advertise-address={server.address}",
            f"--cert-dir={lab.path('run')}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--service-account-issuer={ISSUER}",
            f"--api-audiences={ISSUER},rke2",
            f"--service-cluster-ip-range={server.services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={pki / 'front-proxy' / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy' / 'client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy' / 'client.key'}",
            "--enable-aggregator-routing=true",
            f"--audit-policy-file={SOURCES / 'manifests' / 'audit.yaml'}",
            f"--audit-log-path={audit_log(lab, server)}",
            "--audit-log-format=json",
        ],
        version=version,
    )


def audit_log(lab: Lab, server: Server) -> Path:
    return lab.path("audit", f"{server.name}.log")


def controller_manager(lab: Lab, server: Server, version: str) -> Program:
    pki = lab.path("pki", server.name)
    whole = server is CLUSTER
    kubeconfig = system_kubeconfig(lab, server.name, "controller-manager")
    return Program(
        f"kube-controller-manager-{server.name}",
        [
            str(lab.path("bin", "kube-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            # only the RKE2 cluster's is scraped
            *(serving(lab, "controller-manager", 10257, kubeconfig) if whole else ["--secure-port=0"]),
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--controllers={'*' if whole else SMALL_CONTROLLERS}",
            "--allocate-node-cidrs=false",
            f"--service-cluster-ip-range={server.services}",
            # without this the program makes /usr/libexec/kubernetes on the host
            f"--flex-volume-plugin-dir={lab.path('run', 'flex')}",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
        ],
        version=version,
    )


def serving(lab: Lab, name: str, port: int, kubeconfig: Path) -> list[str]:
    """Served at every address, as RKE2 with `bind-address=0.0.0.0`; who asks is judged by the API server."""
    pki = lab.path("pki", "cluster")
    return [
        "--bind-address=0.0.0.0",
        f"--secure-port={port}",
        f"--tls-cert-file={pki / f'{name}-serving.crt'}",
        f"--tls-private-key-file={pki / f'{name}-serving.key'}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        # a fresh API server may not have published its client authority yet; tokens work without it
        "--authentication-tolerate-lookup-failure=true",
    ]


def scheduler(lab: Lab, version: str) -> Program:
    kubeconfig = system_kubeconfig(lab, "cluster", "scheduler")
    return Program(
        "kube-scheduler",
        [
            str(lab.path("bin", "kube-scheduler")),
            f"--kubeconfig={kubeconfig}",
            *serving(lab, "scheduler", 10259, kubeconfig),
            "--leader-elect=false",
        ],
        version=version,
    )


def proxy(lab: Lab, node: str, version: str) -> Program:
    """kube-proxy, for the part that Cilium plays on the real cluster."""
    return Program(
        "kube-proxy",
        [
            str(lab.path("bin", "kube-proxy")),
            f"--kubeconfig={system_kubeconfig(lab, 'cluster', 'proxy')}",
            "--proxy-mode=nftables",
            f"--hostname-override={node}",
            f"--cluster-cidr={settings.CLUSTER_RANGE}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            f"--healthz-bind-address={CLUSTER.address}:10256",
            f"--metrics-bind-address={CLUSTER.address}:10249",
        ],
        version=version,
    )


def coredns(lab: Lab, version: str) -> Program:
    return Program(
        "coredns",
        [str(lab.path("bin", "coredns")), "-conf", str(lab.path("etc", "Corefile"))],
        version=version,
    )


def corefile(lab: Lab) -> str:
    """Services and pods by their names, and the platform's domain at the load balancer until phase 8 brings its DNS."""
    kubeconfig = system_kubeconfig(lab, "cluster", "coredns")
    return f"""\
.:53 {{
    bind {settings.DNS_SERVER}
    errors
    ready {settings.DNS_SERVER}:8181
    kubernetes {settings.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} lab
        pods insecure
        ttl 5
        fallthrough in-addr.arpa ip6.arpa
    }}
    template IN A {rancher.NAME} {{
        answer "{{{{ .Name }}}} 60 IN A {rancher.ADDRESS}"
    }}
    template IN A {settings.DOMAIN} {{
        answer "{{{{ .Name }}}} 60 IN A {settings.LOAD_BALANCER}"
    }}
    template IN AAAA {settings.DOMAIN} {{
        rcode NOERROR
    }}
    prometheus {settings.DNS_SERVER}:9153
}}
"""


def kwok(lab: Lab, version: str) -> Program:
    pki = lab.path("pki", "cluster")
    return Program(
        "kwok",
        [
            str(lab.path("bin", "kwok")),
            f"--kubeconfig={system_kubeconfig(lab, 'cluster', 'kwok')}",
            "--manage-all-nodes=true",
            f"--node-ip={settings.GATEWAY}",
            # where the API server gets logs and port-forwards: a node's status says so. 10250 is lab.kubelet's
            f"--node-port={KWOK_PORT}",
            # every node has an address of its own, and this one server answers on all of them
            f"--server-address=0.0.0.0:{KWOK_PORT}",
            f"--tls-cert-file={pki / 'kubelet.crt'}",
            f"--tls-private-key-file={pki / 'kubelet.key'}",
            "--cidr=198.18.127.0/24",
            "--node-lease-duration-seconds=40",
            "--enable-crds=Stage,PortForward,Logs",
        ],
        kind="simulated",
        version=version,
    )


def kubelet(lab: Lab) -> Program:
    pki = lab.path("pki", "cluster")
    return Program(
        "kubelet",
        [
            *(sys.executable, "-m", "lab.kubelet"),
            f"--kubeconfig={system_kubeconfig(lab, 'cluster', 'kubelets')}",
            f"--certificate={pki / 'kubelet.crt'}",
            f"--key={pki / 'kubelet.key'}",
            f"--run={lab.path('pods')}",
        ],
        "emulated",
    )


def all_names() -> list[str]:
    servers = [
        part
        for server in SERVERS
        for part in (f"kube-apiserver-{server.name}", f"kube-controller-manager-{server.name}")
    ]
    return ["etcd", *servers, "kube-scheduler", "kube-proxy", "coredns", "kwok", "kubelet"]
