package telemetrytest_test

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
)

func ExampleNew() {
	_ = func(t *testing.T) { // func TestCheckout(t *testing.T)
		rec := telemetrytest.New(t)
		tracer := rec.Telemetry().TracerProvider().Tracer("example")
		ctx, parent := tracer.Start(t.Context(), "checkout")
		_, child := tracer.Start(ctx, "charge card")
		child.SetAttributes(attribute.Int("cents", 1250))
		child.SetStatus(codes.Error, "declined")
		child.End()
		parent.End()

		rec.Spans().Named("charge card").One().
			Has(attribute.Int("cents", 1250)).
			Status(codes.Error).
			ChildOf(rec.Spans().Named("checkout").One())
		if want := "checkout internal\n  charge card internal error\n"; rec.Tree() != want {
			t.Errorf("got %s, want %s", rec.Tree(), want)
		}
	}
}
