package load

import "time"

// Pace says when call i, counted from 0, is due: how long after the start. It never goes back.
type Pace func(i int64) time.Duration

// Even is perSecond calls a second.
func Even(perSecond float64) Pace {
	return func(i int64) time.Duration { return time.Duration(float64(i) / perSecond * float64(time.Second)) }
}

const (
	burstEvery = 5 * time.Second
	burstLasts = time.Second
	burstTimes = 5
)

// Bursts is perSecond calls a second, and burstTimes as many in the last second of every five.
func Bursts(perSecond float64) Pace {
	calm := burstEvery - burstLasts
	inCalm := perSecond * calm.Seconds()
	each := inCalm + burstTimes*perSecond*burstLasts.Seconds()
	return func(i int64) time.Duration {
		periods := float64(int64(float64(i) / each))
		seconds := periods * burstEvery.Seconds()
		if rest := float64(i) - periods*each; rest < inCalm {
			seconds += rest / perSecond
		} else {
			seconds += calm.Seconds() + (rest-inCalm)/(burstTimes*perSecond)
		}
		return time.Duration(seconds * float64(time.Second))
	}
}

// due returns how many calls are due before d, at most limit.
func (p Pace) due(d time.Duration, limit int64) int64 {
	to := int64(1)
	for to < limit && p(to) < d {
		to *= 2
	}
	from := int64(0)
	for to = min(to, limit); from < to; {
		if i := from + (to-from)/2; p(i) < d {
			from = i + 1
		} else {
			to = i
		}
	}
	return from
}
