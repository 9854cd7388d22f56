package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	decoder "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const chart = "helm/hubbub"

// release is what a release of the chart puts into a cluster.
type release struct {
	set       apps.StatefulSet
	config    core.ConfigMap
	secrets   map[string]core.Secret
	services  map[string]core.Service
	account   *core.ServiceAccount
	budget    *policy.PodDisruptionBudget
	network   *networking.NetworkPolicy
	monitored *serviceMonitor
	notes     string
}

// serviceMonitor is what the chart uses of the Prometheus operator's.
type serviceMonitor struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		Selector  meta.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// values are those of some documents, each winning over the ones before.
func values(t *testing.T, documents ...string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, d := range documents {
		v, err := loader.LoadValues(strings.NewReader(d))
		must(t, err)
		all = loader.MergeMaps(all, v)
	}
	return all
}

// render makes the release `hubbub` in the namespace `chat`, of which every
// document must be what its kind has, without a key that it has not.
func render(t *testing.T, v map[string]any) (release, error) {
	t.Helper()
	c, err := loader.Load(chart)
	must(t, err)
	in, err := util.ToRenderValues(c, v, common.ReleaseOptions{Name: "hubbub", Namespace: "chat", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return release{}, err
	}
	files, err := engine.Render(c, in)
	if err != nil {
		return release{}, err
	}
	r := release{secrets: map[string]core.Secret{}, services: map[string]core.Service{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Base(name) == "NOTES.txt" {
			r.notes = files[name]
			continue
		}
		documents := decoder.NewYAMLReader(bufio.NewReader(strings.NewReader(files[name])))
		for {
			d, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if len(bytes.TrimSpace(d)) > 0 {
				r.add(t, name, d)
			}
		}
	}
	return r, nil
}

func (r *release) add(t *testing.T, file string, document []byte) {
	t.Helper()
	strict := func(into any) {
		if err := yaml.UnmarshalStrict(document, into); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, document)
		}
	}
	var kind meta.TypeMeta
	must(t, yaml.Unmarshal(document, &kind))
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 StatefulSet":
		strict(&r.set)
	case "v1 ConfigMap":
		strict(&r.config)
	case "v1 Secret":
		var s core.Secret
		strict(&s)
		r.secrets[s.Name] = s
	case "v1 Service":
		var s core.Service
		strict(&s)
		r.services[s.Name] = s
	case "v1 ServiceAccount":
		strict(&r.account)
	case "policy/v1 PodDisruptionBudget":
		strict(&r.budget)
	case "networking.k8s.io/v1 NetworkPolicy":
		strict(&r.network)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		strict(&r.monitored)
	default:
		t.Fatalf("%s: %s %s is not expected", file, kind.APIVersion, kind.Kind)
	}
}

var variants = []string{"testdata/existing.yaml", "testdata/made.yaml", "testdata/everything.yaml"}

func TestTheChartIsLinted(t *testing.T) {
	for _, file := range variants {
		for _, m := range lint.RunAll(chart, values(t, read(t, file)), "chat").Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", file, m)
			}
		}
	}
}

