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
        '{{ $path }}.' + (
        {{- range $field := list "template" "jobTemplate" "jobSetTemplate" "trainJobTemplate" "train" }}
        has(variables.work.{{ $field }}) ? '{{ $field }}' :{{ end }} 'infer')
    # What his work is to be run by: he may create it himself, or he may not.
    - name: group
      expression: >-
        has(variables.work.jobSetTemplate) ? 'jobset.x-k8s.io' :
        has(variables.work.trainJobTemplate) ? 'trainer.kubeflow.org' : 'batch'
    - name: resource
      expression: >-
        has(variables.work.jobSetTemplate) ? 'jobsets' : has(variables.work.trainJobTemplate) ? 'trainjobs' : 'jobs'
    # Where its pod templates stand below the field, for the sentences.
    - name: at
      expression: >-
        variables.field + (has(variables.work.jobTemplate) ? '.spec.template' :
        has(variables.work.jobSetTemplate) ? '.spec.replicatedJobs.template.spec.template' :
        has(variables.work.trainJobTemplate) ? '.spec.runtimePatches' : '') + '.spec'
    # The specs of its pods, as lists: a JobSet has several templates, and so has each patch of a TrainJob's runtime.
    - name: pods
      expression: >-
        [has(variables.work.template) ? [variables.work.template.?spec.orValue(dyn({}))] :
        has(variables.work.jobTemplate) ? [variables.work.jobTemplate.?spec.?template.?spec.orValue(dyn({}))] :
        has(variables.work.jobSetTemplate) ? variables.work.jobSetTemplate.?spec.?replicatedJobs.orValue(dyn([])).map(job,
        job.?template.?spec.?template.?spec.orValue(dyn({}))) : dyn([])] +
        (has(variables.work.trainJobTemplate) ? variables.work.trainJobTemplate.?spec.?runtimePatches.orValue(dyn([])).map(patch,
        patch.?trainingRuntimeSpec.?template.?spec.?replicatedJobs.orValue(dyn([])).map(job,
        job.?template.?spec.?template.?spec.orValue(dyn({})))) : dyn([]))
    # `serviceAccount` is the old name of the same field; pods obey it where the new one is empty.
    - name: accounts
      expression: >-
        variables.pods.map(some, some.map(pod, pod.?serviceAccountName.orValue('') != '' ? pod.serviceAccountName :
        pod.?serviceAccount.orValue('')))
    # One account, since each that is asked for costs much of what a policy may cost.
    - name: named
      expression: >-
        variables.accounts.map(some, some.filter(account, !(account in ['', 'default']))).filter(some, some.size() > 0)
    - name: account
      expression: "variables.named.size() > 0 ? variables.named[0][0] : ''"
    {{- if $root.Values.admissionPolicy.restrictTemplates }}
    - name: containers
      expression: >-
        variables.pods.map(some, some.map(pod, pod.?containers.orValue(dyn([])) + pod.?initContainers.orValue(dyn([]))))
    {{- end }}
  validations:
    - expression: >-
        authorizer.group(variables.group).resource(variables.resource).namespace(request.namespace).check('create').allowed()
      reason: Forbidden
      messageExpression: >-
        variables.field + ': user ' + request.userInfo.username + ' may not create ' + variables.resource +
        ' in namespace ' + request.namespace
    - expression: variables.named.all(some, some.all(account, account == variables.account))
      reason: Invalid
      messageExpression: "variables.at + '.serviceAccountName: several are named; use one service account for all pods'"
    # Who may impersonate an account has its rights already: the cluster's role `edit` says so of every namespace.
    - expression: >-
        variables.account == '' ||
        authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(variables.account).check('use').allowed() ||
        authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(variables.account).check('impersonate').allowed()
      reason: Forbidden
      messageExpression: >-
        variables.at + '.serviceAccountName: user ' + request.userInfo.username + ' may not use service account ' +
        variables.account + ' in namespace ' + request.namespace
    {{- if $root.Values.admissionPolicy.restrictTemplates }}
    {{- range $name := list "hostNetwork" "hostPID" "hostIPC" "shareProcessNamespace" }}
    - expression: "variables.pods.all(some, some.all(pod, !pod.?{{ $name }}.orValue(false)))"
      reason: Invalid
      messageExpression: "variables.at + '.{{ $name }}: is not allowed in this cluster; remove it'"
    {{- end }}
    - expression: "variables.pods.all(some, some.all(pod, pod.?ephemeralContainers.orValue([]).size() == 0))"
      reason: Invalid
      messageExpression: "variables.at + '.ephemeralContainers: is not allowed in this cluster; remove it'"
    - expression: "variables.pods.all(some, some.all(pod, pod.?volumes.orValue([]).all(one, !has(one.hostPath))))"
      reason: Invalid
      messageExpression: "variables.at + '.volumes: hostPath is not allowed in this cluster; use a claim'"
    - expression: >-
        variables.containers.all(some, some.all(list, list.all(one, !one.?securityContext.?privileged.orValue(false))))
      reason: Invalid
      messageExpression: "variables.at + '.containers: privileged is not allowed in this cluster; remove it'"
    - expression: >-
        variables.containers.all(some, some.all(list, list.all(one,
        one.?securityContext.?procMount.orValue('Default') == 'Default')))
      reason: Invalid
      messageExpression: "variables.at + '.containers: procMount is not allowed in this cluster; remove it'"
    - expression: >-
        variables.containers.all(some, some.all(list, list.all(one, one.?ports.orValue([]).all(port, port.?hostPort.orValue(0) == 0))))
      reason: Invalid
      messageExpression: "variables.at + '.containers: hostPort is not allowed in this cluster; remove it'"
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
