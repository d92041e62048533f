package propagation

import "context"

// state is everything this package keeps in a context, so that one look-up
// finds all of it.
type state struct {
	requestID   string
	identity    *Identity    // never modified once it is here
	destination *destination // set on the way out only
}

// in returns a copy of ctx that carries s in place of the state it had.
func (s state) in(ctx context.Context) context.Context {
	return &node{Context: ctx, state: s}
}

// node is a context and the state in it at once: one allocation where
// context.WithValue needs two.
type node struct {
	context.Context
	state
}

type nodeKey struct{}

// Value returns the node itself for the key of this package.
func (n *node) Value(key any) any {
	if key == (nodeKey{}) {
		return n
	}
	return n.Context.Value(key)
}

func stateOf(ctx context.Context) state {
	if ctx == nil {
		return state{}
	}
	if n, ok := ctx.Value(nodeKey{}).(*node); ok {
		return n.state
	}
	return state{}
}
