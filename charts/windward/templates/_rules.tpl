{{/* What the operator may do in a namespace it serves. Nothing is added here without a reason in the change. */}}
{{- define "windward.jobRules" -}}
# Jobs of its own kind: GreenCronJobs create them, and what is over is deleted after its time. Specs are never changed.
- apiGroups: [windward.dev]
  resources: [greenjobs]
  verbs: [create, delete, list, watch]
- apiGroups: [windward.dev]
  resources: [greencronjobs]
  verbs: [list, watch]
- apiGroups: [windward.dev]
  resources: [greenjobs/status, greencronjobs/status]
  verbs: [patch]
# Rules on jobs, and to delete pods, are what the engines declare (operator/windward/cluster/engines); a test compares.
# One child for each run; changed only to note that it is paused, or to keep it from starting. The garbage collector
# deletes.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, patch]
# The same of GreenJobs whose runs are groups of pods.
- apiGroups: [jobset.x-k8s.io]
  resources: [jobsets]
  verbs: [create, get, list, patch]
- apiGroups: [trainer.kubeflow.org]
  resources: [trainjobs]
  verbs: [create, get, list, patch]
# Pods tell how a run went; they are the Job's to make. A run is paused by ending its pod, so that its Job counts how it
# ended; an admission policy keeps this to pods of runs.
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- if .Values.managed.enabled }}
{{ include "windward.managedRules" . }}
# Which quota a region's queue leads to.
- apiGroups: [kueue.x-k8s.io]
  resources: [localqueues]
  verbs: [list]
{{- end }}
{{- end -}}

{{/* What both processes need for managed workloads; an admission policy keeps it to `suspend`, `active` and annotations. */}}
{{- define "windward.managedRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, patch, watch]
- apiGroups: [jobset.x-k8s.io]
  resources: [jobsets]
  verbs: [get, list, patch, watch]
- apiGroups: [trainer.kubeflow.org]
  resources: [trainjobs]
  verbs: [get, list, patch, watch]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, patch]
# A namespace's label and annotations speak for all that is in it.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [{{ ternary "get, list" "get" (empty .Values.scope.namespaces) }}]
{{- end -}}

{{- define "windward.regionRules" -}}
- apiGroups: [windward.dev]
  resources: [greenregions]
  verbs: [list, watch]
- apiGroups: [windward.dev]
  resources: [greenregions/status]
  verbs: [patch]
{{- if .Values.managed.enabled }}
# Quotas bound what is planned in a region that has a queue.
- apiGroups: [kueue.x-k8s.io]
  resources: [clusterqueues]
  verbs: [list]
{{- end }}
{{- end -}}

{{- define "windward.subject" -}}
- kind: ServiceAccount
  name: {{ include "windward.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- define "windward.releaseSubject" -}}
- kind: ServiceAccount
  name: {{ include "windward.releaseAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
