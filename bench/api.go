package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signed makes a request as an SDK would.
func signed(p *process, path, body string) (*http.Request, error) {
	r, err := http.NewRequest("POST", p.API+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: p.AccessKeyID, SecretAccessKey: p.SecretKey},
		r, hex.EncodeToString(sum[:]), "ivschat", p.Region, time.Now())
	return r, err
}

// benchAPI measures operations of the control plane over 16 kept connections,
// beside the same handlers without the check of signatures. Each connection
// repeats one signed request, which stays valid for minutes, so that the load
// does not spend its time on signing.
func benchAPI(binaryPath, dir string) error {
	var t table
	self, err := os.Executable()
	if err != nil {
		return err
	}
	operations := []struct{ name, body string }{
		{"CreateChatToken", `{"roomIdentifier":%q,"userId":"alice","capabilities":["SEND_MESSAGE"],"attributes":{"username":"alice"}}`},
		{"GetRoom", `{"identifier":%q}`},
		{"CreateRoom", `{"name":"bench","tags":{"k":"v"}}`},
	}
	for i := range *runs {
		rates := map[string]float64{}
		for _, s := range []struct {
			name  string
			start func() (*process, error)
		}{
			{"hubbub", func() (*process, error) { return hubbub(binaryPath, filepath.Join(dir, fmt.Sprint("data", i))) }},
			{"floor ", func() (*process, error) { return launch(self, "floor", "api") }},
		} {
			p, err := s.start()
			if err != nil {
				return err
			}
			for _, op := range operations {
				body := op.body
				if strings.Contains(body, "%q") {
					body = fmt.Sprintf(body, p.RoomARN)
				}
				profile := ""
				if s.name == "hubbub" {
					profile = "api-" + op.name
				}
				f, err := measureOperation(p, "/"+op.name, body, profile)
				if err != nil {
					p.stop()
					return err
				}
				t.add(s.name+" "+op.name+" requests/s", f.rate)
				t.add(s.name+" "+op.name+" CPU µs a request", f.cost)
				t.add(s.name+" "+op.name+" p50 ms", f.p50)
				t.add(s.name+" "+op.name+" p99 ms", f.p99)
				if before, ok := rates[op.name]; ok {
					t.add("hubbub ÷ floor, "+op.name+" requests/s", before/f.rate)
				}
				rates[op.name] = f.rate
			}
			p.stop()
		}
	}
	t.print("control plane: 16 connections, limits off, store on disk (writes fsynced); floor: the same without signatures")
	return nil
}

type operationFigures struct{ rate, cost, p50, p99 float64 }

// measureOperation repeats one request over 16 connections, of a cluster to all
// nodes in turn; the profile is named as in profiled.
func measureOperation(p *process, path, body, profile string) (f operationFigures, err error) {
	nodes := p.nodes()
	hosts, raw := make([]string, len(nodes)), make([]bytes.Buffer, len(nodes))
	for i, node := range nodes {
		r, err := signed(node, path, body)
		if err != nil {
			return f, err
		}
		if err := r.Write(&raw[i]); err != nil {
			return f, err
		}
		hosts[i] = r.URL.Host
	}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var workers sync.WaitGroup
	cpu, begun := p.cpu(), time.Now()
	end := begun.Add(runLength(2))
	for i := range 16 {
		workers.Go(func() {
			took, err := repeat(hosts[i%len(nodes)], raw[i%len(nodes)].Bytes(), end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		})
	}
	ended := profiled(p, profile, runLength(2))
	workers.Wait()
	f.rate = float64(len(all)) / time.Since(begun).Seconds()
	f.cost = float64((p.cpu() - cpu).Microseconds()) / float64(len(all))
	if err := errors.Join(failed, <-ended); err != nil {
		return f, err
	}
	f.p50, f.p99 = percentile(all, 0.5), percentile(all, 0.99)
	return f, nil
}

// repeat sends the request on one connection until the end.
func repeat(host string, request []byte, end time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for time.Now().Before(end) {
		begun := time.Now()
		if _, err := conn.Write(request); err != nil {
			return took, err
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return took, err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return took, err
		}
		if response.StatusCode != 200 {
			var e struct{ Message string }
			_ = json.Unmarshal(body, &e)
			return took, fmt.Errorf("status %d: %s", response.StatusCode, e.Message)
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// benchStart measures from the start of the process to the line that says it is
// ready, with an empty store; the memory then, after two seconds without anything
// to do, and after light use; and the size of the binary.
func benchStart(binaryPath, dir string) error {
	binary, err := os.Stat(binaryPath)
	if err != nil {
		return err
	}
	var t table
	for i := range *runs {
		p, err := hubbub(binaryPath, filepath.Join(dir, fmt.Sprint("start", i)))
		if err != nil {
			return err
		}
		t.add("binary, MB", float64(binary.Size())/1e6)
		t.add("start to ready, empty store, ms", float64(p.ready.Microseconds())/1000)
		time.Sleep(2 * time.Second)
		t.add("RSS at most while starting, MiB", p.memory("VmHWM")/1024)
		addMemory(&t, "idle", p)
		err = useLightly(p)
		if err == nil {
			addMemory(&t, "after light use", p)
		}
		p.stop()
		if err != nil {
			return err
		}
	}
	t.print("start; light use: 20 viewers, 10 messages/s, 10 CreateChatToken/s and 10 GetRoom/s")
	return nil
}

func addMemory(t *table, when string, p *process) {
	t.add("RSS "+when+", MiB", p.rss()/1024)
	t.add("RSS "+when+", anonymous, MiB", p.anonymous()/1024)
	t.add("RSS "+when+", of files, MiB", p.memory("RssFile")/1024)
}

// useLightly is what a small community does.
func useLightly(p *process) error {
	const viewers = 20
	spec := loadSpec{Viewers: viewers, Sample: 1, Window: viewers, Wire: "hubbub"}
	var err error
	if spec.Tokens, err = mintTokens(p, p.RoomARN, viewers); err != nil {
		return err
	}
	l, err := startLoad(p, spec)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.join(10 * time.Second); err != nil {
		return err
	}
	length := runLength(10)
	calls := make(chan error, 1)
	go func() { calls <- callLightly(p, time.Now().Add(length)) }()
	_, err = l.open(p, viewers*10, length, 5*time.Second)
	return errors.Join(err, <-calls)
}

func callLightly(p *process, end time.Time) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(end) {
		<-tick.C
		if _, err := mintTokens(p, p.RoomARN, 1); err != nil {
			return err
		}
		r, err := signed(p, "/GetRoom", fmt.Sprintf(`{"identifier":%q}`, p.RoomARN))
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New("GetRoom: " + response.Status)
		}
	}
	return nil
}
