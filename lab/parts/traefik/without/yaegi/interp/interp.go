// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

// Package interp has of the interpreter of Traefik's plugins what Traefik's own packages name, and refuses to be used.
package interp

import (
	"errors"
	"io"
	"reflect"
)

var errAbsent = errors.New("the lab's build of Traefik has no interpreter for plugins")

type Exports map[string]map[string]reflect.Value

type Options struct {
	GoPath         string
	Env            []string
	Stdout, Stderr io.Writer
}

type Interpreter struct{}

func New(Options) *Interpreter { return &Interpreter{} }

func (*Interpreter) Use(map[string]map[string]reflect.Value) error { return errAbsent }

func (*Interpreter) Eval(string) (reflect.Value, error) { return reflect.Value{}, errAbsent }
