package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// What is measured does what its name says, for every contender.
func TestContenders(t *testing.T) {
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			for name, err := range map[string]error{"text": c.text(7), "identity": c.identity(7), "wrapped": wrapped(c.text(7))} {
				if got := c.code(err); got != codes.NotFound || !strings.Contains(err.Error(), "user 7") {
					t.Errorf("%s: got %v, %v; want NotFound", name, got, err)
				}
				sent := c.send(err)
				if len(sent) == 0 {
					t.Errorf("%s: nothing is sent", name)
				}
				if c.receive == nil {
					continue
				}
				got := c.receive(sent)
				if c.code(got) != codes.NotFound || !strings.Contains(got.Error(), "user 7") || c.is(got) != (name == "identity") {
					t.Errorf("%s: received %v, code %v, is %v", name, got, c.code(got), c.is(got))
				}
			}
			if err := c.fault(errCause); c.code(err) != codes.Internal {
				t.Errorf("a fault: got %v, want Internal", c.code(err))
			}
		})
	}
}

// Every operation runs, and leaves what it made.
func TestOperations(t *testing.T) {
	for _, op := range operations {
		for _, c := range contenders {
			run := op.prepare(c)
			if run == nil {
				continue
			}
			keep = nil
			if run(); keep == nil {
				t.Errorf("%s of %s left nothing", op.name, c.name)
			}
		}
	}
}

func TestTable(t *testing.T) {
	table := make([][]cell, len(operations))
	for i := range table {
		table[i] = make([]cell, len(contenders))
	}
	table[0][1] = cell{time: 1234, allocs: 3}
	var b bytes.Buffer
	write(&b, table)
	lines := strings.Split(b.String(), "\n")
	if want := "1.23 µs, 3"; len(lines) != len(operations)+3 || !strings.Contains(lines[2], want) {
		t.Errorf("got\n%s\nwant a line for each operation, the first with %q", b.String(), want)
	}
}

func BenchmarkErrors(b *testing.B) {
	for _, op := range operations {
		for _, c := range contenders {
			if run := op.prepare(c); run != nil {
				b.Run(fmt.Sprintf("%s/%s", strings.ReplaceAll(op.name, ", ", "_"), c.name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						run()
					}
				})
			}
		}
	}
}
