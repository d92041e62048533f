package interceptors_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
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
