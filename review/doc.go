// Package review asks a room's message review handler for its verdict on a
// message, before anybody else sees it: a Lambda function, an HTTP endpoint, or
// rules of our own. A verdict comes within the time allowed, or the room's
// fallback decides.
//
// What enters: the ARN that the room names, its fallback, and the message. What
// leaves: one Verdict. The configuration says where each ARN lives; nothing that
// a room or a message holds decides whom we connect to, but for the name and
// region of a Lambda function under Options.Default.
//
// # What it promises
//
// Review never blocks and calls back exactly once, at the latest when the time
// is up, however the handler behaves: it is cut off then, and what it still
// says is not heard. So many invocations of one handler may be under way;
// beyond them the fallback decides at once, as it does for a while when a
// handler only fails. Answers are read to 64 KiB. Redirects are not followed,
// and nothing is tried twice. Rules answer in microseconds, on the goroutine
// that asks.
//
// Logs name the handler and what failed, never what was written, by whom, or
// the URL.
//
// Source: spec review-handler.
package review
