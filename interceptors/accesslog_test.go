package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/interceptors"
)

// documented are the keys of log records that the package's documentation lists.
var documented = sync.OnceValues(func() (map[string]bool, error) {
	doc, err := os.ReadFile("doc.go")
	_, section, _ := strings.Cut(string(doc), "\n// # The log\n")
	section, _, _ = strings.Cut(section, "\n// # ")
	keys := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^//\t(.+?)  +`).FindAllStringSubmatch(section, -1) {
		for key := range strings.SplitSeq(row[1], ", ") {
			keys[key] = true
		}
	}
	return keys, err
})

// A client's record says where the call went as its span does.
func TestLogHasAddress(t *testing.T) {
	logs := &logBuffer{}
	conn, err := grpc.NewClient("passthrough:///users.internal:50051", append(interceptors.DialOptions(interceptors.WithLogger(slog.New(slog.NewJSONHandler(logs, nil)))),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(), &testpb.SimpleRequest{}); errors.Code(err) != codes.Unavailable {
		t.Fatalf("the caller got %v, want Unavailable", err)
	}
	records := logs.records(t)
	if len(records) != 1 || records[0]["server.address"] != "users.internal" || records[0]["server.port"] != 50051.0 {
		t.Errorf("logged %v, want one record of users.internal, port 50051", records)
	}
	wantDocumented(t, logs)
}

// wantDocumented fails the test where a record has a key, or a message, that the
// documentation does not list.
func wantDocumented(t *testing.T, logs *logBuffer) {
	keys, err := documented()
	if err != nil || len(keys) < 30 {
		t.Fatalf("doc.go has %d keys of log records (%v)", len(keys), err)
	}
	others := []string{"time", "level", "msg", "kind", "after"} // slog's, and what tests add
	for line := range bytes.Lines([]byte(logs.String())) {
		var record map[string]any
		if json.Unmarshal(line, &record) != nil {
			continue // not one of JSON's
		}
		if msg, _ := record["msg"].(string); !regexp.MustCompile("^(server|client) (call|message)$").MatchString(msg) {
			t.Errorf("the message %q is not in the package's documentation", msg)
		}
		for key := range record {
			if !keys[key] && !slices.Contains(others, key) {
				t.Errorf("the key %q of a record is not in the package's documentation: %s", key, line)
			}
		}
	}
}
