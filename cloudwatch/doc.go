// Package cloudwatch pushes the ten metrics that Amazon IVS Chat has in CloudWatch
// to an endpoint that speaks like it, once a minute, under the service's names and
// dimensions.
//
//	Prometheus registry ── every 5 s ──▶ minute ── at its end ──▶ pending ── PutMetricData ──▶ endpoint
//	                       reading                                  ▲ what was not taken │
//	                                                                └────────────────────┘
//
// It reads what the server counts anyway and stands in nobody's way: the registry
// is read from outside, a push takes 10 s at most, and what fails is added to the
// next push, so that an endpoint that is away for hours costs the times of the
// counts and not the counts. A push without an answer is repeated: after a broken
// connection a count may be there twice.
//
// Source: spec events-and-metrics 2, 3; Chat User Guide, "Monitoring Amazon IVS Chat".
package cloudwatch
