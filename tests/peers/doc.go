// Package peers runs what goes wrong in other libraries, against them and
// against rpcscope, and writes down what each does.
//
// A defect is a scenario over a real connection, with the outcome that is
// right. The test of a defect
//
//   - asserts that rpcscope's outcome is the right one;
//   - asserts that a peer's is not, so that a peer that has mended its ways is
//     noticed, and taken out;
//   - runs the scenario once more with nothing wrong in it, where everybody's
//     outcome has to be the same, so that a peer is not blamed for a metric that
//     the test looked for in the wrong place.
//
// Peers are set up as their documentation has it. The section of README.md that
// tells of all this is what was observed, with the versions of the modules that
// the test was built with; [TestREADME] fails when it is not.
package peers

//go:generate go test -count=1 -run TestREADME . -update
