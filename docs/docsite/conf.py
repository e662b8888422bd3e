# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The documentation site (`make docs`). It reads nothing from the network: there are no intersphinx inventories."""

from __future__ import annotations

project = "harvester_rke2.platform"
copyright = "2026, the harvester_rke2.platform authors"
title = project

extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
default_role = "any"
highlight_language = "YAML+Jinja"
myst_heading_anchors = 3
# Links out of docs/ lead to files of the repository, those of modules to Ansible's own pages: neither are pages here.
suppress_warnings = ["myst.xref_missing", "ref.any", "ref.ref"]
