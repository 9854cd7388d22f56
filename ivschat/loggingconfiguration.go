package ivschat

// LoggingState is the state of a logging configuration. Create and Update
// answer with ACTIVE only. Source: spec control-plane 8.1.
type LoggingState string

// The states.
const (
	StateCreating     LoggingState = "CREATING"
	StateCreateFailed LoggingState = "CREATE_FAILED"
	StateDeleting     LoggingState = "DELETING"
	StateDeleteFailed LoggingState = "DELETE_FAILED"
	StateUpdating     LoggingState = "UPDATING"
	StateUpdateFailed LoggingState = "UPDATE_FAILED"
	StateActive       LoggingState = "ACTIVE"
)

// S3Destination names a bucket. Source: spec control-plane 5.3.
type S3Destination struct {
	BucketName string `json:"bucketName"`
}

// CloudWatchLogsDestination names a log group.
type CloudWatchLogsDestination struct {
	LogGroupName string `json:"logGroupName"`
}

// FirehoseDestination names a delivery stream.
type FirehoseDestination struct {
	DeliveryStreamName string `json:"deliveryStreamName"`
}

// DestinationConfiguration is where chat logs go: exactly one member is set.
type DestinationConfiguration struct {
	S3             *S3Destination             `json:"s3,omitzero"`
	CloudWatchLogs *CloudWatchLogsDestination `json:"cloudWatchLogs,omitzero"`
	Firehose       *FirehoseDestination       `json:"firehose,omitzero"`
}

func (c *checks) destination(d *DestinationConfiguration) {
	const name = "destinationConfiguration"
	if d == nil {
		c.fail(name, "is required")
		return
	}
	members := 0
	if d.S3 != nil {
		members++
	}
	if d.CloudWatchLogs != nil {
		members++
	}
	if d.Firehose != nil {
		members++
	}
	if members != 1 {
		c.fail(name, "must have exactly one of s3, cloudWatchLogs and firehose, but has %d", members)
		return
	}
	switch {
	case d.S3 != nil:
		c.pattern(name+".s3.bucketName", d.S3.BucketName, MinBucketNameLength, MaxBucketNameLength, bucketPattern)
	case d.CloudWatchLogs != nil:
		c.pattern(name+".cloudWatchLogs.logGroupName", d.CloudWatchLogs.LogGroupName, 1, MaxLogGroupNameLength, logGroupPattern)
	case d.Firehose != nil:
		c.pattern(name+".firehose.deliveryStreamName", d.Firehose.DeliveryStreamName, 1, MaxDeliveryStreamLength, deliveryStreamPattern)
	}
}

// LoggingConfiguration says where the chat logs of the rooms that name it go.
// One handed out by the registry is shared and must not be changed. The list
// operation shows the same members. Source: spec control-plane 5.2.
type LoggingConfiguration struct {
	ARN                      ARN                      `json:"arn"`
	ID                       string                   `json:"id"`
	CreateTime               Time                     `json:"createTime"`
	UpdateTime               Time                     `json:"updateTime"`
	Name                     string                   `json:"name"`
	DestinationConfiguration DestinationConfiguration `json:"destinationConfiguration"`
	State                    LoggingState             `json:"state"`
	Tags                     Strings                  `json:"tags"`
}

// CreateLoggingConfigurationRequest makes a logging configuration.
// Source: API reference, CreateLoggingConfiguration; spec control-plane 8.2.
type CreateLoggingConfigurationRequest struct {
	Name                     *string                   `json:"name"`
	DestinationConfiguration *DestinationConfiguration `json:"destinationConfiguration"`
	Tags                     Strings                   `json:"tags"`
}

// Check names every member that is not as the API model wants it.
func (r *CreateLoggingConfigurationRequest) Check() error {
	var c checks
	c.optionalPattern("name", r.Name, 0, MaxNameLength, namePattern)
	c.destination(r.DestinationConfiguration)
	c.tags("tags", r.Tags)
	return c.err()
}

// GetLoggingConfigurationRequest asks for one logging configuration.
type GetLoggingConfigurationRequest struct {
	Identifier ARN `json:"identifier"`
}

// Check names every member that is not as the API model wants it.
func (r *GetLoggingConfigurationRequest) Check() error {
	var c checks
	c.configuration("identifier", r.Identifier)
	return c.err()
}

// UpdateLoggingConfigurationRequest changes the members that are present; the
// destination is replaced whole and may change its kind.
// Source: spec control-plane 8.4.
type UpdateLoggingConfigurationRequest struct {
	Identifier               ARN                       `json:"identifier"`
	Name                     *string                   `json:"name"`
	DestinationConfiguration *DestinationConfiguration `json:"destinationConfiguration"`
}

// Check names every member that is not as the API model wants it.
func (r *UpdateLoggingConfigurationRequest) Check() error {
	var c checks
	c.configuration("identifier", r.Identifier)
	c.optionalPattern("name", r.Name, 0, MaxNameLength, namePattern)
	if r.DestinationConfiguration != nil {
		c.destination(r.DestinationConfiguration)
	}
	return c.err()
}

// DeleteLoggingConfigurationRequest deletes a logging configuration.
type DeleteLoggingConfigurationRequest struct {
	Identifier ARN `json:"identifier"`
}

// Check names every member that is not as the API model wants it.
func (r *DeleteLoggingConfigurationRequest) Check() error {
	var c checks
	c.configuration("identifier", r.Identifier)
	return c.err()
}

// ListLoggingConfigurationsRequest asks for a page of logging configurations.
type ListLoggingConfigurationsRequest struct {
	NextToken  *string  `json:"nextToken"`
	MaxResults *Integer `json:"maxResults"`
}

// Check names every member that is not as the API model wants it.
func (r *ListLoggingConfigurationsRequest) Check() error {
	var c checks
	c.page(r.NextToken, r.MaxResults)
	return c.err()
}

// ListLoggingConfigurationsResponse is a page, the last changed first;
// NextToken is absent on the last page.
type ListLoggingConfigurationsResponse struct {
	LoggingConfigurations []LoggingConfiguration `json:"loggingConfigurations"`
	NextToken             string                 `json:"nextToken,omitempty"`
}
