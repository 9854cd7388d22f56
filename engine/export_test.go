package engine

import "time"

// SetStartTimeout shortens the time that a recovery may take.
func SetStartTimeout(d time.Duration) { startTimeout = d }
