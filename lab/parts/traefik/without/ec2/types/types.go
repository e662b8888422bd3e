// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package types

type InstanceStateName string

const InstanceStateNameRunning InstanceStateName = "running"

type InstanceState struct {
	Name InstanceStateName
}

type Instance struct {
	InstanceId, PrivateIpAddress *string
	State                        *InstanceState
}

type Reservation struct {
	Instances []Instance
}
