{{- define "edgefleet.name" -}}
{{- if contains "edgefleet" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-edgefleet" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "edgefleet.labels" -}}
{{ include "edgefleet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "edgefleet.selector" -}}
app.kubernetes.io/name: edgefleet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What cannot work is said before anything is made. */}}
{{- define "edgefleet.check" -}}
{{- if gt (int .Values.server.replicas) 1 }}
{{- if not .Values.database.secret }}{{ fail "several servers need one PostgreSQL: set database.secret" }}{{ end }}
{{- end }}
{{- if .Values.cloudEndpoints.enabled }}
{{- if not .Values.cloudEndpoints.namespaces }}{{ fail "cloudEndpoints.namespaces names no namespace" }}{{ end }}
{{- if has .Release.Namespace .Values.cloudEndpoints.namespaces }}{{ fail "cloudEndpoints.namespaces: whoever may make pods in a namespace can read its Secrets, so it may not be the release's own" }}{{ end }}
{{- end }}
{{- if and .Values.server.tls .Values.ingress.enabled (not .Values.ingress.annotations) }}{{ fail "ingress.annotations: say in your controller's words that the server speaks HTTPS, or set server.tls to false" }}{{ end }}
{{- if and (not .Values.server.tls) (not .Values.ingress.enabled) }}{{ fail "server.tls is off, and no Ingress stands before the server" }}{{ end }}
{{- end }}

{{- define "edgefleet.brokerHost" -}}
{{ .Values.broker.host | default .Values.server.host }}
{{- end }}

{{/* The port of a Service that devices are told: that of its nodes, where one is chosen. */}}
{{- define "edgefleet.told" -}}
{{ ternary .nodePort .port (and (eq .type "NodePort") (gt (int .nodePort) 0)) }}
{{- end }}

{{- define "edgefleet.nodePort" -}}
{{- if and (ne .type "ClusterIP") (gt (int .nodePort) 0) }}, nodePort: {{ .nodePort }}{{ end }}
{{- end }}

{{- define "edgefleet.publicUrl" -}}
{{- $port := ternary 443 (include "edgefleet.told" .Values.server.service | int) .Values.ingress.enabled -}}
https://{{ ternary (printf "[%s]" .Values.server.host) .Values.server.host (contains ":" .Values.server.host) }}{{ if ne $port 443 }}:{{ $port }}{{ end }}
{{- end }}

{{- define "edgefleet.claim" -}}
{{ .Values.persistence.existingClaim | default (printf "%s-data" (include "edgefleet.name" .)) }}
{{- end }}

{{/* What the database and the server's secrets are mounted as. */}}
{{- define "edgefleet.hasSecrets" -}}
{{- if or .Values.database.secret .Values.server.secret }}yes{{ end }}
{{- end }}

{{- define "edgefleet.secretsVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- with .Values.database.secret }}
      - secret:
          name: {{ . }}
          items:
            - key: {{ $.Values.database.key }}
              path: edgefleet_fleet_database
      {{- end }}
      {{- with .Values.server.secret }}
      - secret:
          name: {{ . }}
      {{- end }}
{{- end }}

{{- define "edgefleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10003
runAsGroup: 10003
fsGroup: 10003
# Only where the volume is new: else each start would open the keys to the group.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "edgefleet.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* One node for all that mount a volume which only one node can mount. */}}
{{- define "edgefleet.affinity" -}}
{{- if eq .Values.persistence.accessMode "ReadWriteOnce" }}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "edgefleet.selector" . | nindent 10 }}
          edgefleet/volume: data
{{- else }}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "edgefleet.selector" . | nindent 12 }}
            app.kubernetes.io/component: server
{{- end }}
{{- end }}

{{- define "edgefleet.waiting" -}}
resources:
  requests: {cpu: 10m, memory: 16Mi}
  limits: {cpu: 100m, memory: 64Mi}
securityContext:
  {{- include "edgefleet.confined" . | nindent 2 }}
{{- end }}
