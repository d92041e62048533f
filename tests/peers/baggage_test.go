package peers

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	"google.golang.org/grpc/metadata"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/propagation"
)

// What travels with a call. rpcscope is told to trust everybody and to send
// everything, which OpenTelemetry's propagator does anyway.
var baggageDefects = []defect{
	{
		// Rule 22: 2048 bytes, whole members.
		name:  "BaggageTooLarge",
		what:  "A client has 40 members of baggage, more than 10 KB.",
		right: outcome{"sent: 1819 bytes", "members received: 7"}, // of 259 bytes each, and commas; 8 are too many
		calm:  outcome{"sent: 779 bytes", "members received: 3"},
		ours:  openBaggage(),
		peers: []stack{otelBaggage()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var with setup
			var sent, received int
			with.service.unary = func(ctx context.Context) error {
				for _, header := range metadata.ValueFromIncomingContext(ctx, "baggage") {
					sent += len(header)
				}
				received = baggage.FromContext(ctx).Len()
				return nil
			}
			sc := s.stage(t, with)
			var bag baggage.Baggage
			for i := range map[bool]int{true: 40, false: 3}[trouble] {
				member, err := baggage.NewMemberRaw(fmt.Sprintf("k%02d", i), strings.Repeat("v", 255))
				if err == nil {
					bag, err = bag.SetMember(member)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := sc.call(baggage.ContextWithBaggage(sc.ctx(), bag)); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			sc.settle()
			return outcome{fmt.Sprintf("sent: %d bytes", sent), fmt.Sprintf("members received: %d", received)}
		},
	},
	{
		// Rule 22: control characters are refused, %0A too.
		name:  "BaggageWithLineBreak",
		what:  "A peer sends the baggage `note=paid%0AERROR`.",
		right: outcome{`handler's value: ""`},
		calm:  outcome{`handler's value: "paid ERROR"`}, // %20
		ours:  openBaggage().serverOnly(),
		peers: []stack{otelBaggage().serverOnly()},
		run: func(t *testing.T, s stack, trouble bool) outcome {
			var with setup
			var value string
			with.service.unary = func(ctx context.Context) error {
				value = baggage.FromContext(ctx).Member("note").Value()
				return nil
			}
			sc := s.stage(t, with)
			header := "note=paid%20ERROR"
			if trouble {
				header = "note=paid%0AERROR"
			}
			if err := sc.call(metadata.AppendToOutgoingContext(sc.ctx(), "baggage", header)); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			sc.settle()
			return outcome{fmt.Sprintf("handler's value: %q", value)}
		},
	},
}

func openBaggage() stack {
	return ours(interceptors.WithPropagator(propagation.New(propagation.WithTrust(propagation.TrustAll),
		propagation.WithOutbound(func(context.Context, string, string) propagation.Outbound {
			return propagation.Outbound{TraceContext: true, Baggage: []string{"*"}}
		}))))
}

func otelBaggage() stack {
	s := otelgrpcStack()
	s.name, s.module = "otel propagation.Baggage", "go.opentelemetry.io/otel"
	return s
}
