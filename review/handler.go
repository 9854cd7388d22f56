package review

// Handler says where a review handler lives: exactly one member is set.
type Handler struct {
	Lambda *Lambda
	HTTP   *HTTP
	Rules  *Rules
}

// Lambda is an endpoint that speaks Lambda's Invoke API.
type Lambda struct {
	Endpoint string // URL; "" is the AWS service
	Region   string // that requests are signed for; "" is the function's
}

// HTTP is an endpoint that gets the request by POST.
type HTTP struct {
	URL string
}

// Rules are decided here, in microseconds. Each zero value is off. They are asked
// in the order of the members; words to mask are masked in what passes the others.
type Rules struct {
	DenyWords  []string // whole words, in any letter case and through simple obfuscation
	MaskWords  []string // likewise; each of their characters becomes '*'
	DenyLinks  bool     // http://, https:// and www.
	MaxCaps    float64  // share of upper-case letters in a text with at least 8 letters, above 0 to 1
	MaxRepeats int      // longest run of one character
}
