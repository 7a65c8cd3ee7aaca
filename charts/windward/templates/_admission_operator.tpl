{{/*
What the operator itself may create, change and end, whatever its role allows: children of its own objects, in namespaces
of users; of a child nothing but `suspend` and annotations; and pods of its runs. A fault in it, or a stolen token, reaches no Job of anybody else.
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
        request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "windward.serviceAccountName" . }}'
  variables:
    - name: before
      expression: "oldObject == null ? dyn(object) : dyn(oldObject)"
    - name: ownerKind
      expression: >-
        request.resource.resource == 'jobs' ? 'GreenJob' : request.resource.resource == 'pods' ? 'Job' : 'GreenCronJob'
    - name: ownerGroup
      expression: "request.resource.resource == 'pods' ? 'batch/' : 'windward.dev/'"
  validations:
    - expression: "!(request.namespace in ['kube-system', 'kube-public', 'kube-node-lease'])"
      reason: Forbidden
      messageExpression: "'Windward touches nothing in namespace ' + request.namespace + ': use one of your own'"
    - expression: >-
        variables.before.metadata.?ownerReferences.orValue([]).exists(one, one.?controller.orValue(false) &&
        one.kind == variables.ownerKind && one.apiVersion.startsWith(variables.ownerGroup))
      reason: Forbidden
      messageExpression: "'Windward touches only children of a ' + variables.ownerKind + ' of its own'"
    - expression: >-
        request.resource.resource != 'pods' || 'windward.dev/job-uid' in variables.before.metadata.?labels.orValue({})
      reason: Forbidden
      message: "Windward ends only pods of its own runs"
    - expression: >-
        request.operation != 'UPDATE' || (object.spec.template == oldObject.spec.template &&
        object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences &&
        object.metadata.?labels == oldObject.metadata.?labels)
      reason: Forbidden
      message: "Windward changes nothing of a Job but spec.suspend and annotations"
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
