package env_test

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/rpcscope/rpcscope/examples/internal/env"
)

func TestVar(t *testing.T) {
	tests := []struct {
		name, variable string
		args           []string
		want           time.Duration
		wantErr        string
	}{
		{"neither", "", nil, time.Second, ""},
		{"variable", "2s", nil, 2 * time.Second, ""},
		{"flag", "", []string{"-drain=3s"}, 3 * time.Second, ""},
		{"both", "2s", []string{"-drain=3s"}, 3 * time.Second, ""},
		{"a value that is wrong", "soon", nil, 0, `USERS_DRAIN="soon", want what -drain takes: `},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("USERS_DRAIN", test.variable)
			flags := flag.NewFlagSet("users-api", flag.ContinueOnError)
			got := flags.Duration("drain", time.Second, "how long")
			err := env.Vars(flags, map[string]string{"drain": "USERS_DRAIN"})
			if test.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.wantErr) {
					t.Fatalf("error = %v, want %s", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			if *got != test.want {
				t.Errorf("got %v, want %v", *got, test.want)
			}
			if usage := flags.Lookup("drain").Usage; usage != "how long ($USERS_DRAIN)" {
				t.Errorf("usage = %q, want the variable in it", usage)
			}
		})
	}
}
