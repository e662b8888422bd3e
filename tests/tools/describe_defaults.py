# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Put defaults that are expressions into the words of a copy's argument specifications.

antsibull-docs takes a default only if it is of the option's type. In the roles themselves they stay, where
``ansible-doc`` shows them.

usage: describe_defaults.py COLLECTION
"""

from __future__ import annotations

import pathlib
import sys

import yaml

for path in pathlib.Path(sys.argv[1]).glob("roles/*/meta/argument_specs.yml"):
    specification = yaml.safe_load(path.read_text(encoding="utf-8"))
    for option in specification["argument_specs"]["main"]["options"].values():
        default = option.get("default")
        if option.get("type", "str") != "str" and isinstance(default, str) and "{{" in default:
            words = option["description"]
            option["description"] = [
                *([words] if isinstance(words, str) else words),
                f"Default: V({option.pop('default')}).",
            ]
    path.write_text(yaml.safe_dump(specification, sort_keys=False), encoding="utf-8")
