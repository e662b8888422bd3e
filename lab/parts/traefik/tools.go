// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

//go:build tools

package traefik

import _ "github.com/traefik/traefik/v3/cmd/traefik"
