{{/* Labels by which the operator's pods are found; never changed. */}}
{{- define "evergraft.selector" -}}
app.kubernetes.io/name: evergraft
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of everything that has to do with this release. */}}
{{- define "evergraft.release" -}}
app.kubernetes.io/part-of: evergraft
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of the operator's objects. */}}
{{- define "evergraft.labels" -}}
{{ include "evergraft.selector" . }}
{{ include "evergraft.release" . }}
{{- end }}

{{/* The operator's account, in quotes, as all names of others' choice: YAML takes 1234 and no for something else. */}}
{{- define "evergraft.serviceAccount" -}}
{{- .Values.serviceAccount.name | default "evergraft-operator" | quote }}
{{- end }}

{{/*
An image's whole name: (list root image suffix). global.imageRegistry goes before a repository whose first part is no
host: it has neither a dot nor a colon, and is not localhost.
*/}}
{{- define "evergraft.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}{{ $suffix := index . 2 }}
{{- $first := splitList "/" $image.repository | first }}
{{- $hosted := and (contains "/" $image.repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}
{{- if and $root.Values.global.imageRegistry (not $hosted) }}{{ trimSuffix "/" $root.Values.global.imageRegistry }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (print $root.Chart.AppVersion $suffix) }}{{ end }}
{{- end }}

{{/* What the operator may do in a namespace it watches. */}}
{{- define "evergraft.rules" -}}
- apiGroups: [evergraft.dev]
  resources: [tasks, modulegraphs]
  verbs: [get, list, watch]
# The finalizer of a Task whose deletionPolicy is Delete; the operator never writes a spec.
- apiGroups: [evergraft.dev]
  resources: [tasks]
  verbs: [patch]
- apiGroups: [evergraft.dev]
  resources: [tasks/status, modulegraphs/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion, where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [evergraft.dev]
  resources: [tasks/finalizers, modulegraphs/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
{{- if .Values.kueue.enabled }}
# Why a queue holds a Job back.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get, list]
{{- end }}
{{- end }}

{{/* Ports of a NetworkPolicy, over TCP, as a flow list's content. */}}
{{- define "evergraft.ports" -}}
{{- range $index, $port := . }}{{ if $index }}, {{ end }}{protocol: TCP, port: {{ $port }}}{{ end }}
{{- end }}
