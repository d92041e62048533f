package interceptors

// growStack makes the stack of a server's goroutine as large as the beginning
// and the end of a call need it. gRPC starts a goroutine for each call, with a
// stack of 2 KiB or little more. Left alone it grows in steps, deep inside the
// SDK and the log, where there are many frames to copy: 4 % of the time of a
// unary call. Here it grows once, with next to nothing on it, and not at all
// where the runtime has started with a large one. What a stream does not use
// the garbage collector takes back.
//
//go:noinline
func growStack(never bool) {
	if never {
		var frame [4 << 10]byte // what counts is that the function may need it
		touch(&frame)
	}
}

//go:noinline
func touch(frame *[4 << 10]byte) { frame[0] = 1 }