// TestTheChartHoldsWhateverIsSet is what must be so with all values.
func TestTheChartHoldsWhateverIsSet(t *testing.T) {
	for _, file := range variants {
		t.Run(filepath.Base(file), func(t *testing.T) {
			v := values(t, read(t, file))
			r, err := render(t, v)
			if err != nil {
				t.Fatal(err)
			}
			spec := r.set.Spec
			pod := spec.Template.Spec
			c := pod.Containers[0]
			same(t, "the labels of pods that are the set's", spec.Selector.MatchLabels, subset(spec.Template.Labels, spec.Selector.MatchLabels))

			// None is ready without a majority, and so none may wait for another.
			same(t, "podManagementPolicy", spec.PodManagementPolicy, apps.ParallelPodManagement)
			same(t, "updateStrategy", spec.UpdateStrategy.Type, apps.RollingUpdateStatefulSetStrategyType)
			nodes := r.services[spec.ServiceName]
			same(t, "clusterIP of the nodes' service", nodes.Spec.ClusterIP, "None")
			same(t, "publishNotReadyAddresses", nodes.Spec.PublishNotReadyAddresses, true)

			// Who is asked, and where.
			ports := map[string]int32{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			same(t, "ports", ports, map[string]int32{"api": 4880, "messaging": 4881, "admin": 4882, "cluster": 4883})
			for probe, want := range map[*core.Probe]string{c.StartupProbe: "/healthz", c.LivenessProbe: "/healthz", c.ReadinessProbe: "/readyz"} {
				same(t, "a probe", probe.HTTPGet.Path+" of "+probe.HTTPGet.Port.String(), want+" of admin")
			}
			for _, plane := range []string{"api", "messaging"} {
				s := r.services[r.set.Name+"-"+plane]
				same(t, "targetPort of "+plane, s.Spec.Ports[0].TargetPort.String(), plane)
				same(t, "selector of "+plane, s.Spec.Selector, spec.Selector.MatchLabels)
				same(t, "publishNotReadyAddresses of "+plane, s.Spec.PublishNotReadyAddresses, false)
			}

			// The end of a pod.
			drain := time.Duration(number(v, "drainSeconds", 5)) * time.Second
			wait := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
			if least := wait + drain + stopDeadline(t); wait < time.Second || grace < least {
				t.Errorf("the grace period is %v; to leave the services and the steps of the stop may take %v", grace, least)
			}

			// What a pod may do.
			for what, got := range map[string]*bool{
				"runAsNonRoot": pod.SecurityContext.RunAsNonRoot, "readOnlyRootFilesystem": c.SecurityContext.ReadOnlyRootFilesystem,
				"no escalation": not(c.SecurityContext.AllowPrivilegeEscalation), "no token": not(pod.AutomountServiceAccountToken),
				"no variables of services": not(pod.EnableServiceLinks),
			} {
				if got == nil || !*got {
					t.Errorf("%s is not so", what)
				}
			}
			same(t, "capabilities", *c.SecurityContext.Capabilities, core.Capabilities{Drop: []core.Capability{"ALL"}})
			same(t, "seccompProfile", pod.SecurityContext.SeccompProfile.Type, core.SeccompProfileTypeRuntimeDefault)
			same(t, "the user", *pod.SecurityContext.RunAsUser, 10001) // as in the Dockerfile

			// Its files: what the image does not have must come from somewhere.
			mounts := map[string]string{}
			for _, m := range c.VolumeMounts {
				mounts[m.MountPath] = m.Name
			}
			same(t, "mounts", mounts, map[string]string{"/etc/hubbub": "etc", "/var/lib/hubbub": "data"})
			same(t, "the mode of secrets", *pod.Volumes[0].Projected.DefaultMode, 0o440)
			same(t, "what is claimed", spec.VolumeClaimTemplates[0].Name, "data")
			r.configAccepted(t)
			for _, problem := range r.missing(v) {
				t.Error(problem)
			}
			if !strings.Contains(r.notes, r.set.Name+"-api.chat.svc") || strings.Contains(r.notes, "<no value>") {
				t.Errorf("the notes are\n%s", r.notes)
			}
		})
	}
}

// configAccepted asks the server for its opinion on hubbub.yaml, as each pod has it.
func (r *release) configAccepted(t *testing.T) {
	t.Helper()
	config := r.config.Data["hubbub.yaml"]
	var read struct {
		Data    string `json:"data"`
		Cluster struct {
			Peers []string `json:"peers"`
		} `json:"cluster"`
	}
	must(t, yaml.Unmarshal([]byte(config), &read))
	same(t, "data", read.Data, "/var/lib/hubbub/data") // below the mount: a volume may have lost+found
	for i := range *r.set.Spec.Replicas {
		env := map[string]string{}
		for _, e := range r.set.Spec.Template.Spec.Containers[0].Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.name" {
				e.Value = fmt.Sprintf("%s-%d", r.set.Name, i)
			}
			env[e.Name] = strings.ReplaceAll(e.Value, "$(HUBBUB_CLUSTER_NODE)", env["HUBBUB_CLUSTER_NODE"])
		}
		if len(read.Cluster.Peers) <= int(i) {
			t.Fatalf("%d nodes have the peers %q", *r.set.Spec.Replicas, read.Cluster.Peers)
		}
		same(t, "the node", env["HUBBUB_CLUSTER_NODE"], fmt.Sprintf("%s-%d", r.set.Name, i))
		same(t, "what it advertises", env["HUBBUB_CLUSTER_ADVERTISE"], read.Cluster.Peers[i])
		same(t, "the name of the pod among its peers", read.Cluster.Peers[i], fmt.Sprintf("%s-%d.%s:4883", r.set.Name, i, r.set.Spec.ServiceName))
		configured(t, config, []string{"HUBBUB_CLUSTER_NODE=" + env["HUBBUB_CLUSTER_NODE"], "HUBBUB_CLUSTER_ADVERTISE=" + env["HUBBUB_CLUSTER_ADVERTISE"]})
	}
}

