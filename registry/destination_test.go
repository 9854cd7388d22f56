package registry_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/registry"
)

// TestDestinationsAreAskedAboutAndChangesAreTold: what is said against a
// destination is the caller's answer, and leaves everything as it is.
func TestDestinationsAreAskedAboutAndChangesAreTold(t *testing.T) {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(ctx) })
	var asked []string
	var told []ivschat.ARN
	g, err := registry.Open(ctx, registry.Options{Engine: e,
		CheckDestination: func(_ context.Context, s ivschat.Scope, d ivschat.DestinationConfiguration) error {
			asked = append(asked, s.Region+" "+d.S3.BucketName)
			switch d.S3.BucketName {
			case "missing":
				return ivschat.Refuse(ivschat.NotFound, "no such bucket")
			case "closed":
				return ivschat.Refuse(ivschat.AccessDenied, "not yours")
			}
			return nil
		},
		ConfigurationChanged: func(a ivschat.ARN) { told = append(told, a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	bucket := func(name string) *ivschat.DestinationConfiguration {
		return &ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: name}}
	}
	for name, want := range map[string]ivschat.Kind{"missing": ivschat.NotFound, "closed": ivschat.AccessDenied} {
		_, err := g.CreateLoggingConfiguration(ctx, scope, &ivschat.CreateLoggingConfigurationRequest{DestinationConfiguration: bucket(name)})
		if !errors.Is(err, want) {
			t.Errorf("create with %s: %v, want %s", name, err, want)
		}
	}
	made, err := g.CreateLoggingConfiguration(ctx, scope, &ivschat.CreateLoggingConfigurationRequest{DestinationConfiguration: bucket("good")})
	if err != nil {
		t.Fatal(err)
	}
	asked = nil
	if _, err := g.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationRequest{Identifier: made.ARN, DestinationConfiguration: bucket("missing")}); !errors.Is(err, ivschat.NotFound) {
		t.Errorf("update to a missing bucket: %v", err)
	}
	if now, _ := g.LoggingConfiguration(made.ARN); now.DestinationConfiguration.S3.BucketName != "good" || len(told) != 0 {
		t.Errorf("a refused update changed it to %v, told %v", now.DestinationConfiguration.S3, told)
	}
	name := "n"
	if _, err := g.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationRequest{Identifier: made.ARN, Name: &name}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"us-west-2 missing"}) {
		t.Errorf("asked %v: a change of the name asks about nothing", asked)
	}
	if _, err := g.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationRequest{Identifier: "arn:aws:ivschat:us-west-2:123456789012:logging-configuration/AbCdEf123456", DestinationConfiguration: bucket("missing")}); !errors.Is(err, ivschat.NotFound) || len(asked) != 1 {
		t.Errorf("update of what is not there: %v, asked %v", err, asked)
	}
	if err := g.DeleteLoggingConfiguration(ctx, made.ARN); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []ivschat.ARN{made.ARN, made.ARN}) {
		t.Errorf("told of %v, want the update and the deletion", told)
	}
}
