package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

func TestComposeRunsThreeNodes(t *testing.T) {
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "compose",
		ConfigFiles: types.ToConfigFiles([]string{"compose/compose.yaml"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Cluster struct {
			Peers []string `json:"peers"`
		} `json:"cluster"`
		TrustedProxies []string `json:"trusted_proxies"`
	}
	must(t, yaml.Unmarshal([]byte(read(t, "compose/hubbub.yaml")), &config))
	if got, want := config.TrustedProxies[0], project.Networks["hubbub"].Ipam.Config[0].Subnet; got != want {
		t.Errorf("hubbub.yaml trusts %s; what comes through published ports comes from %s", got, want)
	}

	var peers, published []string
	least := stopDeadline(t) + 5*time.Second // the default drain
	for _, name := range project.ServiceNames() {
		s := project.Services[name]
		peers = append(peers, name+":4883")
		if node := s.Environment["HUBBUB_CLUSTER_NODE"]; node == nil || *node != name {
			t.Errorf("%s is the node %v of the cluster, want %[1]s", name, node)
		}
		if !slices.Equal(s.HealthCheck.Test, []string{"CMD", "/hubbub", "ready"}) {
			t.Errorf("%s: the health check is %q; the image has no shell", name, s.HealthCheck.Test)
		}
		if got := time.Duration(*s.StopGracePeriod); got < least {
			t.Errorf("%s: stop_grace_period is %v; the steps of the stop may take %v", name, got, least)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s may change its root folder, or keeps capabilities", name)
		}
		var targets []string
		for _, c := range s.Configs {
			targets = append(targets, c.Target)
		}
		for _, c := range s.Secrets {
			targets = append(targets, c.Target)
		}
		if want := []string{"/etc/hubbub/hubbub.yaml", "/etc/hubbub/iam.yaml", "/etc/hubbub/cluster.secret"}; !slices.Equal(targets, want) {
			t.Errorf("%s has %q, want %q", name, targets, want)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Source != "data-"+name || s.Volumes[0].Target != "/var/lib/hubbub" {
			t.Errorf("%s keeps its data in %v", name, s.Volumes)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s in the clear beyond loopback", name, p.Published)
			}
			published = append(published, fmt.Sprintf("%s:%d", p.Published, p.Target))
		}
		configured(t, read(t, "compose/hubbub.yaml"), []string{"HUBBUB_CLUSTER_NODE=" + name, "HUBBUB_CLUSTER_ADVERTISE=" + name + ":4883"})
	}
	if !slices.Equal(peers, config.Cluster.Peers) || len(peers) != 3 {
		t.Errorf("the services are %q, and the peers of hubbub.yaml %q", peers, config.Cluster.Peers)
	}
	want := strings.Fields("4880:4880 4881:4881 4882:4882 4890:4880 4891:4881 4892:4882 4900:4880 4901:4881 4902:4882")
	if !slices.Equal(published, want) {
		t.Errorf("published are %q, want %q", published, want)
	}
}
