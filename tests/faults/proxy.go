package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a network between TCP clients and a server on this machine that can be
// made as bad as a test wants it. It listens at one address for all its life. It is
// safe for concurrent use.
type Proxy struct {
	addr, backend string
	running       sync.WaitGroup
	cut           atomic.Int64 // bytes of answers that still get through, plus 1; 0: all

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	weather  Weather
	changed  chan struct{} // closed with the next change of the weather
}

// Weather is what becomes of the bytes on the way. The zero value is a good
// network. It is the same for all connections, those there are and those to come.
type Weather struct {
	// Delay is how much later a byte arrives, in each direction.
	Delay time.Duration

	// BytesPerSecond is how many get through in each direction of a connection. The
	// default, 0, is all of them.
	BytesPerSecond int

	// In a direction that is stalled no byte arrives, and no connection breaks. With
	// both it is a black hole: even new connections are made, as a firewall or the
	// backlog of a process that hangs make them, and nothing is ever answered.
	// When the stall is over all that was held arrives.
	StallRequests, StallAnswers bool
}

// BlackHole is the weather in which nothing arrives.
var BlackHole = Weather{StallRequests: true, StallAnswers: true}

// NewProxy starts a Proxy for the server at backend, "127.0.0.1:port", with good
// weather.
func NewProxy(backend string) (*Proxy, error) {
	p := &Proxy{addr: "127.0.0.1:0", backend: backend, links: map[*link]struct{}{}, changed: make(chan struct{})}
	if err := p.Accept(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr returns the address to dial, "127.0.0.1:port".
func (p *Proxy) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Connections returns how many there are.
func (p *Proxy) Connections() int { return len(p.all()) }

// Set changes the weather.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
}

// CutAfter closes the connection that carries the answers' nth byte from now, after
// that byte. It happens once.
func (p *Proxy) CutAfter(n int) { p.cut.Store(int64(n) + 1) }

// Reset breaks all connections there are with an RST for both sides.
func (p *Proxy) Reset() {
	for _, l := range p.all() {
		l.close(true)
	}
}

// Refuse is what a process that was killed does: what is connected is reset, and
// nobody listens any more.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Reset()
}

// Accept ends Refuse. It fails if something else has taken the port.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return fmt.Errorf("faults: the proxy's address: %w", err)
	}
	p.addr, p.listener = listener.Addr().String(), listener
	p.running.Go(func() { p.serve(listener) })
	return nil
}

// LoseServer makes the connections there are half-open: the server's side of them
// is gone, and the client is not told, as when a machine loses its power or a load
// balancer forgets a connection. New ones are good.
func (p *Proxy) LoseServer() { p.lose(answers) }

// LoseClient is LoseServer the other way round: the server is not told.
func (p *Proxy) LoseClient() { p.lose(requests) }

func (p *Proxy) lose(from direction) {
	for _, l := range p.all() {
		l.lose(from)
	}
}

// Close ends all connections and waits for what the Proxy has started.
func (p *Proxy) Close() {
	p.Refuse()
	p.running.Wait()
}

func (p *Proxy) all() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*link, 0, len(p.links))
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

func (p *Proxy) now() (Weather, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather, p.changed
}

func (p *Proxy) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		var dialer net.Dialer
		backend, err := dialer.DialContext(context.Background(), "tcp", p.backend)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.connect(listener, client, backend)
	}
}

// connect carries what client and backend send, unless Refuse came first.
func (p *Proxy) connect(listener net.Listener, client, backend net.Conn) {
	l := &link{p: p, client: client.(*net.TCPConn), backend: backend.(*net.TCPConn), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != listener {
		l.closeBoth(true)
		return
	}
	p.links[l] = struct{}{}
	l.carry(requests, l.backend, l.client)
	l.carry(answers, l.client, l.backend)
}

// direction is one of the two of a connection.
type direction int32

const (
	requests direction = iota + 1
	answers
)

// link is a connection: one with the client, and one with the server.
type link struct {
	p               *Proxy
	client, backend *net.TCPConn
	lost            atomic.Int32 // the direction that nothing comes from any more, without anybody being told
	once            sync.Once
	done            chan struct{}
}

// chunk is some bytes, and when they are to arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// carry starts to carry from src to dst.
func (l *link) carry(d direction, dst, src net.Conn) {
	queue := make(chan chunk, 1024)
	l.p.running.Go(func() {
		defer close(queue)
		l.read(src, queue)
	})
	l.p.running.Go(func() {
		defer l.ended(d)
		l.write(d, dst, queue)
	})
}

func (l *link) read(src net.Conn, queue chan<- chunk) {
	for {
		buffer := make([]byte, 16<<10)
		n, err := src.Read(buffer)
		if n > 0 {
			weather, _ := l.p.now()
			select {
			case queue <- chunk{buffer[:n], time.Now().Add(weather.Delay)}:
			case <-l.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) write(d direction, dst net.Conn, queue <-chan chunk) {
	for c := range queue {
		if !l.wait(time.Until(c.due)) {
			return
		}
		for len(c.bytes) > 0 {
			piece, ok := l.pass(d, c.bytes)
			if !ok {
				return
			}
			c.bytes = c.bytes[len(piece):]
			last := false
			if d == answers {
				piece, last = l.p.shorten(piece)
			}
			if _, err := dst.Write(piece); err != nil && l.lost.Load() == 0 || last {
				return
			}
		}
	}
}

// pass waits until some of the bytes get through, and returns those.
func (l *link) pass(d direction, bytes []byte) (piece []byte, ok bool) {
	for {
		weather, changed := l.p.now()
		if d == requests && weather.StallRequests || d == answers && weather.StallAnswers {
			select {
			case <-changed:
				continue
			case <-l.done:
				return nil, false
			}
		}
		if weather.BytesPerSecond <= 0 {
			return bytes, true
		}
		piece = bytes[:min(len(bytes), max(weather.BytesPerSecond/50, 1))]
		return piece, l.wait(time.Duration(len(piece)) * time.Second / time.Duration(weather.BytesPerSecond))
	}
}

// shorten tells what of the answer gets through before the connection is cut, and
// whether it is now.
func (p *Proxy) shorten(bytes []byte) (rest []byte, cut bool) {
	for {
		left := p.cut.Load()
		switch {
		case left == 0:
			return bytes, false
		case left-1 > int64(len(bytes)):
			if p.cut.CompareAndSwap(left, left-int64(len(bytes))) {
				return bytes, false
			}
		case p.cut.CompareAndSwap(left, 0):
			return bytes[:left-1], true
		}
	}
}

func (l *link) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// lose closes the side that sends in direction d.
func (l *link) lose(d direction) {
	if !l.lost.CompareAndSwap(0, int32(d)) {
		return
	}
	side := l.client
	if d == answers {
		side = l.backend
	}
	_ = side.Close()
}

// ended is called when nothing more is carried in a direction.
func (l *link) ended(d direction) {
	if l.lost.Load() != int32(d) {
		l.close(false)
	}
}

func (l *link) close(reset bool) {
	l.once.Do(func() {
		l.closeBoth(reset)
		close(l.done)
		l.p.mu.Lock()
		defer l.p.mu.Unlock()
		delete(l.p.links, l)
	})
}

func (l *link) closeBoth(reset bool) {
	for _, side := range []*net.TCPConn{l.client, l.backend} {
		if reset {
			if err := side.SetLinger(0); err != nil && !errors.Is(err, net.ErrClosed) {
				panic("faults: a connection cannot be reset: " + err.Error()) // the test would be about something else
			}
		}
		_ = side.Close()
	}
}
