#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Module bundle: apply, prune, remove or render a set of Kubernetes objects in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Apply a set of Kubernetes objects in one task
version_added: 0.1.0
description:
  - Applies any number of objects over one connection, by server-side apply with strict field validation.
  - Namespaces go first, then CustomResourceDefinitions (until they are established), then the rest in waves
    (accounts and roles; configuration, claims and Services; workloads; custom resources; webhooks). Objects of a wave
    are applied in parallel. The whole wave is first validated by the API server, so that of a wave with a refused
    object, and of everything after it, nothing is applied.
  - A field that another manager owns is refused by name. Changes made by hand with C(kubectl) are drift, and repaired.
  - With O(name) the objects are a set by the ApplySet convention of C(kubectl), and what the templates no longer have
    is deleted. Namespaces, CustomResourceDefinitions, Secrets, volumes, databases, machines, images and networks are
    never pruned.
  - Conflicts, overload (429, with C(Retry-After)), server errors and webhooks that do not answer yet are tried again.
options:
  state:
    description:
      - V(present) applies the objects.
      - V(absent) deletes them and the other members of the set O(name), last things first, and waits until they are
        gone. What holds them is named after O(wait_timeout).
      - V(rendered) writes the objects to files below O(destination) on the controller, talks to no cluster, and adds no
        labels. Secrets with data are refused.
    type: str
    choices: [present, absent, rendered]
    default: present
  name:
    description:
      - Name of the set, usually the service's. Its members are remembered by a ConfigMap C(applyset-<name>) in
        C(kube-system).
      - Without it nothing is pruned.
    type: str
    default: ''
  templates:
    description:
      - Files, or directories whose C(*.yml.j2) files are taken in the order of their names, on the controller.
      - They are rendered with the variables of the task. A file may hold several documents, or turn out empty.
    type: list
    elements: path
    default: []
  objects:
    description: Objects, besides those of the templates.
    type: list
    elements: dict
    default: []
  sources:
    description: Where each of O(objects) was written, for messages. The action plugin sets it.
    type: list
    elements: str
    default: []
  namespace:
    description: Namespace of namespaced objects that name none.
    type: str
    default: ''
  left_to:
    description: Fields that are left to another manager once it owns them.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the objects, such as V(Deployment).
        type: str
        required: true
      name:
        description: Name of the object; all of the kind without it.
        type: str
        default: ''
      fields:
        description: Paths such as V(.spec.replicas) or V(.spec.template.spec.containers[name="app"].resources).
        type: list
        elements: str
        required: true
      manager:
        description: The other field manager; any without it.
        type: str
        default: ''
  set_once:
    description:
      - Fields that are set when the object is created and never again (an autoscaler's numbers, a volume's size).
      - A field manager of its own holds them, because leaving out a field that one owns would delete it.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the objects, such as V(Deployment).
        type: str
        required: true
      name:
        description: Name of the object; all of the kind without it.
        type: str
        default: ''
      fields:
        description: Paths such as V(.spec.replicas).
        type: list
        elements: str
        required: true
      minimum:
        description: Number that the field is brought back to when it is found below.
        type: int
      maximum:
        description: Number that the field is brought back to when it is found above.
        type: int
  frozen:
    description:
      - Objects whose change has a consequence that somebody must have agreed to. A change of one that exists is refused
        before anything of its wave is applied. In check mode it is told.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the object.
        type: str
        required: true
      name:
        description: Name of the object.
        type: str
        required: true
      free:
        description: Paths of fields that may change, such as V(.common). The metadata always may.
        type: list
        elements: str
        default: []
      why:
        description: What the change would lead to.
        type: str
        required: true
      mend:
        description: How to agree to it.
        type: str
        required: true
  take_over:
    description: Field managers whose changes to our fields are drift and are set back.
    type: list
    elements: str
    default: [kubectl-edit, kubectl-patch, kubectl-label, kubectl-annotate, kubectl-set, kubectl-replace]
  destination:
    description: Directory for O(state=rendered), on the controller.
    type: path
extends_documentation_fragment:
  - harvester_rke2.platform.attributes
  - harvester_rke2.platform.attributes.action
  - harvester_rke2.platform.kubernetes
  - harvester_rke2.platform.wait
attributes:
  check_mode:
    support: full
    details:
      - The API server is asked by C(dryRun=All); an object whose kind or namespace does not exist yet is reported as
        V(unvalidated). Without an API all objects are reported as V(planned).
  diff_mode:
    support: full
    details:
      - Shows our fields before and after as the server has them, with the values of Secrets masked.
  idempotent:
    support: full
author:
  - The harvester_rke2.platform authors (@harvester-rke2)
"""

EXAMPLES = r"""
- name: Apply everything that belongs to a service
  harvester_rke2.platform.bundle:
    name: keycloak
    namespace: keycloak
    templates:
      - "{{ role_path }}/templates/objects"
    left_to:
      - kind: Deployment
        name: keycloak
        fields: [.spec.replicas]
        manager: kube-controller-manager
    wait: true

