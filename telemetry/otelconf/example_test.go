package otelconf_test

import (
	"context"
	"fmt"
	"os"

	"github.com/rpcscope/rpcscope/telemetry"
	"github.com/rpcscope/rpcscope/telemetry/otelconf"
)

// A service that is configured by the file OTEL_CONFIG_FILE names.
func Example() {
	tel, err := telemetry.Setup(context.Background(), otelconf.FromEnvironment(), telemetry.WithoutGlobals())
	if err != nil {
		fmt.Println(err) // the service runs
	}
	defer tel.Close()
}

// A service's tests can check the files that it is deployed with.
func ExampleRead() {
	name := os.TempDir() + "/rpcscope-example-otel.yaml"
	defer os.Remove(name) //nolint:errcheck // an example
	if err := os.WriteFile(name, []byte("file_format: \"1.0\"\nresource:\n  attribs: []\n"), 0o600); err != nil {
		panic(err)
	}
	_, err := otelconf.Read(name, os.LookupEnv)
	fmt.Println(err)
	// Output: line 3: resource.attribs: no such key, did you mean attributes; want attributes, attributes_list or schema_url
}
