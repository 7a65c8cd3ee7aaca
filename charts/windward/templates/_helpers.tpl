{{- define "windward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "windward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "windward.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "windward.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-scoped names also carry the namespace: two releases of one name may live in two namespaces. */}}
{{- define "windward.clusterName" -}}
{{- if eq (include "windward.fullname" .) .Release.Namespace -}}
{{- include "windward.fullname" . -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "windward.fullname" .) | trunc 100 -}}
{{- end -}}
{{- end -}}

{{- define "windward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "windward.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: is required with serviceAccount.create: false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "windward.selectorLabels" -}}
app.kubernetes.io/name: {{ include "windward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the second process: other ones than the operator's, whose Service selects by name and instance. */}}
{{- define "windward.releaseLabels" -}}
app.kubernetes.io/name: {{ include "windward.name" . }}-release
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "windward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "windward.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* An image reference: (list . .Values.image) */}}
{{- define "windward.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What every container of ours is: as restricted as Pod Security asks, and read-only. */}}
{{- define "windward.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "windward.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The second process has an account of its own, with fewer rights. */}}
{{- define "windward.releaseAccountName" -}}
{{- printf "%s-release" (include "windward.fullname" .) -}}
{{- end -}}

{{/* Names of our own accounts, as a list in CEL. */}}
{{- define "windward.accounts" -}}
['system:serviceaccount:{{ .Release.Namespace }}:{{ include "windward.serviceAccountName" . }}'
{{- if .Values.managed.enabled }}, 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "windward.releaseAccountName" . }}'{{ end }}]
{{- end -}}

{{/* The API version of MutatingAdmissionPolicies; empty where they are not wanted, or the server has none. */}}
{{- define "windward.mutatingVersion" -}}
{{- if and .Values.managed.enabled (ne (toString .Values.managed.holdAtCreation) "false") -}}
{{- range $version := list "v1" "v1beta1" -}}
{{- if $.Capabilities.APIVersions.Has (printf "admissionregistration.k8s.io/%s/MutatingAdmissionPolicy" $version) -}}
{{- $version }} {{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Mistakes that a schema cannot see, refused with the fix. */}}
{{- define "windward.checks" -}}
{{- if and .Values.provider.trace.existingConfigMap (ne .Values.provider.name "trace") -}}
{{- fail (printf "provider.trace.existingConfigMap: has no effect with provider.name %s; remove it" .Values.provider.name) -}}
{{- end -}}
{{- if and .Values.managed.enabled (eq (toString .Values.managed.holdAtCreation) "true") (not (include "windward.mutatingVersion" .)) -}}
{{- fail "managed.holdAtCreation: this server has no MutatingAdmissionPolicy; set it to auto, and create managed workloads suspended" -}}
{{- end -}}
{{- if and .Values.admissionPolicy.enabled (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "admissionPolicy.enabled: needs Kubernetes 1.30 and this is %s. Without it, a right to create GreenJobs is a right to create pods; if that is acceptable, set it to false" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
