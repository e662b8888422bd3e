// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package dns01

import (
	"strings"
	"time"
)

type ChallengeOption struct{}

func AddRecursiveNameservers([]string) ChallengeOption { return ChallengeOption{} }

func RecursiveNSsPropagationRequirement() ChallengeOption { return ChallengeOption{} }

func DisableAuthoritativeNssPropagationRequirement() ChallengeOption { return ChallengeOption{} }

func PropagationWait(time.Duration, bool) ChallengeOption { return ChallengeOption{} }

// UnFqdn takes the last dot away; Traefik's TLS stores use it for every certificate.
func UnFqdn(name string) string { return strings.TrimSuffix(name, ".") }
