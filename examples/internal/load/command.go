package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rpcscope/rpcscope/errors"
	"github.com/rpcscope/rpcscope/examples/internal/env"
	"github.com/rpcscope/rpcscope/examples/internal/observe"
	"github.com/rpcscope/rpcscope/telemetry"

	"github.com/rpcscope/rpcscope/interceptors"
)

const usage = `Usage: users-load [flags] [SCENARIO]

Calls the users service as a scenario says, at a constant rate, until the time is over or the calls are made.
The exit code is 1 if a call did not end as the scenario wants, 2 if the command line is wrong.

Scenarios (without: steady):

`

// Output is where a run is told of. Terminal says that Err is one.
type Output struct {
	Out, Err io.Writer
	Terminal bool
}

// options are what the command line says.
type options struct {
	scenario Scenario
	address  string
	rate     float64
	plan     Plan
	timeout  time.Duration
	seed     uint64
	people   int
	tolerate float64
	maxP99   time.Duration
	status   string
	messages bool
	verbose  bool
}

// Main runs the command line args, without the name of the program, and returns its exit code.
func Main(ctx context.Context, args []string, out Output) int {
	o, err := parse(args, out.Err)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(out.Err, "users-load: %v\nusers-load -help tells more\n", err)
		return 2
	}
	if err := o.run(ctx, out); err != nil {
		fmt.Fprintln(out.Err, "users-load:", err)
		return 1
	}
	return 0
}

func parse(args []string, help io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("users-load", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.address, "addr", "localhost:50051", "`address` of the users service")
	flags.Float64Var(&o.rate, "rate", 50, "calls a second")
	flags.DurationVar(&o.plan.Duration, "duration", 30*time.Second, "how long calls are begun")
	flags.Int64Var(&o.plan.Calls, "calls", 0, "make at most this many; 0: as many as the duration has")
	flags.IntVar(&o.plan.AtOnce, "concurrency", 64, "at most this many calls at once; the others begin late, which their latency tells")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long a call may take")
	flags.Uint64Var(&o.seed, "seed", 1, "the same seed makes the same calls")
	flags.IntVar(&o.people, "users", 10, "sign up this many users, who make the calls in turn")
	flags.Float64Var(&o.tolerate, "tolerate", 0, "`share` of calls that may end otherwise than the scenario wants, 0 to 1")
	flags.DurationVar(&o.maxP99, "max-p99", 0, "exit with 1 if 99 % of the calls took longer than this; 0: they may")
	flags.StringVar(&o.status, "status", "", "`address` to tell on, over HTTP, how it goes: 200 while calls end as the scenario wants, else 503; empty: none")
	flags.BoolVar(&o.messages, "messages", false, "measure messages too: sizes, how many there are, and the time to the first")
	flags.BoolVar(&o.verbose, "v", false, "say what becomes of telemetry")
	if err := env.Vars(flags, map[string]string{"addr": "USERS_ADDR", "rate": "LOAD_RATE", "duration": "LOAD_DURATION"}); err != nil {
		return nil, err
	}
	name := "steady"
	named := false
	for {
		err := flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, usage)
			for _, s := range Scenarios {
				fmt.Fprintf(help, "  %-10s %s\n", s.Name, s.About)
			}
			fmt.Fprint(help, "\nFlags, before or after the scenario:\n\n")
			flags.SetOutput(help)
			flags.PrintDefaults()
		}
		if err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		if named {
			return nil, fmt.Errorf("%q after scenario %q, want one scenario", flags.Arg(0), name)
		}
		name, named, args = flags.Arg(0), true, flags.Args()[1:]
	}
	var err error
	if o.scenario, err = scenarioOf(name); err != nil {
		return nil, err
	}
	return o, o.check()
}

// Above this a call is due before the one before it has been handed to the network.
const maxRate = 100_000