- name: Write the same objects to files for Argo CD
  harvester_rke2.platform.bundle:
    state: rendered
    templates:
      - "{{ role_path }}/templates/objects"
    destination: deploy/keycloak

- name: Remove the service's objects
  harvester_rke2.platform.bundle:
    state: absent
    name: keycloak
    wait_timeout: 600
"""

RETURN = r"""
objects:
  description: One entry an object, in the order of application.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: File the object comes from.
      type: str
    kind:
      description: Its kind.
      type: str
    namespace:
      description: Its namespace, or an empty string.
      type: str
    name:
      description: Its name.
      type: str
    result:
      description: One of V(created), V(changed), V(unchanged), V(pruned), V(deleted), V(planned), V(unvalidated).
      type: str
    why:
      description: Why it could not be validated.
      type: str
    ms:
      description: Milliseconds spent on it.
      type: float
  sample: [{source: objects/cm.yml.j2, kind: ConfigMap, namespace: vault, name: ca, result: unchanged, ms: 0.2}]
kept:
  description: Members of the set that are no longer wanted, but are never pruned.
  returned: when there are any
  type: list
  elements: str
frozen:
  description: In check mode, what would be refused because it is listed in O(frozen).
  returned: when there is any
  type: list
  elements: str
not_ready:
  description: What was not ready in time, each with C(reason) and C(events).
  returned: on failure to wait
  type: list
  elements: dict
refused:
  description: The refused object (C(source), C(object), C(fields), and the C(managers) of a conflict).
  returned: when the API server refused one
  type: dict
"""

from typing import Any

from ..module_utils._ansible_kube import WAIT_OPTIONS, kube_module, run
from ..module_utils._bundle import Bundle, Options, planned
from ..module_utils._bundle_order import Item, read
from ..module_utils._bundle_plan import HANDS
from ..module_utils._bundle_remove import absent
from ..module_utils._errors import PlatformError, Unreachable
from ..module_utils._kube_client import KubeClient
from ..module_utils._ready import Target, Waiter, timed_out

_RULE: dict[str, Any] = {
    "kind": {"type": "str", "required": True},
    "name": {"type": "str", "default": ""},
    "fields": {"type": "list", "elements": "str", "required": True},
}
_FROZEN: dict[str, Any] = {
    **{name: {"type": "str", "required": True} for name in ("kind", "name", "why", "mend")},
    "free": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "rendered"], "default": "present"},
    "name": {"type": "str", "default": ""},
    "templates": {"type": "list", "elements": "path", "default": []},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "sources": {"type": "list", "elements": "str", "default": []},
    "namespace": {"type": "str", "default": ""},
    "left_to": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**_RULE, "manager": {"type": "str", "default": ""}},
    },
    "set_once": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**_RULE, "minimum": {"type": "int"}, "maximum": {"type": "int"}},
    },
    "frozen": {"type": "list", "elements": "dict", "default": [], "options": _FROZEN},
    "take_over": {"type": "list", "elements": "str", "default": list(HANDS)},
    "destination": {"type": "path"},
    **WAIT_OPTIONS,
}


def execute(params: dict[str, Any], objects: list[Any], check: bool, diff: bool) -> dict[str, Any]:
    """Everything but the frame of the module."""
    if params["state"] == "rendered" or params["templates"]:
        raise PlatformError(
            "Running the module bundle",
            "templates are rendered by its action plugin on the controller",
            "Call it as harvester_rke2.platform.bundle in a task.",
        )
    items = read(objects, params["sources"])
    options = Options.read(params, check=check, diff=diff)
    try:
        client = KubeClient.from_options(params, attempts=2 if check else 6)
        bundle = Bundle(client, items, options)
        if params["state"] == "absent":
            return absent(bundle, params["wait_timeout"]).result()
        result = bundle.present().result()
    except Unreachable as exc:
        if not check:
            raise
        # An earlier phase of the same run would make the cluster.
        wanted = [] if params["state"] == "absent" else items
        return {**planned(wanted, exc.why, diff=diff).result(), "reachable": False}
    if params["wait"] and not check:
        _wait(client, items, params["wait_timeout"], result)
    return result


def _wait(client: KubeClient, items: list[Item], seconds: int, result: dict[str, Any]) -> None:
    waiter = Waiter(client, [Target.of(item.obj) for item in items])
    not_ready = waiter.wait(seconds)
    if not_ready:
        error = timed_out(not_ready, len(waiter.targets), seconds)
        error.data.update(result)
        raise error


def main() -> None:
    module = kube_module(ARGUMENTS, supports_check_mode=True)
    # Out of the parameters, which end up in the result: they may hold Secrets, and are as big as the bundle.
    objects = module.params.pop("objects")
    run(module, lambda: execute(module.params, objects, module.check_mode, module._diff))


if __name__ == "__main__":
    main()
