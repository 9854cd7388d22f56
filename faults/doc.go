// Package faults lets things go wrong around running servers, while writers,
// senders and viewers use them, and holds what those saw against what is promised.
//
// Package lab is the network that things go wrong in, package load is everybody who
// uses it, package history is what they saw and the checker. The tests here say
// what goes wrong, when.
//
//	go test .                     a short run
//	go test . -v -long            a long one
//	go test . -v -seed 7 -only kill
//	go test . -v -long -run ThreeNodes -only 'leader|nothing'
package faults
