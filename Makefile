# make test   installs what the tests need and runs them all
# make chaos  everything goes wrong, again and again, for an hour and a half (SEED=7 repeats a run)
# make bench  the benchmarks, on this machine
# make build  bin/hubbub

SHELL := /bin/bash
export CGO_ENABLED ?= 1

.PHONY: test build bench unit lint conformance deploy faults chaos js examples fuzz

test: lint unit conformance deploy faults js examples
	@echo "all passed"

# Without C code, so that the binary runs anywhere, and without what only a debugger reads; as deploy/Dockerfile does.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/hubbub ./cmd/hubbub

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	cd conformance && go vet ./...
	cd faults && go vet ./...
	cd bench && go vet ./...
	cd deploy && go vet ./...
	cd tools && go build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	cd conformance && ../bin/staticcheck ./...
	cd faults && ../bin/staticcheck ./...
	cd bench && ../bin/staticcheck ./...
	cd deploy && ../bin/staticcheck ./...

# Fuzz targets run their seeds here; `make fuzz` runs each for a while.
unit:
	go test -race -parallel 4 -timeout 12m ./...
	cd bench && go test -race ./...

conformance:
	cd conformance && go test -race -count=1 -timeout 8m ./... # the cache does not see that the server changed

deploy:
	cd deploy && go test -count=1 ./... # the cache does not see that the server changed

# Needs network namespaces: root, or users that may make their own. Prints its seed.
faults: bin/hubbub-race
	cd faults && go test -race -count=1 ./lab ./history
	cd faults && HUBBUB_BIN=$(CURDIR)/bin/hubbub-race go test -race -count=1 -timeout 8m -v .

SEED ?= 0
chaos: build
	cd faults && HUBBUB_BIN=$(CURDIR)/bin/hubbub go test -count=1 -timeout 3h -v . -long -seed $(SEED)

js: conformance/js/node_modules bin/hubbub-race
	cd conformance/js && HUBBUB_BIN=$(CURDIR)/bin/hubbub-race node --test --test-timeout=120000

examples: examples/node_modules bin/hubbub-race
	cd examples && HUBBUB_BIN=$(CURDIR)/bin/hubbub-race node --test --test-timeout=60000

%/node_modules: %/package-lock.json
	cd $* && npm ci --no-progress
	@touch $@

.PHONY: bin/hubbub-race
bin/hubbub-race:
	go build -race -o $@ ./cmd/hubbub

FUZZTIME ?= 30s
fuzz:
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; \
	done

bench:
	cd bench && go run .
