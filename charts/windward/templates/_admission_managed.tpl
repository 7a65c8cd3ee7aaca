{{/*
What is ours to write on a managed workload is nobody else's: the status that its plan and receipt rest on, and the note
that Windward suspended it, without which what an administrator suspended could be resumed.
*/}}
{{- define "windward.admissionOfManaged" -}}
{{- $name := printf "%s-managed" (include "windward.clusterName" .) -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: {{- include "windward.managedResources" "UPDATE" | nindent 6 }}
  matchConditions:
    - name: not-windward
      expression: "!(request.userInfo.username in {{ include "windward.accounts" . | replace "\n" " " }})"
  variables:
    - name: before
      expression: dyn(oldObject).metadata.?annotations.orValue({})
    - name: after
      expression: dyn(object).metadata.?annotations.orValue({})
  validations:
    {{- range $word := list "status" "held-at" }}
    - expression: >-
        variables.after[?'windward.dev/{{ $word }}'].orValue('') == variables.before[?'windward.dev/{{ $word }}'].orValue('')
      reason: Forbidden
      message: "metadata.annotations: windward.dev/{{ $word }} is written by Windward alone: leave it as it is"
    {{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" . | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
{{- end -}}

{{- define "windward.managedResources" -}}
{{- range $group, $resource := dict "batch" "jobs" "jobset.x-k8s.io" "jobsets" "trainer.kubeflow.org" "trainjobs" }}
- apiGroups: [{{ $group }}]
  apiVersions: ["*"]
  resources: [{{ $resource }}]
  operations: [{{ $ }}]
{{- end }}
{{- end -}}

{{/* Whether an object, in CEL, is a managed workload: (dict "object" "object"). */}}
{{- define "windward.isManaged" -}}
dyn({{ . }}).metadata.?labels[?'windward.dev/managed'].orValue(namespaceObject.metadata.?labels[?'windward.dev/managed'].orValue('')) == 'true'
{{- end -}}

{{/*
Holds a managed workload from its creation on: suspended; gated where it names a queue, since there `suspend` is Kueue's.
(dict "root" . "version" "v1beta1")
*/}}
{{- define "windward.holdAtCreation" -}}
{{- $name := printf "%s-hold" (include "windward.clusterName" .root) -}}
apiVersion: admissionregistration.k8s.io/{{ .version }}
kind: MutatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" .root | nindent 4 }}
spec:
  # What cannot be held starts at once, as it would without Windward.
  failurePolicy: Ignore
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: {{- include "windward.managedResources" "CREATE" | nindent 6 }}
  matchConditions:
    - name: managed
      expression: {{ include "windward.isManaged" "object" | quote }}
    - name: stands-alone
      expression: >-
        !dyn(object).metadata.?ownerReferences.orValue([]).exists(one, one.?controller.orValue(false) &&
        one.kind in ['GreenJob', 'Job', 'JobSet', 'TrainJob'])
  variables:
    - name: queued
      expression: "dyn(object).metadata.?labels[?'kueue.x-k8s.io/queue-name'].orValue('') != ''"
    - name: gates
      expression: "dyn(object).metadata.?annotations[?'kueue.x-k8s.io/admission-gated-by'].orValue('')"
    - name: gated
      expression: >-
        variables.gates.contains('windward.dev/greenjob') ? variables.gates :
        variables.gates == '' ? 'windward.dev/greenjob' : variables.gates + ',windward.dev/greenjob'
  mutations:
    - patchType: ApplyConfiguration
      applyConfiguration:
        expression: >-
          variables.queued
          ? Object{metadata: Object.metadata{annotations: {'kueue.x-k8s.io/admission-gated-by': variables.gated}}}
          : Object{spec: Object.spec{suspend: true}}
---
apiVersion: admissionregistration.k8s.io/{{ .version }}
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" .root | nindent 4 }}
spec:
  policyName: {{ $name }}
{{- end -}}
