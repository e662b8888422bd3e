// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

// Package ec2 has of Amazon's client what Traefik's ECS provider names, and refuses to be used: the real one alone takes
// minutes and gigabytes to compile.
package ec2

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type Client struct{}

func NewFromConfig(any) *Client { return &Client{} }

type DescribeInstancesInput struct {
	InstanceIds []string
}

type DescribeInstancesOutput struct {
	Reservations []types.Reservation
}

type Paginator struct{}

func NewDescribeInstancesPaginator(*Client, *DescribeInstancesInput) Paginator { return Paginator{} }

func (Paginator) HasMorePages() bool { return true }

func (Paginator) NextPage(context.Context) (*DescribeInstancesOutput, error) {
	return nil, errors.New("the lab's build of Traefik has no client of EC2")
}
