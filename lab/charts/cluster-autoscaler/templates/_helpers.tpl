{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Copyright: (c) 2026, the harvester_rke2.platform authors */}}

{{- define "ca.app" -}}{{ default (printf "%s-%s" .Values.cloudProvider .Chart.Name) .Values.nameOverride | trunc 63 | trimSuffix "-" }}{{- end -}}

{{- define "ca.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if eq .Release.Name (include "ca.app" .) }}{{ .Release.Name }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "ca.app" .) | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "ca.account" -}}
{{- if .Values.rbac.serviceAccount.create }}{{ default (include "ca.name" .) .Values.rbac.serviceAccount.name }}
{{- else }}{{ default "default" .Values.rbac.serviceAccount.name }}{{ end -}}
{{- end -}}

{{- define "ca.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "ca.app" . | quote }}
{{- end -}}

{{- define "ca.meta" -}}
namespace: {{ .Release.Namespace }}
{{ include "ca.labels" . }}
{{- end -}}

{{- define "ca.labels" -}}
labels:
  {{- include "ca.selector" . | nindent 2 }}
  app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
  helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
  {{- with .Values.additionalLabels }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end -}}
