// Package hubbub is the assembly of the house and nothing else: configuration,
// listeners, and a Server that builds the rooms in order and stops them in
// reverse. Behaviour lives in the packages below it; see ARCHITECTURE.md.
//
// A program runs it in three steps: Load reads flags, environment and file into
// a Config, Start starts it, Close drains it. A test needs one:
//
//	s, err := hubbub.Start(ctx, hubbub.Config{
//		API: "127.0.0.1:0", Messaging: "127.0.0.1:0", Admin: "127.0.0.1:0", Data: hubbub.Memory,
//	})
//	// s.APIURL(), s.MessagingURL(), s.Room(); hubbub.DevAccessKeyID, hubbub.DevSecretKey
//	defer s.Close()
//
// Start is ready in milliseconds with an empty store. What runs afterwards ends
// with Close: no goroutine, port or lock is left.
package hubbub
