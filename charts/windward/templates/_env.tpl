{{/* The operator's settings: one environment variable each. */}}
{{- define "windward.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: WINDWARD_DATABASE_URL
  {{- if .Values.database.existingSecret }}
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}}
  {{- else }}
  value: sqlite:////data/book.db
  {{- end }}
- {name: WINDWARD_MODE, value: {{ .Values.mode | quote }}}
- {name: WINDWARD_PROVIDER, value: {{ .Values.provider.name | quote }}}
{{- if .Values.provider.trace.existingConfigMap }}
- {name: WINDWARD_TRACE_FILE, value: /trace/trace.csv}
{{- end }}
- {name: WINDWARD_WORKER_IMAGE, value: {{ include "windward.image" (list . .Values.worker.image) | quote }}}
- {name: WINDWARD_WORKER_IMAGE_PULL_POLICY, value: {{ .Values.worker.image.pullPolicy | quote }}}
- {name: WINDWARD_STORAGE_CLAIM, value: {{ .Values.worker.storageClaim | quote }}}
- {name: WINDWARD_RESYNC_SECONDS, value: {{ .Values.intervals.resync | int | quote }}}
- {name: WINDWARD_FORECAST_SECONDS, value: {{ .Values.intervals.forecast | int | quote }}}
- {name: WINDWARD_NAMESPACES, value: {{ join "," .Values.scope.namespaces | quote }}}
- {name: WINDWARD_MANAGED, value: {{ .Values.managed.enabled | quote }}}
- {name: WINDWARD_MANAGED_DEFAULTS, value: {{ .Values.managed.defaults | toJson | quote }}}
- {name: WINDWARD_LOG_LEVEL, value: {{ upper .Values.logLevel | quote }}}
- {name: WINDWARD_HTTP_PORT, value: "8080"}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
