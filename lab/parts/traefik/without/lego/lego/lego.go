// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

// Package lego has of the ACME client what Traefik's own packages name, and refuses to be used: the lab has no ACME server,
// and the client's providers of DNS are half of Traefik's build.
package lego

import (
	"crypto/x509"
	"errors"
	"net/http"

	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/challenge/http01"
	"github.com/go-acme/lego/v4/challenge/tlsalpn01"
	"github.com/go-acme/lego/v4/registration"
)

const LEDirectoryProduction = "https://acme-v02.api.letsencrypt.org/directory"

var errAbsent = errors.New("the lab's build of Traefik has no ACME client")

type Config struct {
	CADirURL, UserAgent string
	HTTPClient          *http.Client
	Certificate         struct {
		KeyType           certcrypto.KeyType
		DisableCommonName bool
	}
}

func NewConfig(any) *Config { return &Config{} }

type Client struct {
	Challenge    Challenges
	Registration registration.Registrar
	Certificate  certificate.Certifier
}

func NewClient(*Config) (*Client, error) { return nil, errAbsent }

func CreateCertPool([]string, bool) (*x509.CertPool, error) { return nil, errAbsent }

type Challenges struct{}

func (Challenges) SetDNS01Provider(challenge.Provider, ...dns01.ChallengeOption) error {
	return errAbsent
}

func (Challenges) SetHTTP01Provider(challenge.Provider, ...http01.ChallengeOption) error {
	return errAbsent
}

func (Challenges) SetTLSALPN01Provider(challenge.Provider, ...tlsalpn01.ChallengeOption) error {
	return errAbsent
}
