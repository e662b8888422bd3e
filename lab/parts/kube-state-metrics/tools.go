//go:build tools

// Package tools names the programs that this part is built from.
package tools

import (
	_ "k8s.io/kube-state-metrics/v2"
)
