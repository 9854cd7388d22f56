{{- define "hubbub.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The name of everything: the release's, with the chart's unless it is in it. Short enough for a pod's hash. */}}
{{- define "hubbub.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "hubbub.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "hubbub.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "hubbub.selector" -}}
app.kubernetes.io/name: {{ include "hubbub.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hubbub.labels" -}}
{{ include "hubbub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "hubbub.image" -}}
{{- $repository := required "image.repository is not given; build deploy/Dockerfile, push it, and write where: --set image.repository=registry.example.com/hubbub" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "hubbub.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "hubbub.fullname" .) -}}
{{- end }}

{{/* The Secrets: one that is there, or one made of values; never both, and never one made up. */}}
{{- define "hubbub.iamSecret" -}}
{{- if and .Values.iam.existingSecret .Values.iam.file -}}
{{- fail "iam.existingSecret and iam.file are both given; keep one of them" -}}
{{- else if .Values.iam.existingSecret -}}
{{ .Values.iam.existingSecret }}
{{- else if .Values.iam.file -}}
{{ include "hubbub.fullname" . }}-iam
{{- else -}}
{{- fail "iam is not given, and nobody could call the API; make iam.yaml with `hubbub key make`, then --set-file iam.file=iam.yaml, or iam.existingSecret with the name of a Secret that has the key iam.yaml" -}}
{{- end -}}
{{- end }}

{{- define "hubbub.clusterSecret" -}}
{{- $secret := .Values.cluster.secret -}}
{{- if and $secret.existingSecret $secret.value -}}
{{- fail "cluster.secret.existingSecret and cluster.secret.value are both given; keep one of them" -}}
{{- else if $secret.existingSecret -}}
{{ $secret.existingSecret }}
{{- else if $secret.value -}}
{{- if lt (len (trim $secret.value)) 32 -}}
{{- fail "cluster.secret.value is shorter than 32 characters; make one with `openssl rand -hex 32`" -}}
{{- end -}}
{{ include "hubbub.fullname" . }}-cluster
{{- else -}}
{{- fail "cluster.secret is not given; make one with `openssl rand -hex 32 > cluster.secret`, then --set-file cluster.secret.value=cluster.secret, or cluster.secret.existingSecret with the name of a Secret that has the key `secret`" -}}
{{- end -}}
{{- end }}

{{/* "" = TLS ends in front. */}}
{{- define "hubbub.tlsSecret" -}}
{{- $tls := .Values.tls -}}
{{- if and $tls.existingSecret (or $tls.cert $tls.key) -}}
{{- fail "tls.existingSecret is given, and tls.cert or tls.key too; keep the Secret or the pair" -}}
{{- else if $tls.existingSecret -}}
{{ $tls.existingSecret }}
{{- else if and $tls.cert $tls.key -}}
{{ include "hubbub.fullname" . }}-tls
{{- else if or $tls.cert $tls.key -}}
{{- fail "of tls.cert and tls.key one is missing; give both" -}}
{{- else if not .Values.trustedProxies -}}
{{- fail "neither tls nor trustedProxies is given, and tokens and messages would go over the network in the clear; give tls.existingSecret, or trustedProxies with the addresses of the proxy that ends TLS in front, for example [10.0.0.0/8]" -}}
{{- end -}}
{{- end }}

{{/* hubbub.yaml: what the chart decides, and .Values.config. */}}
{{- define "hubbub.config" -}}
{{- $name := include "hubbub.fullname" . -}}
{{- $host := .Values.listenHost -}}
{{- $peers := list -}}
{{- range $i := until (int .Values.replicas) -}}
{{- $peers = append $peers (printf "%s-%d.%s-nodes:4883" $name $i $name) -}}
{{- end -}}
{{- if not .Values.region -}}
{{- fail "region is not given; write --set region=us-west-2, or a list of regions that requests may be signed for" -}}
{{- end -}}
{{- $config := dict
  "api" (printf "%s:4880" $host)
  "messaging" (printf "%s:4881" $host)
  "admin" (printf "%s:4882" $host)
  "data" "/var/lib/hubbub/data"
  "region" .Values.region
  "iam" "iam.yaml"
  "drain" (printf "%ds" (int .Values.drainSeconds))
  "cluster" (dict
    "name" .Values.cluster.name
    "listen" (printf "%s:4883" $host)
    "peers" $peers
    "secret_file" "cluster.secret")
-}}
{{- if include "hubbub.tlsSecret" . -}}
{{- $_ := set $config "tls" (dict "cert" "tls.crt" "key" "tls.key") -}}
{{- end -}}
{{- if .Values.trustedProxies -}}
{{- $_ := set $config "trusted_proxies" .Values.trustedProxies -}}
{{- end -}}
{{- range $key, $value := .Values.config -}}
{{- if or (hasKey $config $key) (has $key (list "tls" "trusted_proxies" "allow_remote")) -}}
{{- fail (printf "config.%s is decided by the chart; remove it, and look in values.yaml for what to set instead" $key) -}}
{{- end -}}
{{- $_ := set $config $key $value -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}
