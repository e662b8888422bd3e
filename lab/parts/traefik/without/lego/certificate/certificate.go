// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package certificate

import "errors"

var errAbsent = errors.New("the lab's build of Traefik has no ACME client")

type Resource struct {
	Domain                  string
	PrivateKey, Certificate []byte
}

type ObtainRequest struct {
	Domains, EmailAddresses []string
	Bundle                  bool
	Profile, PreferredChain string
}

type RenewOptions struct {
	Bundle                  bool
	EmailAddresses          []string
	Profile, PreferredChain string
}

type Certifier struct{}

func (Certifier) Obtain(ObtainRequest) (*Resource, error) { return nil, errAbsent }

func (Certifier) RenewWithOptions(Resource, *RenewOptions) (*Resource, error) { return nil, errAbsent }
