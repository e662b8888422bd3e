//go:build tools

// Package tools names the programs that this part is built from.
package tools

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
