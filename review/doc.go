// Package review asks a room's message review handler for its verdict on a
// message, before anybody else sees it: a Lambda function, an HTTP endpoint, or
// rules of our own. A verdict comes within the time allowed, or the room's
// fallback decides.
//
// Source: spec review-handler.
package review
