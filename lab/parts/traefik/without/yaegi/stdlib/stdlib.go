// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package stdlib

import "reflect"

var Symbols map[string]map[string]reflect.Value
