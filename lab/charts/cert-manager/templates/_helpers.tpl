{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Copyright: (c) 2026, the harvester_rke2.platform authors

     Each helper takes (dict "root" $ "part" "controller|webhook|cainjector"). */}}

{{- define "cm.base" -}}
{{- if contains "cert-manager" .root.Release.Name }}{{ .root.Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-cert-manager" .root.Release.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "cm.name" -}}
{{ include "cm.base" . }}{{ if ne .part "controller" }}-{{ .part }}{{ end }}
{{- end -}}

{{- define "cm.namespace" -}}{{ default .root.Release.Namespace .root.Values.namespace }}{{- end -}}

{{- define "cm.app" -}}
{{ if eq .part "controller" }}cert-manager{{ else }}{{ .part }}{{ end }}
{{- end -}}

{{- define "cm.selector" -}}
app.kubernetes.io/name: {{ include "cm.app" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part | quote }}
{{- end -}}

{{- define "cm.labels" -}}
app: {{ include "cm.app" . }}
{{ include "cm.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pod's common part; `values` are those of the part */}}
{{- define "cm.pod" -}}
serviceAccountName: {{ include "cm.name" . }}
enableServiceLinks: {{ .values.enableServiceLinks }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.global.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
securityContext:
  {{- toYaml .values.securityContext | nindent 2 }}
{{- $nodes := merge dict (default dict .values.nodeSelector) (default dict .root.Values.global.nodeSelector) }}
{{- with $nodes }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "cm.scraped" -}}
{{- $p := .Values.prometheus -}}
{{- if and $p.enabled (not (or $p.servicemonitor.enabled $p.podmonitor.enabled)) }}true{{ end -}}
{{- end -}}
