package registry

import (
	"hubbub/engine"
	"hubbub/ivschat"
)

// Check is nil if a record of engine.ResourcesBucket can be read, or says what is
// wrong with it: one that cannot would keep every server from starting.
func Check(e engine.Entry) error {
	_, _, _, err := decode(e)
	return err
}

// RecordKey is the place of a resource in engine.ResourcesBucket; ok is false if
// the ARN names none.
func RecordKey(arn ivschat.ARN) (key string, ok bool) {
	n, ok := arn.Parse()
	return recordKey(n), ok
}
