// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package tlsalpn01

import (
	"errors"
	"time"
)

// ACMETLS1Protocol is the protocol's name in TLS (RFC 8737); Traefik offers it whether it is used or not.
const ACMETLS1Protocol = "acme-tls/1"

type ChallengeOption struct{}

func SetDelay(time.Duration) ChallengeOption { return ChallengeOption{} }

func ChallengeBlocks(string, string) ([]byte, []byte, error) {
	return nil, nil, errors.New("the lab's build of Traefik has no ACME client")
}
