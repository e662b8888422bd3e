//go:build tools

// Package tools names the programs that this part is built from.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
