{{/*
One policy and its binding: (dict "root" . "resource" "greenjobs" "path" "spec"), where `path` leads to a GreenJob's spec.
The author is asked for by `authorizer`, which answers as if he had tried to do it himself.
*/}}
{{- define "windward.admission" -}}
{{- $root := .root -}}
{{- $path := .path -}}
{{- $name := printf "%s-%s" (include "windward.clusterName" $root) .resource -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" $root | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [windward.dev]
        apiVersions: ["*"]
        resources: [{{ .resource }}]
        operations: [CREATE, UPDATE]
  matchConditions:
    # What it creates was asked for by somebody who was judged then.
    - name: not-the-operator
      expression: >-
        request.userInfo.username != 'system:serviceaccount:{{ $root.Release.Namespace }}:{{ include "windward.serviceAccountName" $root }}'
    # Labels and finalizers are changed by controllers that may create nothing.
    - name: spec-is-new
      expression: oldObject == null || !has(oldObject.spec) || object.spec != oldObject.spec
  variables:
    - name: work
      expression: dyn(object.{{ $path }})
    - name: field
      expression: >-
        '{{ $path }}.' + (has(variables.work.template) ? 'template' : has(variables.work.train) ? 'train' : 'infer')
    - name: pod
      expression: "has(variables.work.template) ? variables.work.template.?spec.orValue(dyn({})) : dyn({})"
    # `serviceAccount` is the old name of the same field; pods obey it where the new one is empty.
    - name: account
      expression: >-
        variables.pod.?serviceAccountName.orValue('') != '' ? variables.pod.serviceAccountName :
        variables.pod.?serviceAccount.orValue('')
    {{- if $root.Values.admissionPolicy.restrictTemplates }}
    - name: containers
      expression: "variables.pod.?containers.orValue([]) + variables.pod.?initContainers.orValue([])"
    {{- end }}
  validations:
    - expression: authorizer.group('batch').resource('jobs').namespace(request.namespace).check('create').allowed()
      reason: Forbidden
      messageExpression: >-
        variables.field + ': user ' + request.userInfo.username + ' may not create jobs in namespace ' + request.namespace
    # Who may impersonate an account has its rights already: the cluster's role `edit` says so of every namespace.
    - expression: >-
        variables.account in ['', 'default'] ||
        authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(variables.account).check('use').allowed() ||
        authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(variables.account).check('impersonate').allowed()
      reason: Forbidden
      messageExpression: >-
        variables.field + '.spec.serviceAccountName: user ' + request.userInfo.username + ' may not use service account ' +
        variables.account + ' in namespace ' + request.namespace
    {{- if $root.Values.admissionPolicy.restrictTemplates }}
    {{- range $name := list "hostNetwork" "hostPID" "hostIPC" "shareProcessNamespace" }}
    - expression: "!variables.pod.?{{ $name }}.orValue(false)"
      reason: Invalid
      messageExpression: "variables.field + '.spec.{{ $name }}: is not allowed in this cluster; remove it'"
    {{- end }}
    - expression: variables.pod.?ephemeralContainers.orValue([]).size() == 0
      reason: Invalid
      messageExpression: "variables.field + '.spec.ephemeralContainers: is not allowed in this cluster; remove it'"
    - expression: variables.pod.?volumes.orValue([]).all(one, !has(one.hostPath))
      reason: Invalid
      messageExpression: "variables.field + '.spec.volumes: hostPath is not allowed in this cluster; use a claim'"
    - expression: variables.containers.all(one, !one.?securityContext.?privileged.orValue(false))
      reason: Invalid
      messageExpression: "variables.field + '.spec.containers: privileged is not allowed in this cluster; remove it'"
    - expression: variables.containers.all(one, one.?securityContext.?procMount.orValue('Default') == 'Default')
      reason: Invalid
      messageExpression: "variables.field + '.spec.containers: procMount is not allowed in this cluster; remove it'"
    - expression: variables.containers.all(one, one.?ports.orValue([]).all(port, port.?hostPort.orValue(0) == 0))
      reason: Invalid
      messageExpression: "variables.field + '.spec.containers: hostPort is not allowed in this cluster; remove it'"
    {{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels: {{- include "windward.labels" $root | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
{{- end -}}
