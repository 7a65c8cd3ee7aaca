// Prints what the parser of Kubernetes CronJobs says of a table of schedules: tests/api/schedules.json.
//
//	cd tests/api/robfig && GOFLAGS=-p=1 go run . > ../schedules.json
package main

import (
	"encoding/json"
	"os"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
)

var schedules = []string{
	"* * * * *", "0 * * * *", "0 20 * * *", "*/5 * * * *", "*/7 * * * *", "7/20 * * * *", "0-10/3 * * * *", "1,2,3,59 * * * *",
	"? ? ? ? ?", "0 0 ? * MON", "30 1 * * *", "30 2 * * *", "30 3 * * *", "0 0 * * *", "15 0 * * *", "59 23 * * *", "0 1-4 * * *",
	"*/20 2 * * *", "0,30 2 * * *", "0 */6 * * *", "0 5/6 * * *", "0 23/2 * * *", "45 1 * * *", "15 2 * * *",
	"0 0 1 * *", "0 0 31 * *", "0 0 30 * *", "0 0 29 2 *", "0 0 29 feb *", "0 0 28-31 2 *", "0 0 1 1 *", "0 0 1 */3 *", "0 0 1 JAN-MAR *",
	"0 0 1 mar-May/2 *", "0 0 1 5/3 *", "0 0 15 * *", "0 0 */10 * *", "0 0 10/7 * *", "0 0 1,15 * *",
	"0 0 * * 0", "0 0 * * 1", "0 0 * * 6", "0 0 * * 1-5", "0 0 * * MON-FRI", "0 0 * * mon-fri/2", "0 0 * * Tue,THU", "0 0 * * SUN",
	"0 0 * * 2/2", "0 0 * * 0-6", "0 0 * * 0,3", "0 0 * * sat", "0 9 * * FRI/1",
	"0 0 4 * 1", "0 0 13 * FRI", "0 0 */2 * 1", "0 0 */2 * *", "0 0 * * */2", "0 0 4 * */3", "0 0 */1 * 1", "0 0 4 * */1", "0 0 4 * 0-6",
	"0 0 1-31 * 1", "0 0 4,* * 1", "0 0 31 2 1", "0 0 31 4,6 *", "0 0 31 4,5 *", "0 0 30-31 feb sun",
	"0 0 ? 2 ?", "*/15 9-17 * * 1-5", "05 +7 * * *", "0 0 *-5 * *", "1,,2 * * * *", "  0   4  *  *  *  ", "0\t4 * * *",
	"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@every 1h30m", "@every 90m", "@every 1m", "@every 36h",
	"@every 1.5h", "@every 61.9s", "@every 2h3m4s",
	// refused
	"@reboot", "@Daily", "@every", "@every 5", "@every -1h", "@every 1d", "@nightly", "", " ", "*", "0 0 * *", "0 0 0 * * *", "0 0 * * * 2026",
	"60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 0 *", "0 0 * 13 *", "0 0 * * 7", "0 0 * * 8", "0 0 * * 5-1", "0 0 * * 6-7",
	"0 0 * * sat-mon", "0 9 * * MON#2", "0 0 L * *", "0 0 * * 5L", "0 0 15W * *", "0 0 LW * *", "*/0 * * * *", "*/-1 * * * *", "1/2/3 * * * *",
	"1-2-3 * * * *", "a * * * *", "5- * * * *", "-5 * * * *", "* * * foo *", "* * * * monday", "* * * january *", "1.5 * * * *", "*/x * * * *",
	"~ * * * *", "H * * * *", "0 0 * * mon-8", "* * * * **", "1_0 * * * *", "１ * * * *",
}

var places = []struct {
	zone  string
	times []string
}{
	{"UTC", []string{"2024-02-28T23:58:30Z", "2026-03-01T00:00:00Z", "2026-12-31T23:59:59Z"}},
	{"Europe/Berlin", []string{"2026-03-28T22:10:00Z", "2026-03-29T00:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"}},
	{"America/New_York", []string{"2026-03-08T04:30:00Z", "2026-11-01T04:30:00Z"}},
	{"Australia/Lord_Howe", []string{"2026-04-04T14:10:00Z", "2026-10-03T14:10:00Z"}},
	{"Asia/Kathmandu", []string{"2026-03-01T18:10:00Z"}},
	{"Africa/Cairo", []string{"2024-04-25T20:30:00Z", "2024-10-31T20:00:00Z"}},
	{"America/Havana", []string{"2024-03-10T04:10:00Z"}},
}

type answer struct {
	Schedule string   `json:"schedule"`
	Zone     string   `json:"zone"`
	After    string   `json:"after"`
	Ticks    []string `json:"ticks"` // the first few; fewer where there are no more
}

func main() {
	refused, answers := []string{}, []answer{}
	for _, text := range schedules {
		if _, err := cron.ParseStandard(text); err != nil {
			refused = append(refused, text)
			continue
		}
		for _, place := range places {
			zone, err := time.LoadLocation(place.zone)
			if err != nil {
				panic(err)
			}
			for _, from := range place.times {
				after, err := time.Parse(time.RFC3339, from)
				if err != nil {
					panic(err)
				}
				schedule, _ := cron.ParseStandard(text)
				if fields, ok := schedule.(*cron.SpecSchedule); ok {
					fields.Location = zone
				}
				ticks := []string{}
				for t := schedule.Next(after.UTC()); !t.IsZero() && len(ticks) < 4; t = schedule.Next(t) {
					ticks = append(ticks, t.UTC().Format(time.RFC3339))
				}
				answers = append(answers, answer{text, place.zone, from, ticks})
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	os.Stdout.WriteString("{\"source\": \"github.com/robfig/cron/v3 v3.0.1, ParseStandard\",\n\"refused\": ")
	out.Encode(refused)
	os.Stdout.WriteString(",\"accepted\": [\n")
	for i, a := range answers {
		if i > 0 {
			os.Stdout.WriteString(",")
		}
		out.Encode(a)
	}
	os.Stdout.WriteString("]}\n")
}
