{{/* SPDX-License-Identifier: GPL-3.0-or-later
     Copyright: (c) 2026, the harvester_rke2.platform authors */}}

{{- define "vault.name" -}}vault{{- end -}}

{{- define "vault.fullname" -}}
{{- if contains "vault" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-vault" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "vault.namespace" -}}{{ default .Release.Namespace .Values.global.namespace }}{{- end -}}

{{- define "vault.serviceAccount" -}}
{{- if .Values.server.serviceAccount.create }}{{ default (include "vault.fullname" .) .Values.server.serviceAccount.name }}
{{- else }}{{ default "default" .Values.server.serviceAccount.name }}{{ end -}}
{{- end -}}

{{- define "vault.scheme" -}}{{ ternary "http" "https" .Values.global.tlsDisable }}{{- end -}}

{{- define "vault.selector" -}}
app.kubernetes.io/name: {{ include "vault.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vault.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "vault.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* A value that may be a map, a list or a string with templates in it: (list value root) */}}
{{- define "vault.either" -}}
{{- $value := first . -}}
{{- if kindIs "string" $value }}{{ tpl $value (last .) }}{{ else }}{{ toYaml $value }}{{ end -}}
{{- end -}}

{{/* Whether the server is wanted at all, and whether as this stand-in knows it */}}
{{- define "vault.checked" -}}
{{- $server := .Values.server -}}
{{- $wanted := ternary .Values.global.enabled $server.enabled (eq (toString $server.enabled) "-") -}}
{{- if $wanted }}
{{- if not (and $server.ha.enabled $server.ha.raft.enabled) }}
{{- fail "the lab's stand-in for the vault chart knows only server.ha.enabled with server.ha.raft.enabled" }}
{{- end }}
{{- if not (kindIs "string" $server.ha.raft.config) }}
{{- fail "server.ha.raft.config must be a string" }}
{{- end -}}
true
{{- end }}
{{- if ternary .Values.global.enabled .Values.injector.enabled (eq (toString .Values.injector.enabled) "-") }}
{{- fail "the lab's stand-in for the vault chart has no injector: set injector.enabled to false" }}
{{- end }}
{{- if .Values.csi.enabled }}
{{- fail "the lab's stand-in for the vault chart has no CSI provider: set csi.enabled to false" }}
{{- end }}
{{- end -}}