// missing says which files that hubbub.yaml names no Secret has.
func (r *release) missing(v map[string]any) (problems []string) {
	// What is there before the release, by the names that the values have.
	there := map[string][]string{"chat-iam": {"iam.yaml"}, "chat-cluster": {"secret"}, "chat-tls": {"tls.crt", "tls.key"}}
	for name, s := range r.secrets {
		there[name] = slices.Collect(maps.Keys(s.StringData))
	}
	there[r.config.Name] = slices.Collect(maps.Keys(r.config.Data))
	files := map[string]bool{}
	for _, volume := range r.set.Spec.Template.Spec.Volumes {
		for _, source := range volume.Projected.Sources {
			var name string
			var items []core.KeyToPath
			if source.Secret != nil {
				name, items = source.Secret.Name, source.Secret.Items
			} else {
				name, items = source.ConfigMap.Name, source.ConfigMap.Items
			}
			for _, key := range there[name] {
				if len(items) == 0 {
					files[key] = true
				}
			}
			for _, i := range items {
				if slices.Contains(there[name], i.Key) {
					files[i.Path] = true
				}
			}
		}
	}
	want := []string{"hubbub.yaml", "iam.yaml", "cluster.secret"}
	if _, tls := v["tls"]; tls {
		want = append(want, "tls.crt", "tls.key")
	}
	for _, name := range want {
		if !files[name] {
			problems = append(problems, "/etc/hubbub has no "+name)
		}
	}
	return problems
}

