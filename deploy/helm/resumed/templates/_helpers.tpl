{{- define "resumed.name" -}}
{{- if contains "resumed" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-resumed{{ end }}
{{- end }}

{{- define "resumed.selector" -}}
app.kubernetes.io/name: resumed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: resumed-daemon
{{- end }}

{{- define "resumed.labels" -}}
app.kubernetes.io/name: resumed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The pod of the daemon, of a burst and of a migration alike; call with root, key, command and container. */}}
{{- define "resumed.pod" -}}
# A Service named resumed would inject RESUMED_PORT and others, which are not settings.
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ add .root.Values.shutdownGraceSeconds 20 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: {{ .container }}
    image: {{ printf "%s:%s" .root.Values.image.repository .root.Values.image.tag | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: {{ toJson .command }}
    {{- with .root.Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    env:
      - name: RESUMED_DATABASE_URL
        valueFrom:
          secretKeyRef:
            name: {{ .root.Values.database.secret }}
            key: {{ .key }}
      - name: RESUMED_SHUTDOWN_GRACE
        value: {{ printf "%ds" (int .root.Values.shutdownGraceSeconds) }}
      {{- range $name, $value := .root.Values.settings }}
      - name: {{ $name }}
        value: {{ $value | toString | quote }}
      {{- end }}
    resources:
      {{- toYaml .root.Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: ["ALL"]
    volumeMounts:
      - name: tmp
        mountPath: /tmp
    {{- with .probes }}
    {{- . | nindent 4 }}
    {{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "resumed.probes" -}}
ports:
  - name: metrics
    containerPort: 9764
# Loading the workflows may take a while on a busy node; the other probes wait for it.
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# These pods receive no traffic; the probe delays a rollout until the new version's workers are ready.
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
