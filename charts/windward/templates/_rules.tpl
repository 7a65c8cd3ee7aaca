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
# Pods tell how a run went; they are the Job's to make. A run is paused by ending its pod, so that its Job counts how it
# ended; an admission policy keeps this to pods of runs.
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- define "windward.regionRules" -}}
- apiGroups: [windward.dev]
  resources: [greenregions]
  verbs: [list, watch]
- apiGroups: [windward.dev]
  resources: [greenregions/status]
  verbs: [patch]
{{- end -}}

{{- define "windward.subject" -}}
- kind: ServiceAccount
  name: {{ include "windward.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
