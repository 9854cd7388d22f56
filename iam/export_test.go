package iam

// Look is what Run does once a second.
func (s *Store) Look() { s.look() }
