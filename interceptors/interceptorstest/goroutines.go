package interceptorstest

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

// goroutines returns the stack of a goroutine that the interceptor has started
// for one of the calls and that still runs when it had time to end, "" if there
// is none.
//
// Goroutines inherit the labels of the one that starts them, which tells them
// from those of gRPC and of other tests.
func (w *world) goroutines() string {
	label := fmt.Sprintf("%q:%q", labelKey, w.label)
	deadline := time.Now().Add(w.s.patience)
	for pause := 100 * time.Microsecond; ; pause *= 2 {
		stack := labelled(label)
		if stack == "" || time.Now().After(deadline) {
			return stack
		}
		timer := time.NewTimer(min(pause, 50*time.Millisecond))
		<-timer.C
	}
}

func labelled(label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return ""
	}
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(group, label) {
			return group
		}
	}
	return ""
}

// goroutine returns the name of the running one, "goroutine 7".
func goroutine() string {
	var head [64]byte
	name, _, _ := bytes.Cut(head[:runtime.Stack(head[:], false)], []byte(" ["))
	return string(name)
}