func (o *options) check() error {
	switch {
	case !(o.rate > 0 && o.rate <= maxRate):
		return fmt.Errorf("-rate %v, want more than 0 and at most %d", o.rate, maxRate)
	case o.plan.Duration <= 0:
		return fmt.Errorf("-duration %v, want more than 0", o.plan.Duration)
	case o.plan.Calls < 0:
		return fmt.Errorf("-calls %d, want 0 or more", o.plan.Calls)
	case o.plan.AtOnce < 1 || o.plan.AtOnce > 10_000:
		return fmt.Errorf("-concurrency %d, want 1 to 10000", o.plan.AtOnce)
	case o.timeout <= 0:
		return fmt.Errorf("-timeout %v, want more than 0", o.timeout)
	case o.people < 1 || o.people > 1000:
		return fmt.Errorf("-users %d, want 1 to 1000", o.people)
	case !(o.tolerate >= 0 && o.tolerate <= 1):
		return fmt.Errorf("-tolerate %v, want 0 to 1", o.tolerate)
	case o.maxP99 < 0:
		return fmt.Errorf("-max-p99 %v, want 0 or more", o.maxP99)
	}
	o.plan.Pace = o.scenario.Pace(o.rate)
	return nil
}

// run makes the calls, tells of them, and returns an error if they did not go as they should.
func (o *options) run(ctx context.Context, out Output) (err error) {
	diagnostics := slog.DiscardHandler
	if o.verbose {
		diagnostics = slog.NewTextHandler(out.Err, nil)
	}
	tel, err := telemetry.Setup(ctx, telemetry.WithServiceName("users-load"), telemetry.WithoutGlobals(), telemetry.WithDiagnostics(diagnostics))
	if err != nil {
		return err
	}
	defer tel.Close()                                                          // what is lost, the diagnostics tell
	by := observe.Through(tel, slog.New(tel.SlogHandler(slog.DiscardHandler))) // one summary instead of a line for each call
	by.Messages = o.messages
	var own []interceptors.ClientOption
	if o.scenario.Dial != nil {
		own = o.scenario.Dial()
	}
	conn, err := grpc.NewClient(o.address, append(interceptors.DialOptions(by.Client(own...)...),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return err
	}
	defer conn.Close()

	tally := NewTally()
	if o.status != "" {
		url, stop, err := o.serveStatus(ctx, tally)
		if err != nil {
			return err
		}
		defer stop()
		fmt.Fprintln(out.Err, "users-load: how it goes is told on", url)
	}
	target := newTarget(conn, strings.ToLower(rand.Text()[:8]))
	if err := target.signUp(ctx, o.people); err != nil {
		return err
	}
	if o.scenario.Sessions && len(target.tokens) == 0 {
		return fmt.Errorf("scenario %s wants a service with sessions, and the one at %s is open to everybody", o.scenario.Name, o.address)
	}
	telling, told := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tell(telling, out.Err, out.Terminal, o.scenario.Name, o.plan.Duration, tally)
	}()
	target.begun = time.Now()
	o.plan.Run(ctx, tally, o.scenario.call(target, o.seed, o.timeout))
	told()
	<-ended
	counts := tally.Counts()
	return cmp.Or(summarize(out.Out, o.scenario.Name, counts), o.judge(counts))
}

// judge returns an error that says what is not as it should be.
func (o *options) judge(c *Counts) error {
	if c.Calls == 0 {
		return errors.New("no call was made")
	}
	var problems []error
	if n := c.Unexpected(); float64(n) > o.tolerate*float64(c.Calls) {
		problems = append(problems, fmt.Errorf("%d of %d calls did not end as scenario %s wants", n, c.Calls, o.scenario.Name))
	}
	if p99 := c.Latencies.Quantile(0.99); o.maxP99 > 0 && p99 > o.maxP99 {
		problems = append(problems, fmt.Errorf("the p99 is %s, want at most %v", short(p99), o.maxP99))
	}
	return errors.Join(problems...)
}
