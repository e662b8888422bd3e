# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The lab's kubelet: pods whose images are in images.yaml run as real processes on this machine.

Started inside the lab's network namespace as `python -m lab.agent --config FILE`. FILE is YAML or JSON:

    kubeconfig: FILE          a user with the rights in rbac.yaml
    run: FOLDER               addresses, volumes and logs of the pods (made with 0700: tokens and Secrets lie there)
    bin: FOLDER               the lab's programs: bao, cert-manager-controllers, ...
    python: FILE              the interpreter behind the image python:3.13-slim
    images: FILE              the table of images
    pods: 198.18.128.0/17     addresses of the pods; must not be local to the namespace
    gateway: 198.18.0.10      the namespace's own address that the pods' routes name
    nameserver: 198.19.0.10   what the pods' resolv.conf names
    domain: cluster.local
"""
