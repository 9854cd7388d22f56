package socket

// crowd is a map of which nearly all may go at once, and then it gives its memory
// back: a map alone keeps the room of the most it ever had. The zero value is empty.
type crowd[K comparable, V any] struct {
	in   map[K]V
	most int // since in was made
}

func (c *crowd[K, V]) add(k K, v V) {
	if c.in == nil {
		c.in = map[K]V{}
	}
	c.in[k] = v
	c.most = max(c.most, len(c.in))
}

func (c *crowd[K, V]) remove(k K) {
	delete(c.in, k)
	if c.most < smallCrowd || len(c.in) > c.most/8 {
		return
	}
	rest := make(map[K]V, len(c.in))
	for k, v := range c.in {
		rest[k] = v
	}
	c.in, c.most = rest, len(rest)
}

// smallCrowd is what is not worth giving back, some 10 KB.
const smallCrowd = 512
