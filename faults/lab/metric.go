package lab

import (
	"strconv"
	"strings"
)

// Metric is the sum of a metric's series that have all the labels, each written as
// kind="other". It is false if the node does not answer or has no such series.
func (n *Node) Metric(name string, labels ...string) (sum float64, there bool) {
	_, text := n.Admin("/metrics")
series:
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(strings.TrimSpace(line), name)
		if !found || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(rest, want) {
				continue series
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			n.t.Errorf("node %s: the metric %s: %v", n.Name, line, err)
			continue
		}
		sum, there = sum+v, true
	}
	return sum, there
}
