package interop_test

import (
	"context"
	"time"

	v3orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	orcaservice "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
)

// newServer returns a server with the services that the cases call.
func newServer(opts []grpc.ServerOption) *grpc.Server {
	metrics := orca.NewServerMetricsRecorder()
	s := grpc.NewServer(append([]grpc.ServerOption{orca.CallMetricsServerOption(nil)}, opts...)...)
	testpb.RegisterTestServiceServer(s, named{interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics})})
	orcaservice.RegisterOpenRcaServiceServer(s, &load{metrics: metrics})
	return s
}

// named is grpc's server, which says who it is where a request asks for that.
type named struct{ testpb.TestServiceServer }

func (s named) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	resp, err := s.TestServiceServer.UnaryCall(ctx, in)
	if in.GetFillServerId() && err == nil {
		resp.ServerId = "the one"
	}
	return resp, err
}

// load reports a server's load beside its calls. The one that comes with grpc
// reports every 30 seconds at most, which is as long as the case waits.
type load struct {
	orcaservice.UnimplementedOpenRcaServiceServer
	metrics orca.ServerMetricsRecorder
}

func (l *load) StreamCoreMetrics(in *orcaservice.OrcaLoadReportRequest, out orcaservice.OpenRcaService_StreamCoreMetricsServer) error {
	tick := time.NewTicker(in.GetReportInterval().AsDuration())
	defer tick.Stop()
	for {
		m := l.metrics.ServerMetrics()
		if err := out.Send(&v3orcapb.OrcaLoadReport{CpuUtilization: max(m.CPUUtilization, 0), MemUtilization: max(m.MemUtilization, 0), Utilization: m.Utilization}); err != nil {
			return err
		}
		select {
		case <-out.Context().Done():
			return out.Context().Err()
		case <-tick.C:
		}
	}
}
