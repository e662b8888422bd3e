{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Copyright: (c) 2026, the harvester_rke2.platform authors

     Each helper takes (dict "root" $ "part" "" or "webhook" or "cert-controller" "values" the part's values). */}}

{{- define "es.base" -}}
{{- if contains "external-secrets" .root.Release.Name }}{{ .root.Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-external-secrets" .root.Release.Name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "es.name" -}}
{{ include "es.base" . }}{{ with .part }}-{{ . }}{{ end }}
{{- end -}}

{{/* The controller's own account has the plain name, the others' come from their part */}}
{{- define "es.account" -}}
{{- if .values.serviceAccount.create }}{{ default (ternary (include "es.base" .) (printf "external-secrets-%s" .part) (eq .part "")) .values.serviceAccount.name }}
{{- else }}{{ default "default" .values.serviceAccount.name }}{{ end -}}
{{- end -}}

{{- define "es.selector" -}}
app.kubernetes.io/name: external-secrets{{ with .part }}-{{ . }}{{ end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "es.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{ include "es.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
