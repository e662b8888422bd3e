// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: (c) 2026, the harvester_rke2.platform authors

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	configapi "github.com/cert-manager/cert-manager/pkg/apis/config/controller/v1alpha1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util/feature"
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"sigs.k8s.io/yaml"
)

// options holds what the flags and the configuration file of the upstream controller say. The upstream program reads
// them with packages that cannot be imported from another module, hence these names and defaults once more.
type options struct {
	context controller.ContextOptions

	controllers                                    []string
	workers                                        int
	metricsAddress, healthzAddress                 string
	leaderElect                                    bool
	leaderNamespace                                string
	leaseDuration, renewDeadline, retryPeriod      time.Duration
	healthzTimeout                                 time.Duration
	featureGates                                   map[string]bool
	logging                                        *logsapi.LoggingConfiguration
	configFile                                     string
	dns01Nameservers                               []string
	profiling, dns01Only, solverNonRoot            bool
	profilerAddress, solverImage                   string
	solverCPU, solverMemory, limitCPU, limitMemory string
}

func parse(arguments []string) (*options, error) {
	o := &options{logging: logsapi.NewLoggingConfiguration()}
	c := &o.context
	c.CopiedAnnotationPrefixes = []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"}
	f := pflag.NewFlagSet("cert-manager-controllers", pflag.ContinueOnError)

	f.StringVar(&o.configFile, "config", "", "configuration file (ControllerConfiguration)")
	f.StringVar(&c.APIServerHost, "master", "", "address of the API server")
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig when not in a cluster")
	f.Float32Var(&c.KubernetesAPIQPS, "kube-api-qps", 20, "queries a second")
	f.IntVar(&c.KubernetesAPIBurst, "kube-api-burst", 50, "burst of queries")
	f.StringVar(&c.Namespace, "namespace", "", "only this namespace")
	f.StringVar(&c.ClusterResourceNamespace, "cluster-resource-namespace", "kube-system", "namespace of ClusterIssuers' resources")
	f.BoolVar(&c.ClusterIssuerAmbientCredentials, "cluster-issuer-ambient-credentials", true, "ambient credentials of ClusterIssuers")
	f.BoolVar(&c.IssuerAmbientCredentials, "issuer-ambient-credentials", false, "ambient credentials of Issuers")
	f.StringVar(&c.DefaultIssuerName, "default-issuer-name", "", "issuer of annotated resources")
	f.StringVar(&c.DefaultIssuerKind, "default-issuer-kind", "Issuer", "kind of that issuer")
	f.StringVar(&c.DefaultIssuerGroup, "default-issuer-group", "cert-manager.io", "group of that issuer")
	f.StringSliceVar(&c.DefaultAutoCertificateAnnotations, "auto-certificate-annotations", []string{"kubernetes.io/tls-acme"}, "annotations that ask for a certificate")
	f.StringSliceVar(&c.ExtraCertificateAnnotations, "extra-certificate-annotations", nil, "annotations copied to the Certificate")
	f.BoolVar(&c.EnableOwnerRef, "enable-certificate-owner-ref", false, "Certificates own their Secrets")
	f.StringSliceVar(&c.CopiedAnnotationPrefixes, "copied-annotation-prefixes", c.CopiedAnnotationPrefixes, "annotations copied from Certificates")
	f.BoolVar(&c.EnableGatewayAPI, "enable-gateway-api", false, "act on annotated Gateways")
	f.IntVar(&c.MaxConcurrentChallenges, "max-concurrent-challenges", 60, "ACME challenges at once")

	f.StringSliceVar(&o.controllers, "controllers", []string{"*"}, "controllers to run")
	f.IntVar(&o.workers, "concurrent-workers", 5, "workers a controller")
	f.StringVar(&o.metricsAddress, "metrics-listen-address", "0.0.0.0:9402", "address of /metrics")
	f.StringVar(&o.healthzAddress, "internal-healthz-listen-address", "0.0.0.0:9403", "address of /livez")
	f.DurationVar(&o.healthzTimeout, "internal-healthz-leader-election-timeout", 20*time.Second, "grace of the lease in /livez")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "wait for the lease")
	f.StringVar(&o.leaderNamespace, "leader-election-namespace", "kube-system", "namespace of the lease")
	f.DurationVar(&o.leaseDuration, "leader-election-lease-duration", 60*time.Second, "duration of the lease")
	f.DurationVar(&o.renewDeadline, "leader-election-renew-deadline", 40*time.Second, "deadline of its renewal")
	f.DurationVar(&o.retryPeriod, "leader-election-retry-period", 15*time.Second, "time between attempts")
	f.Var(cliflag.NewMapStringBool(&o.featureGates), "feature-gates", "feature=true|false,...")
	logs.AddFlags(o.logging, f)

	// Accepted because the chart passes them; without the ACME controllers (see main.go) they have no effect.
	f.StringVar(&o.solverImage, "acme-http01-solver-image", "", "not used in the lab")
	f.StringVar(&o.solverCPU, "acme-http01-solver-resource-request-cpu", "10m", "not used in the lab")
	f.StringVar(&o.solverMemory, "acme-http01-solver-resource-request-memory", "64Mi", "not used in the lab")
	f.StringVar(&o.limitCPU, "acme-http01-solver-resource-limits-cpu", "100m", "not used in the lab")
	f.StringVar(&o.limitMemory, "acme-http01-solver-resource-limits-memory", "64Mi", "not used in the lab")
	f.BoolVar(&o.solverNonRoot, "acme-http01-solver-run-as-non-root", true, "not used in the lab")
	f.StringSliceVar(&o.dns01Nameservers, "acme-http01-solver-nameservers", nil, "not used in the lab")
	f.StringSliceVar(&o.dns01Nameservers, "dns01-recursive-nameservers", nil, "not used in the lab")
	f.BoolVar(&o.dns01Only, "dns01-recursive-nameservers-only", false, "not used in the lab")
	f.DurationVar(&c.DNS01CheckRetryPeriod, "dns01-check-retry-period", 10*time.Second, "not used in the lab")
	f.BoolVar(&o.profiling, "enable-profiling", false, "not used in the lab")
	f.StringVar(&o.profilerAddress, "profiler-address", "localhost:6060", "not used in the lab")

	if err := f.Parse(arguments); err != nil {
		return nil, err
	}
	if rest := f.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected arguments: %s", strings.Join(rest, " "))
	}
	if o.configFile != "" {
		restore := given(f)
		if err := o.load(); err != nil {
			return nil, err
		}
		if err := restore(); err != nil {
			return nil, err
		}
	}
	if err := feature.DefaultMutableFeatureGate.SetFromMap(o.featureGates); err != nil {
		return nil, fmt.Errorf("reading the feature gates: %w", err)
	}
	return o, logs.ValidateAndApply(o.logging)
}

