// Package e2e runs the example programs as a user does, each a process of its own. Its tests carry the build tag e2e:
//
//	make e2e
package e2e
