// Package interop runs the cases with which grpc tests itself against other
// implementations, with everything that rpcscope has installed on both sides.
//
// A case ends its process when it fails, so each runs in a process of its own:
// the test binary once more, with an environment variable that names the case.
package interop