// given returns what sets the flags of the command line again: they win over the file, which is named by one of them.
func given(flags *pflag.FlagSet) func() error {
	var again []func() error
	flags.Visit(func(flag *pflag.Flag) {
		if slice, ok := flag.Value.(pflag.SliceValue); ok {
			values := slice.GetSlice()
			again = append(again, func() error { return slice.Replace(values) })
			return
		}
		value := flag.Value.String()
		again = append(again, func() error { return flag.Value.Set(value) })
	})
	return func() error {
		for _, set := range again {
			if err := set(); err != nil {
				return err
			}
		}
		return nil
	}
}

// load reads the configuration file as strictly as the upstream program does.
func (o *options) load() error {
	data, err := os.ReadFile(o.configFile)
	if err != nil {
		return fmt.Errorf("reading the configuration file: %w", err)
	}
	file := configapi.ControllerConfiguration{Logging: *o.logging}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return fmt.Errorf("reading the configuration file %s: %w", o.configFile, err)
	}
	if file.APIVersion != "controller.config.cert-manager.io/v1alpha1" || file.Kind != "ControllerConfiguration" {
		return fmt.Errorf("reading the configuration file %s: no kind %q is registered for version %q", o.configFile, file.Kind, file.APIVersion)
	}
	c, leader, shim := &o.context, file.LeaderElectionConfig, file.IngressShimConfig
	set(&c.APIServerHost, file.APIServerHost)
	set(&c.Kubeconfig, file.KubeConfig)
	set(&c.Namespace, file.Namespace)
	set(&c.ClusterResourceNamespace, file.ClusterResourceNamespace)
	set(&c.DefaultIssuerName, shim.DefaultIssuerName)
	set(&c.DefaultIssuerKind, shim.DefaultIssuerKind)
	set(&c.DefaultIssuerGroup, shim.DefaultIssuerGroup)
	set(&o.metricsAddress, file.MetricsListenAddress)
	set(&o.healthzAddress, file.HealthzListenAddress)
	set(&o.leaderNamespace, leader.Namespace)
	setSlice(&c.DefaultAutoCertificateAnnotations, shim.DefaultAutoCertificateAnnotations)
	setSlice(&c.ExtraCertificateAnnotations, shim.ExtraCertificateAnnotations)
	setSlice(&c.CopiedAnnotationPrefixes, file.CopiedAnnotationPrefixes)
	setSlice(&o.controllers, file.Controllers)
	setPointer(&c.KubernetesAPIQPS, file.KubernetesAPIQPS)
	setInt(&c.KubernetesAPIBurst, file.KubernetesAPIBurst)
	setInt(&c.MaxConcurrentChallenges, file.MaxConcurrentChallenges)
	setInt(&o.workers, file.NumberOfConcurrentWorkers)
	setPointer(&c.IssuerAmbientCredentials, file.IssuerAmbientCredentials)
	setPointer(&c.ClusterIssuerAmbientCredentials, file.ClusterIssuerAmbientCredentials)
	setPointer(&c.EnableOwnerRef, file.EnableCertificateOwnerRef)
	setPointer(&c.EnableGatewayAPI, file.EnableGatewayAPI)
	setPointer(&o.leaderElect, leader.Enabled)
	if leader.LeaseDuration != nil {
		o.leaseDuration = leader.LeaseDuration.Duration.Duration
	}
	if leader.RenewDeadline != nil {
		o.renewDeadline = leader.RenewDeadline.Duration.Duration
	}
	if leader.RetryPeriod != nil {
		o.retryPeriod = leader.RetryPeriod.Duration.Duration
	}
	if leader.HealthzTimeout != nil {
		o.healthzTimeout = leader.HealthzTimeout.Duration.Duration
	}
	if len(file.FeatureGates) > 0 {
		o.featureGates = file.FeatureGates
	}
	*o.logging = file.Logging
	return nil
}

// enabled says whether a controller runs: `*` is all, `-name` none of that name.
func (o *options) enabled(name string) bool {
	if name == "gateway-shim" && !o.context.EnableGatewayAPI {
		return false
	}
	all := false
	for _, item := range o.controllers {
		switch item {
		case "-" + name:
			return false
		case name:
			return true
		case "*":
			all = true
		}
	}
	return all
}

func set(target *string, value string) {
	if value != "" {
		*target = value
	}
}

func setSlice(target *[]string, value []string) {
	if len(value) > 0 {
		*target = value
	}
}

func setInt(target *int, value *int32) {
	if value != nil {
		*target = int(*value)
	}
}

func setPointer[T any](target *T, value *T) {
	if value != nil {
		*target = *value
	}
}
