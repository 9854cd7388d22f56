package history

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// gone is a fault from second 11 to 20 in which nodes are away.
func gone(nodes ...string) []Fault {
	return []Fault{{Name: "kill", Began: 11 * s, Ended: 20 * s, Settled: 22 * s, Until: 25 * s, Away: nodes}}
}

func TestLivingNodesTakeWritesAgain(t *testing.T) {
	wrote := func(node string, began, ended Time, o Outcome) Write {
		return Write{Writer: -1, Node: node, Room: "r" + node + began.String(), Op: Create, Began: began, Ended: ended, Outcome: o}
	}
	all := []Write{wrote("a", 10*s, 12*s, Acked), wrote("a", 11*s, 23*s, Unknown), wrote("a", 14*s, 15*s, Acked), wrote("b", 12*s, 16*s, Acked)}
	late := append(slices.Clone(all[:3]), wrote("b", 10*s, 13*s, Acked), wrote("b", 12*s, 13*s, Refused), wrote("b", 12*s, 16500*time.Millisecond, Acked))
	for name, test := range map[string]struct {
		faults []Fault
		writes []Write
		want   []Kind
	}{
		"both in time":                        {gone("c"), all, nil},
		"one too late":                        {gone("c"), late, []Kind{NoWrites}},
		"nobody":                              {gone("c"), nil, []Kind{NoWrites, NoWrites}},
		"the one that is away need not":       {gone("b"), late[:3], []Kind{NoWrites}}, // c
		"no majority is left":                 {gone("b", "c"), nil, nil},
		"nobody is away":                      {gone(), nil, nil},
		"the next fault comes before the end": {[]Fault{{Name: "kill", Began: 11 * s, Ended: 12 * s, Settled: 13 * s, Until: 14 * s, Away: []string{"c"}}}, all, []Kind{NoWrites, NoWrites}},
	} {
		t.Run(name, func(t *testing.T) {
			wrong(t, History{Nodes: []string{"a", "b", "c"}, Faults: test.faults, Writes: test.writes}, test.want...)
		})
	}
}

func TestMessagesAmongLivingNodesAreNotLate(t *testing.T) {
	sent := said(4) // to node a
	for i := range sent {
		sent[i].Sender = 1
	}
	late := func(c Connection, n int, by time.Duration) Connection {
		c.Frames[n-1].At += by
		return c
	}
	writes := []Write{{Node: "a", Room: "x", Op: Create, Began: 11 * s, Ended: 11 * s, Outcome: Acked}, {Node: "b", Room: "y", Op: Create, Began: 11 * s, Ended: 11 * s, Outcome: Acked},
		{Node: "c", Room: "z", Op: Create, Began: 11 * s, Ended: 11 * s, Outcome: Acked}}
	viewers := func(node string) []Connection {
		return []Connection{viewer(node, 1*s, 30*s, 1, 2, 3, 4)}
	}
	for name, test := range map[string]struct {
		faults []Fault
		conns  []Connection
		want   []Kind
	}{
		"in time":                            {gone("c"), viewers("b"), nil},
		"late":                               {gone("c"), []Connection{late(viewers("b")[0], 3, s)}, []Kind{Paused}},
		"late on its own node":               {gone("c"), []Connection{late(viewers("a")[0], 3, s)}, []Kind{Paused}},
		"late before the fault":              {gone("c"), []Connection{late(viewers("b")[0], 1, s)}, nil},
		"late on the node that is away":      {gone("c"), []Connection{late(viewers("c")[0], 3, s)}, nil},
		"late from the node that is away":    {gone("a"), []Connection{late(viewers("b")[0], 3, s)}, nil},
		"late when there is no majority":     {gone("c", "d"), []Connection{late(viewers("b")[0], 3, s)}, nil},
		"late when nobody is away":           {gone(), []Connection{late(viewers("b")[0], 3, s)}, nil},
		"who came meanwhile may wait for it": {gone("c"), []Connection{late(viewer("b", 12500*time.Millisecond, 30*s, 4), 1, 0)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := []string{"a", "b", "c"}
			if len(test.faults[0].Away) == 2 {
				nodes = append(nodes, "d")
			}
			wrong(t, History{Nodes: nodes, Faults: test.faults, Writes: writes, Sent: sent, Connections: test.conns}, test.want...)
		})
	}
	h := History{Nodes: []string{"a", "b", "c"}, Faults: gone("c"), Writes: writes, Sent: sent, Connections: []Connection{late(viewers("b")[0], 3, s)}}
	if report := h.Report(); !strings.Contains(strings.Join(strings.Fields(report), " "), "0.00 s 0.00 s 1.02 s 1.02 s") {
		t.Errorf("the report does not show when writes went on, and the latest frame:\n%s", report)
	}
}
