package interceptors

import "sync"

// maxTokens is what a budget has when nothing has failed.
const maxTokens = 10

// budgets are those of the targets, whose number the program's own connections
// bound.
type budgets struct {
	ratio float64
	known sync.Map // of *budget
}

func newBudgets(ratio float64) *budgets { return &budgets{ratio: ratio} }

func (b *budgets) of(target string) *budget {
	if known, ok := b.known.Load(target); ok {
		return known.(*budget)
	}
	made, _ := b.known.LoadOrStore(target, &budget{ratio: b.ratio, tokens: maxTokens})
	return made.(*budget)
}

// budget is the throttle of gRPC's proposal A6. It is safe for concurrent use.
type budget struct {
	ratio float64 // negative: no limit

	mu     sync.Mutex
	tokens float64
}

func (b *budget) succeeded() {
	if b.ratio < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.ratio, maxTokens)
}

func (b *budget) failed() {
	if b.ratio < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = max(b.tokens-1, 0)
}

// allows tells whether there may be another attempt.
func (b *budget) allows() bool {
	if b.ratio < 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens > maxTokens/2
}
