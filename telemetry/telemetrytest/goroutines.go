package telemetrytest

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// goroutines finds the goroutines that a test started by a label they inherit,
// so that parallel tests do not see each other's.
type goroutines struct{ id string }

const goroutineLabel = "telemetrytest"

var goroutineTests atomic.Int64

func watchGoroutines(tb testing.TB) goroutines {
	g := goroutines{id: tb.Name() + "#" + strconv.FormatInt(goroutineTests.Add(1), 10)}
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(goroutineLabel, g.id)))
	return g
}

// check fails the test when goroutines are left, after giving them a moment.
func (g goroutines) check(tb testing.TB) {
	pprof.SetGoroutineLabels(context.Background()) // the test's own goroutine is not one
	var left []string
	wait := time.Millisecond
	for deadline := time.Now().Add(settle); ; wait *= 2 {
		if left = g.left(); len(left) == 0 || time.Now().After(deadline) {
			break
		}
		<-time.After(wait)
	}
	for _, stack := range left {
		tb.Errorf("telemetrytest: a goroutine that the test started still runs:\n%s", stack)
	}
}

func (g goroutines) left() []string {
	var b bytes.Buffer
	if pprof.Lookup("goroutine").WriteTo(&b, 1) != nil {
		return nil
	}
	var left []string
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if !strings.Contains(stack, strconv.Quote(goroutineLabel)+":"+strconv.Quote(g.id)) {
			continue
		}
		// Idle connections of an http.Client belong to its transport; subtests to package testing.
		if strings.Contains(stack, "net/http.(*persistConn)") || strings.Contains(stack, "testing.tRunner") {
			continue
		}
		left = append(left, stack)
	}
	return left
}