func TestTheChartByDefault(t *testing.T) {
	r, err := render(t, values(t, read(t, "testdata/made.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	pod := r.set.Spec.Template.Spec
	same(t, "the name", r.set.Name, "hubbub")
	same(t, "replicas", *r.set.Spec.Replicas, 3)
	same(t, "minReadySeconds", r.set.Spec.MinReadySeconds, 10)
	same(t, "maxUnavailable", r.budget.Spec.MaxUnavailable.IntValue(), 1)
	same(t, "whose pods the budget is for", r.budget.Spec.Selector.MatchLabels, r.set.Spec.Selector.MatchLabels)
	same(t, "the image", pod.Containers[0].Image, "registry.example.com/hubbub:1")
	same(t, "the service account", pod.ServiceAccountName, r.account.Name)
	same(t, "what keeps pods apart", len(pod.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution), 2)
	same(t, "required affinity", len(pod.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution), 0)
	if limit := pod.Containers[0].Resources.Limits; limit.Memory().IsZero() || !limit.Cpu().IsZero() {
		t.Errorf("the limits are %v, want one of memory and none of CPU", limit)
	}
	if r.monitored != nil {
		t.Error("a ServiceMonitor is there, and perhaps no operator that knows it")
	}
	who := map[string]int{} // may reach a port, by the number of rules for them
	for _, rule := range r.network.Spec.Ingress {
		for _, p := range rule.Ports {
			who[p.Port.String()] = len(rule.From)
		}
	}
	same(t, "the network policy", who, map[string]int{"api": 0, "messaging": 0, "cluster": 1, "admin": 1})
}

func TestTheChartWithEverythingSet(t *testing.T) {
	v := values(t, read(t, "testdata/everything.yaml"))
	defaults := values(t, read(t, chart+"/values.yaml"))
	for key := range defaults {
		if _, set := v[key]; !set && key != "nameOverride" {
			t.Errorf("testdata/everything.yaml does not set %s", key)
		}
	}
	r, err := render(t, v)
	if err != nil {
		t.Fatal(err)
	}
	pod := r.set.Spec.Template.Spec
	c := pod.Containers[0]
	same(t, "the name", r.set.Name, "chat")
	same(t, "replicas", *r.set.Spec.Replicas, 5)
	same(t, "minReadySeconds", r.set.Spec.MinReadySeconds, 90)
	same(t, "the image", c.Image, "registry.example.com/hubbub@sha256:"+strings.Repeat("0123456789abcdef", 4))
	same(t, "AWS_REGION", c.Env[len(c.Env)-1], core.EnvVar{Name: "AWS_REGION", Value: "us-west-2"})
	same(t, "envFrom", c.EnvFrom[0].SecretRef.Name, "aws")
	same(t, "annotations", r.set.Spec.Template.Annotations["a"], "b")
	same(t, "nodeSelector", pod.NodeSelector, map[string]string{"disk": "fast"})
	same(t, "sysctls", len(pod.SecurityContext.Sysctls), 1)
	same(t, "priority", pod.PriorityClassName, "high")
	if pod.Affinity.NodeAffinity == nil || pod.Affinity.PodAntiAffinity != nil || len(pod.Tolerations) != 1 || len(pod.TopologySpreadConstraints) != 1 {
		t.Errorf("pods are placed by %v %v %v", pod.Affinity, pod.Tolerations, pod.TopologySpreadConstraints)
	}
	claim := r.set.Spec.VolumeClaimTemplates[0]
	same(t, "the claim", claim.Spec.Resources.Requests.Storage().String()+" "+*claim.Spec.StorageClassName+" "+claim.Annotations["backup"], "100Gi fast nightly")
	same(t, "the api", fmt.Sprint(r.services["chat-api"].Spec.Type, r.services["chat-api"].Spec.Ports[0].Port), "NodePort443")
	same(t, "the role", r.account.Annotations["eks.amazonaws.com/role-arn"], "arn:aws:iam::123456789012:role/chat")
	same(t, "the monitor's label", r.monitored.Labels["release"], "prometheus")
	selected := r.services[r.set.Spec.ServiceName]
	same(t, "what is monitored", subset(selected.Labels, r.monitored.Spec.Selector.MatchLabels), r.monitored.Spec.Selector.MatchLabels)
	same(t, "where", r.monitored.Spec.Endpoints[0].Port, selected.Spec.Ports[1].Name)
	same(t, "the interval", r.monitored.Spec.Endpoints[0].Interval, "10s")
	if r.budget != nil {
		t.Error("a disruption budget is there, and is not wanted")
	}
	if !strings.Contains(r.config.Data["hubbub.yaml"], "rooms: 1000000\n") {
		t.Errorf("hubbub.yaml has not the number of rooms as it was written:\n%s", r.config.Data["hubbub.yaml"])
	}
}

func TestTheChartRefuses(t *testing.T) {
	for _, c := range []struct{ name, base, change, want string }{
		{"no values at all", "", "", "not given"},
		{"no image", "made", "image: {repository: ''}", "image.repository is not given; build deploy/Dockerfile"},
		{"no region", "made", "region: ''", "region is not given; write --set region=us-west-2"},
		{"no iam", "made", "iam: {file: ''}", "iam is not given, and nobody could call the API; make iam.yaml with `hubbub key make`"},
		{"iam twice", "made", "iam: {existingSecret: a}", "iam.existingSecret and iam.file are both given"},
		{"no secret", "made", "cluster: {secret: {value: ''}}", "cluster.secret is not given; make one with `openssl rand -hex 32 > cluster.secret`"},
		{"a short secret", "made", "cluster: {secret: {value: 'hunter2                                '}}", "shorter than 32 characters; make one with"},
		{"the secret twice", "made", "cluster: {secret: {existingSecret: a}}", "are both given; keep one of them"},
		{"in the clear", "made", "trustedProxies: []", "neither tls nor trustedProxies is given"},
		{"half a certificate", "made", "tls: {cert: CERTIFICATE}", "of tls.cert and tls.key one is missing"},
		{"a certificate twice", "existing", "tls: {cert: CERTIFICATE, key: KEY}", "keep the Secret or the pair"},
		{"a key of the chart's", "made", "config: {cluster: {name: a}}", "config.cluster is decided by the chart"},
		{"an unknown value", "made", "replica: 3", "replica"},
		{"two nodes", "made", "replicas: 2", "replicas"},
		{"a unit where there is none", "made", "drainSeconds: 5s", "drainSeconds"},
		{"a service of another type", "made", "services: {api: {type: ExternalName}}", "services"},
		{"no time to leave the services", "made", "preStopSeconds: 0", "preStopSeconds"},
	} {
		documents := []string{c.change}
		if c.base != "" {
			documents = []string{read(t, "testdata/"+c.base+".yaml"), c.change}
		}
		if _, err := render(t, values(t, documents...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestTheValuesOfTheReadmeAreAccepted renders what an operator pastes.
func TestTheValuesOfTheReadmeAreAccepted(t *testing.T) {
	_, block, found := strings.Cut(read(t, "README.md"), "```yaml\n# values.yaml\n")
	block, _, ended := strings.Cut(block, "```")
	if !found || !ended {
		t.Fatal("README.md has no block of values")
	}
	r, err := render(t, values(t, block))
	if err != nil {
		t.Fatal(err)
	}
	r.configAccepted(t)
}

// number is a value that is one, or what it is by default.
func number(v map[string]any, key string, byDefault int) int {
	if n, set := v[key]; set {
		return int(n.(float64))
	}
	return byDefault
}

func not(b *bool) *bool {
	if b == nil {
		return nil
	}
	n := !*b
	return &n
}

// subset are the labels whose names others have, too.
func subset(labels, names map[string]string) map[string]string {
	s := map[string]string{}
	for k, v := range labels {
		if _, named := names[k]; named {
			s[k] = v
		}
	}
	return s
}
