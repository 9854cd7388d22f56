package chatlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What a destination answers, and what it means:
//
//	403, 401, AccessDenied…, a bad or expired key     access_denied  final
//	404, NoSuchBucket, ResourceNotFoundException      not_found      final
//	429, 503, SlowDown, Throttling…                   other          throttled
//	5xx, 408, RequestTimeout, no or half an answer    other          passing
//	other 3xx and 4xx                                 other          final
//
// The code decides before the status: the JSON protocols say 400 to most things.
// Source: spec logging 8; https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
// and the common errors of the CloudWatch Logs and Firehose API references.
var (
	refusals = []string{ // by how the code begins
		"AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthFailure", "AuthorizationHeaderMalformed", "ExpiredToken",
		"IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity", "InvalidSignature",
		"InvalidToken", "MissingAuthenticationToken", "NotAuthorized", "NotSignedUp", "OptInRequired", "RequestExpired",
		"RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized", "UnrecognizedClient",
	}
	absences = map[string]bool{
		"NoSuchBucket": true, "NotFound": true, "ResourceNotFound": true, "ResourceNotFoundException": true,
	}
	throttles = map[string]bool{
		"BandwidthLimitExceeded": true, "LimitExceededException": true, "PriorRequestNotComplete": true,
		"ProvisionedThroughputExceededException": true, "RequestLimitExceeded": true, "RequestThrottled": true,
		"RequestThrottledException": true, "ServiceUnavailable": true, "ServiceUnavailableException": true, "SlowDown": true,
		"ThrottledException": true, "Throttling": true, "ThrottlingException": true, "TooManyRequests": true,
		"TooManyRequestsException": true,
	}
	passings = map[string]bool{
		"ConditionalRequestConflict": true, "InternalError": true, "InternalFailure": true, "InternalServerError": true,
		"InternalServerException": true, "OperationAborted": true, "OperationAbortedException": true,
		"RequestTimeout": true, "RequestTimeoutException": true,
	}
)

// classify says what an answer means. An empty code and a status of 0 are no answer.
func classify(code string, status int) (Kind, Class) {
	for _, r := range refusals {
		if strings.HasPrefix(code, r) {
			return AccessDenied, Final
		}
	}
	switch {
	case absences[code]:
		return NotFound, Final
	case throttles[code]:
		return Other, Throttled
	case passings[code]:
		return Other, Passing
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return AccessDenied, Final
	case status == http.StatusNotFound:
		return NotFound, Final
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return Other, Throttled
	case status == http.StatusRequestTimeout:
		return Other, Passing
	case status >= 300 && status < 500:
		return Other, Final
	default:
		return Other, Passing
	}
}

// failed makes a Failure of what a call of an AWS client returned. Its text is
// made of what we know ourselves, of the code and of the status: a message may
// repeat the request, with its lines, and a signature's refusal a session token.
func failed(doing string, err error) *Failure {
	var missing *noCredentials
	if errors.As(err, &missing) {
		return &Failure{Kind: AccessDenied, Class: Final, Err: fmt.Errorf("%s: %w", doing, missing)}
	}
	code, status, after := answer(err)
	kind, class := classify(code, status)
	f := &Failure{Kind: kind, Class: class, After: after, Err: fmt.Errorf("%s: %s", doing, says(err))}
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			f.Err = fmt.Errorf("%s: %w", doing, ended)
		}
	}
	return f
}

// answer is what a service said, if it said anything.
func answer(err error) (code string, status int, after time.Duration) {
	var said smithy.APIError
	if errors.As(err, &said) {
		code = said.ErrorCode()
	}
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil && r.Response.Response != nil {
		status = r.HTTPStatusCode()
		after = retryAfter(r.Response.Header.Get("Retry-After"), time.Now())
	}
	return code, status, after
}

// retryAfter is the pause that the header asks for; 0 if it asks for none.
// Source: RFC 9110 10.2.3.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// says is an error in words that hold nothing of a request or of a body.
func says(err error) string {
	code, status, _ := answer(err)
	switch {
	case plain(code) && status != 0:
		return fmt.Sprintf("%s (HTTP %d)", code, status)
	case plain(code):
		return code
	case status != 0 && (status < 200 || status > 299):
		return fmt.Sprintf("HTTP %d", status)
	case status != 0:
		return "an answer that cannot be understood"
	}
	var (
		lookup      *net.DNSError
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &lookup):
		return lookup.Error()
	case errors.As(err, &certificate):
		return certificate.Error()
	case errors.As(err, &operation):
		return operation.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer"
	case errors.Is(err, http.ErrSchemeMismatch):
		return http.ErrSchemeMismatch.Error()
	default:
		return "no answer"
	}
}

// plain says whether a code looks like one and may be shown. UnknownError is
// what the SDK calls an answer that has none.
func plain(code string) bool {
	if code == "" || len(code) > 64 || code == "UnknownError" {
		return false
	}
	for _, c := range []byte(code) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// noCredentials is that there was nothing to sign a request with.
type noCredentials struct{ why string }

func (e *noCredentials) Error() string {
	return "no credentials: the environment, the shared AWS files and the machine's role gave none that can be used (" + e.why + ")"
}

// failedFile makes a Failure of what the file system returned. Whatever may be
// mended by making room is passing.
func failedFile(doing string, err error) *Failure {
	f := &Failure{Kind: Other, Class: Passing, Err: fmt.Errorf("%s: %w", doing, err)}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		f.Kind, f.Class = AccessDenied, Final
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		f.Kind, f.Class = NotFound, Final
	}
	return f
}

// every is all indices of n entries: what is left when nothing was taken.
func every(n int) []int {
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	return left
}
