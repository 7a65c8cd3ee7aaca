{{/*
What the operator itself may create, change and end, whatever its role allows: children of its own objects, in namespaces
of users; of a child, or of a managed workload, nothing but `suspend`, `active`, its queue and annotations; and pods of its runs. A fault in it, or a stolen token, reaches no Job of anybody else.
*/}}
{{- define "windward.admissionOfOperator" -}}
{{- $name := printf "%s-operator" (include "windward.clusterName" .) -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [batch]
        apiVersions: ["*"]
        resources: [jobs]
        operations: [CREATE, UPDATE]
      - apiGroups: [jobset.x-k8s.io, trainer.kubeflow.org]
        apiVersions: ["*"]
        resources: [jobsets, trainjobs]
        operations: [CREATE, UPDATE]
      {{- if .Values.managed.enabled }}
      - apiGroups: [kueue.x-k8s.io]
        apiVersions: ["*"]
        resources: [workloads]
        operations: [UPDATE]
      {{- end }}
      - apiGroups: [windward.dev]
        apiVersions: ["*"]
        resources: [greenjobs]
        operations: [CREATE]
      - apiGroups: [""]
        apiVersions: ["*"]
        resources: [pods]
        operations: [DELETE]
  matchConditions:
    - name: the-operator
      expression: >-
        request.userInfo.username in {{ include "windward.accounts" . | replace "\n" " " }}
  variables:
    - name: before
      expression: "oldObject == null ? dyn(object) : dyn(oldObject)"
    - name: managed
      expression: >-
        {{- if .Values.managed.enabled }}
        request.operation == 'UPDATE' && (request.resource.resource == 'workloads' ||
        {{ include "windward.isManaged" "variables.before" }})
        {{- else }}
        false
        {{- end }}
    - name: labelsBefore
      expression: variables.before.metadata.?labels.orValue({})
    - name: labelsAfter
      expression: "object == null ? {} : dyn(object).metadata.?labels.orValue({})"
    - name: ownerKind
      expression: >-
        request.resource.resource in ['jobs', 'jobsets', 'trainjobs'] ? 'GreenJob' :
        request.resource.resource == 'pods' ? 'Job' : 'GreenCronJob'
    - name: ownerGroup
      expression: "request.resource.resource == 'pods' ? 'batch/' : 'windward.dev/'"
  validations:
    - expression: "!(request.namespace in ['kube-system', 'kube-public', 'kube-node-lease'])"
      reason: Forbidden
      messageExpression: "'Windward touches nothing in namespace ' + request.namespace + ': use one of your own'"
    - expression: >-
        variables.managed || variables.before.metadata.?ownerReferences.orValue([]).exists(one, one.?controller.orValue(false) &&
        one.kind == variables.ownerKind && one.apiVersion.startsWith(variables.ownerGroup))
      reason: Forbidden
      messageExpression: "'Windward touches only managed workloads, and children of a ' + variables.ownerKind + ' of its own'"
    - expression: >-
        request.resource.resource != 'pods' || 'windward.dev/job-uid' in variables.before.metadata.?labels.orValue({})
      reason: Forbidden
      message: "Windward ends only pods of its own runs"
    - expression: >-
        request.operation != 'UPDATE' || (
        dyn(object).metadata.?ownerReferences == variables.before.metadata.?ownerReferences &&
        variables.labelsAfter.all(key, key == 'kueue.x-k8s.io/queue-name' ||
        variables.labelsBefore[?key].orValue('') == variables.labelsAfter[key]) &&
        variables.labelsBefore.all(key, key in variables.labelsAfter) &&
        {{- range $field := list "template" "parallelism" "completions" "replicatedJobs" "runtimeRef" "runtimePatches" "trainer" "initializer" "podSets" "queueName" "priority" }}
        dyn(object).spec.?{{ $field }} == variables.before.spec.?{{ $field }}
        {{- if ne $field "priority" }} &&{{ end }}
        {{- end }})
      reason: Forbidden
      message: "Windward changes nothing of a workload but spec.suspend, spec.active, its queue and annotations"
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
