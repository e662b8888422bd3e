{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Copyright: (c) 2026, the harvester_rke2.platform authors

     Each helper takes (dict "root" $ "part" "" or "webhook" or "cert-controller" "values" the part's values). */}}

{{- define "mariadb.base" -}}
{{- if .root.Values.fullnameOverride }}{{ .root.Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (default .root.Chart.Name .root.Values.nameOverride) .root.Release.Name }}{{ .root.Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .root.Release.Name (default .root.Chart.Name .root.Values.nameOverride) | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "mariadb.name" -}}
{{ include "mariadb.base" . }}{{ with .part }}-{{ . }}{{ end }}
{{- end -}}

{{- define "mariadb.account" -}}
{{- if .values.serviceAccount.enabled }}{{ default (include "mariadb.name" .) .values.serviceAccount.name }}
{{- else }}{{ default "default" .values.serviceAccount.name }}{{ end -}}
{{- end -}}

{{- define "mariadb.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}{{ with .part }}-{{ . }}{{ end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "mariadb.meta" -}}
namespace: {{ .root.Release.Namespace }}
{{ include "mariadb.labels" . }}
{{- end -}}

{{- define "mariadb.labels" -}}
labels:
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
  {{- include "mariadb.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
