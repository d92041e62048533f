package main

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// BenchmarkCalls has the scenarios and contenders for go test's profiles. It
// measures one contender after the other: compare with the command, not with
// this.
func BenchmarkCalls(b *testing.B) {
	for _, s := range scenarios {
		for _, c := range contenders {
			b.Run(s.name+"/"+c.name, func(b *testing.B) {
				rig, err := newRig(s, c)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				err = rig.call(b.N)
				b.StopTimer()
				if err != nil {
					b.Error(err)
				}
				if err := rig.close(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}
