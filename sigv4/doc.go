// Package sigv4 verifies requests signed with AWS Signature Version 4, as the
// control plane of the service receives them.
//
// What enters: a request as net/http read it, its whole body, the time, and a
// lookup from access key ids to secrets. What leaves: who signed it and for
// which region, or an *ivschat.Error with the exception and the text that SDKs
// know. The package has no state, does no I/O, logs nothing and may be called
// from any number of goroutines.
//
// # How
//
// The request is signed again with aws-sdk-go-v2's own signer, with the date
// and the header list of the request itself, and the two signatures are
// compared in constant time. Three things that signer cannot say are said by
// the short canonical form in canonical.go, which tests compare with the
// signer byte for byte:
//
//   - repeated query values sorted before they are escaped, as Go SDKs did up
//     to v1.41 at least (the SigV4 text and the signer sort the escaped pairs);
//     tried second, and only where the two orders differ;
//   - a signed content-length of 0;
//   - a signed Date in place of X-Amz-Date.
//
// # What it insists on
//
// Header signing only: a signature in the query is refused. Host and X-Amz-Date
// (or Date) must be signed, X-Amz-Security-Token too when it is there; every
// header that the list names must be there. X-Amz-Content-Sha256, when it is
// there, must be the hash of the body. The path is taken as it was on the wire
// and escaped once more, so a proxy in front must pass path, Host and the
// signed headers unchanged. An identical request verifies again inside the
// window: there is no replay cache, as there is none in the original.
//
// # Order of the answers
//
// Presence and form, then scope and time, then the key, then the signature. The
// HMACs are computed before the key is judged, with a stand-in secret where
// there is none, and no derived key is cached: the work does not depend on
// whether a key exists, and a secret that was changed is not honoured any
// longer. A cache would save a fifth of one verification (BenchmarkSigningKey).
//
// # What it costs
//
// Time and memory grow linearly (sorting aside) with the bytes of the signed
// headers, path, query and body; headers that are not signed cost nothing. See
// BenchmarkVerify.
//
// Source: spec iam Part A; https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
package sigv4
