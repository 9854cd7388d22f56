package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// benchLogging measures the steady load in rooms with three logging
// configurations, one of each kind, beside the same load in rooms without. The
// destinations are stand-ins in this process, or directories. S3 is flushed every 5
// seconds, as the other kinds are, so that a run has its puts too.
func benchLogging(binaryPath, dir string) error {
	sinks, err := openSinks()
	if err != nil {
		return err
	}
	defer sinks.Close()
	services := []string{"--logging-s3-endpoint", sinks.url, "--logging-s3-path-style=true", "--logging-s3-flush", "5s",
		"--logging-cloudwatch-logs-endpoint", sinks.url, "--logging-firehose-endpoint", sinks.url}
	variants := []struct {
		name  string
		flags func(data string) []string // nil: no logs
	}{
		{"no logs", nil},
		{"services", func(string) []string { return services }},
		{"directories", func(data string) []string {
			return []string{"--logging-s3-directory", data + "-s3", "--logging-s3-flush", "5s",
				"--logging-cloudwatch-logs-directory", data + "-logs", "--logging-firehose-directory", data + "-firehose"}
		}},
	}
	for _, s := range shapes {
		var t table
		for i := range *runs {
			all := map[string]loggingFigures{}
			order := slices.Clone(variants)
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, v := range order {
				data := filepath.Join(dir, fmt.Sprint("logging", s.rooms, i, strings.ReplaceAll(v.name, " ", "-")))
				var flags []string
				if v.flags != nil {
					flags = v.flags(data)
				}
				f, err := measureLogging(binaryPath, data, s, v.name, flags)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, v.name, err)
				}
				all[v.name] = f
			}
			for _, v := range variants {
				f := all[v.name]
				t.addSteady(v.name, f.steadyFigures, f.cpu)
				if v.flags == nil {
					continue
				}
				t.add(v.name+": records delivered", f.records)
				t.add(v.name+": records dropped", f.dropped)
				t.add(v.name+": records not delivered at the end of the load", f.behind)
				t.add(v.name+": s until they were", f.lag.Seconds())
				t.add(v.name+" ÷ no logs, p99", f.p99/all["no logs"].p99)
				t.add(v.name+" ÷ no logs, CPU a message", f.cpu/all["no logs"].cpu)
			}
		}
		t.print(fmt.Sprintf("logging: %s, %d viewers a room, 3 logging configurations", s.name, steadyViewers))
	}
	return nil
}

func (t *table) addSteady(name string, f steadyFigures, cpu float64) {
	t.add(name+": p50 ms", f.p50)
	t.add(name+": p99 ms", f.p99)
	t.add(name+": max ms", f.max)
	t.add(name+": the load itself late, p99 ms", f.late)
	t.add(name+": the load itself late, max ms", f.latest)
	t.add(name+": CPU µs a message", cpu)
	t.add(name+": RSS at the end of the load, MiB", f.rss)
}

type loggingFigures struct {
	steadyFigures
	cpu                      float64 // µs a message, until the last record was delivered
	records, dropped, behind float64
	lag                      time.Duration // from the end of the load to the last record's delivery
}

// measureLogging runs the load on a server of its own; without flags there are no
// logging configurations.
func measureLogging(binaryPath, data string, s shape, name string, flags []string) (f loggingFigures, err error) {
	p, err := hubbub(binaryPath, data, flags...)
	if err != nil {
		return f, err
	}
	defer p.stop()
	members := ""
	if flags != nil {
		var arns []string
		for _, to := range []string{`"s3":{"bucketName":"chat-logs"}`, `"cloudWatchLogs":{"logGroupName":"chat-logs"}`, `"firehose":{"deliveryStreamName":"chat-logs"}`} {
			var out struct{ ARN string }
			if err := call(p, "CreateLoggingConfiguration", `{"destinationConfiguration":{`+to+`}}`, &out); err != nil {
				return f, err
			}
			arns = append(arns, `"`+out.ARN+`"`)
		}
		members = `"loggingConfigurationIdentifiers":[` + strings.Join(arns, ",") + "]"
	}
	rooms, err := createRooms(p, s.rooms, members)
	if err != nil {
		return f, err
	}
	if f.steadyFigures, err = runSteady(p, rooms, s.profile("logging", name)); err != nil {
		return f, err
	}
	ended := time.Now()
	if flags != nil {
		want := float64(3 * f.messages)
		delivered, err := p.metric("hubbub_chatlog_delivered_records_total", "")
		if err != nil {
			return f, err
		}
		f.behind = want - delivered
		if err := await(time.Minute, func() (bool, error) {
			delivered, err = p.metric("hubbub_chatlog_delivered_records_total", "")
			return delivered >= want, err
		}); err != nil {
			return f, fmt.Errorf("%.0f of %.0f records: %w", delivered, want, err)
		}
		f.lag, f.records = time.Since(ended), delivered
		if f.dropped, err = p.metric("hubbub_chatlog_dropped_records_total", ""); err != nil {
			return f, err
		}
	}
	f.cpu = float64((p.cpu() - f.used).Microseconds()) / float64(f.messages)
	return f, nil
}

// sinks stand in for S3, CloudWatch Logs and Firehose: they read what comes and
// answer that all of it was taken.
type sinks struct {
	*http.Server
	url string
}

func openSinks() (*sinks, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sinks{&http.Server{Handler: http.HandlerFunc(sink)}, "http://" + l.Addr().String()}
	go func() { _ = s.Serve(l) }() // until Close
	return s, nil
}

func sink(w http.ResponseWriter, r *http.Request) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if operation != "PutRecordBatch" {
		_, _ = io.Copy(io.Discard, r.Body)
		if operation == "" { // S3
			w.Header().Set("ETag", `"0"`)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, "{}")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	const one = `{"RecordId":"1"},`
	answers := strings.TrimSuffix(strings.Repeat(one, bytes.Count(body, []byte(`"Data":`))), ",")
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, _ = io.WriteString(w, `{"FailedPutCount":0,"RequestResponses":[`+answers+`]}`)
}
