// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package log

// Logger is where the client would write to.
var Logger any
