module hubbub/bench

go 1.26.0

require (
	github.com/aws/aws-sdk-go-v2 v1.47.7
	golang.org/x/sys v0.49.0
)

require github.com/aws/smithy-go v1.28.8 // indirect

replace hubbub => ../
