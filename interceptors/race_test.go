//go:build race

package interceptors_test

// raceEnabled says that everything takes ten times as long: what only counts, and
// shares nothing between goroutines, counts less far.
const raceEnabled = true
