// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package registration

import "errors"

var errAbsent = errors.New("the lab's build of Traefik has no ACME client")

type Resource struct {
	URI string
}

type RegisterOptions struct {
	TermsOfServiceAgreed bool
}

type RegisterEABOptions struct {
	TermsOfServiceAgreed bool
	Kid, HmacEncoded     string
}

type Registrar struct{}

func (Registrar) Register(RegisterOptions) (*Resource, error) { return nil, errAbsent }

func (Registrar) RegisterWithExternalAccountBinding(RegisterEABOptions) (*Resource, error) {
	return nil, errAbsent
}
