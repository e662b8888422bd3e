// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

// Program cert-manager-controllers runs cert-manager's own controllers with the flags and the configuration file of the
// upstream program, whose module is not published on its own. The issuers of the platform are there (Vault, CA,
// self-signed); ACME and Venafi, which would triple the build by their cloud clients, are not.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/healthz"
	"github.com/cert-manager/cert-manager/pkg/server"
	"github.com/cert-manager/cert-manager/pkg/util"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/gateways"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/ingresses"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/vault"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/metrics"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/vault"
)

const lockName = "cert-manager-controller"

func main() {
	util.AppVersion = "v1.19.3"
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	options, err := parse(os.Args[1:])
	if err == nil {
		err = run(klog.NewContext(ctx, klog.Background()), options)
	}
	if err != nil {
		klog.ErrorS(err, "cert-manager-controllers ended")
		klog.Flush()
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	factory, err := controller.NewContextFactory(ctx, o.context)
	if err != nil {
		return err
	}
	base, err := factory.Build()
	if err != nil {
		return fmt.Errorf("building the controllers' context: %w", err)
	}
	base.Metrics.SetupCertificateCollector(base.SharedInformerFactory.Certmanager().V1().Certificates().Lister())

	metricsListener, err := server.Listen(ctx, "tcp", o.metricsAddress)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	metrics := base.Metrics.NewServer(metricsListener)
	group.Go(func() error {
		if err := metrics.Serve(metricsListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, release := context.WithTimeout(context.Background(), 5*time.Second)
		defer release()
		return metrics.Shutdown(grace)
	})
	healthzListener, err := server.Listen(ctx, "tcp", o.healthzAddress)
	if err != nil {
		return fmt.Errorf("listening for health checks: %w", err)
	}
	health := healthz.NewServer(o.healthzTimeout)
	group.Go(func() error { return health.Start(ctx, healthzListener) })

	group.Go(func() error {
		defer cancel()
		if o.leaderElect {
			if err := lead(ctx, cancel, base, o, health.LeaderHealthzAdaptor); err != nil || ctx.Err() != nil {
				return err
			}
		}
		return control(ctx, factory, base, o)
	})
	return group.Wait()
}

// lead returns once this process holds the lease; losing it later ends the process, as upstream does.
func lead(ctx context.Context, lost func(), base *controller.Context, o *options, watchdog *leaderelection.HealthzAdaptor) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, o.leaderNamespace, lockName, base.Client.CoreV1(), base.Client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: host + "-external-cert-manager-controller", EventRecorder: base.Recorder})
	if err != nil {
		return fmt.Errorf("creating the lease's lock: %w", err)
	}
	elected, failed := make(chan struct{}), make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: o.leaseDuration, RenewDeadline: o.renewDeadline, RetryPeriod: o.retryPeriod,
		ReleaseOnCancel: true, Name: lockName, WatchDog: watchdog,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(elected) },
			OnStoppedLeading: func() { failed <- errors.New("leader election lost"); lost() },
		},
	})
	if err != nil {
		return err
	}
	go elector.Run(ctx)
	select {
	case <-elected:
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

func control(ctx context.Context, factory *controller.ContextFactory, base *controller.Context, o *options) error {
	group, ctx := errgroup.WithContext(ctx)
	for name, construct := range controller.Known() {
		if !o.enabled(name) || (o.context.Namespace != "" && name == "clusterissuers") {
			klog.InfoS("not starting controller as it's disabled", "controller", name)
			continue
		}
		unit, err := construct(factory)
		if err != nil {
			return fmt.Errorf("starting controller %s: %w", name, err)
		}
		klog.InfoS("starting controller", "controller", name)
		group.Go(func() error { return unit.Run(o.workers, ctx) })
	}
	base.SharedInformerFactory.Start(ctx.Done())
	base.KubeSharedInformerFactory.Start(ctx.Done())
	base.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	if o.context.EnableGatewayAPI {
		base.GWShared.Start(ctx.Done())
	}
	return group.Wait()
}
