// Package chatlog delivers chat logs: one record for each frame that the viewers
// of a room got, to each logging configuration of the room, at least once.
//
//	hub ── Add ──▶ queue ──▶ outbox ──▶ delivery of a configuration ──▶ Destination
//	     never     bounded   fsynced    batches by size and age         S3, CloudWatch Logs,
//	     waits                          acknowledged when taken         Firehose, a directory
//
// Source: spec logging.
package chatlog
