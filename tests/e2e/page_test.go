//go:build e2e

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/rpcscope/rpcscope/telemetry/telemetrytest"
	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// screenshots is set by make screenshots: what the documentation shows is what the test looked at.
var screenshots = flag.String("screenshots", "", "`folder` to write PNGs of the page into")

const password = "correct horse battery"

// show keeps what is in the window as a PNG, if that was asked for.
func (b *tab) show(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	b.do(chromedp.Evaluate[chromedp.Void]("Promise.all(document.getAnimations().map((a) => a.finished))", chromedp.EvalAwaitPromise))
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), obtain(b, chromedp.CaptureScreenshot()), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// system is the example, each program a process.
type system struct {
	page   string
	jaeger string // what stands for its UI
	traces *telemetrytest.Collector
}

// startSystem starts the example with faults to choose from and an admin, and returns what stops it.
func startSystem(t *testing.T) (s *system, stop func()) {
	t.Helper()
	ui := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<!doctype html><html lang=en><title>Jaeger</title><link rel=icon href=data:,><p>%s", r.URL.Path)
	}))
	t.Cleanup(ui.Close)
	s = &system{jaeger: ui.URL, traces: telemetrytest.NewCollector(t, telemetrytest.OK)}
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.traces.Endpoint(), "OTEL_BSP_SCHEDULE_DELAY=100", "USERS_ADMIN_PASSWORD=" + password}
	var running []*program.Program
	run := func(serving, name string, args ...string) string {
		p := start(t, env, name, append([]string{"-listen", "127.0.0.1:0", "-faults"}, args...)...)
		running = append(running, p)
		return p.Find(serving)
	}
	audit := run(`audit service is serving.*address=(\S+)`, "users-audit")
	address := run(`users service is serving.*address=(\S+)`, "users-api", "-audit", audit, "-admin", "admin@example.com", "-limit", "10")
	s.page = run(`web app is serving.*url=(\S+)`, "users-web", "-users", address, "-traces", s.jaeger)
	return s, func() {
		for _, p := range slices.Backward(running) {
			p.Stop()
		}
	}
}

// TestPage is a user, and then an admin, at the page of the example in a real browser.
func TestPage(t *testing.T) {
	s, stop := startSystem(t)
	defer stop()
	b := open(t, s.page)

	b.until("!document.querySelector('#entrance').hidden")
	b.accessible()
	wantSaid(b, "401 /session") // nobody is logged in

	b.signUp()
	b.add()
	b.stream(s)
	b.fail()
	b.trace(s)
	b.faults()
	b.faultsForAll(s)
	b.tooMany()
	b.administer()
}

// wantSaid compares what the console says since the last time.
func wantSaid(b *tab, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.said()); diff != "" {
		b.t.Errorf("the console (-want +got):\n%s", diff)
	}
}

// signUp gets everything wrong at first.
func (b *tab) signUp() {
	b.t.Helper()
	b.fill("#enter-email", "ada@example.com")
	b.fill("#enter-password", "a wrong password")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.says("#enter-result[role=alert]", "UNAUTHENTICATED LOGIN_FAILED")
	wantSaid(b, "401 /session")

	b.click("#enter-other")
	b.fill("#enter-name", " Ada")
	b.fill("#enter-email", "ada@example")
	b.fill("#enter-password", "short")
	b.click("#enter-submit")
	b.says("#enter-result", "INVALID_ARGUMENT USER_INVALID")
	b.says("#enter-name-error", "starts or ends with a space")
	b.says("#enter-password-error", "want 10 to 100 characters")
	b.until("document.activeElement.id === 'enter-name' && document.activeElement.ariaInvalid === 'true'")
	b.show("page-sign-up")
	wantSaid(b, "400 /users/me")

	b.fill("#enter-name", "Ada Lovelace")
	b.fill("#enter-email", "ada@example.com")
	b.fill("#enter-password", password)
	b.click("#enter-submit")
	b.says("#who", "Ada Lovelace")
	b.says("#following[data-state=live]", "following")
	b.says("#users", "ada@example.com")
	if cookie := obtain(b, chromedp.Evaluate[string]("document.cookie")); cookie != "" {
		b.t.Errorf("scripts of the page see the cookie %q", cookie)
	}
	b.accessible()
	wantSaid(b)
}

// add adds a user without a mouse.
func (b *tab) add() {
	b.t.Helper()
	b.do(chromedp.Focus(chromedp.CSS("#name")), chromedp.KeyEvent("Grace Hopper"+kb.Tab+"grace@example.com"+kb.Enter))
	b.says("#add-result[role=alert]", "Grace Hopper was added.")
	b.says("#users li:first-child", "grace@example.com")
	b.says("#count", "2")
	b.says("#requests", "POST /users/")
	b.until("document.activeElement.id === 'name' && document.activeElement.value === ''")
	wantSaid(b)
}

// stream has somebody else create a user, who appears without anything being done here.
func (b *tab) stream(s *system) {
	b.t.Helper()
	token := s.logIn(b.t)
	post(b.t, s.page+"users/", token, `{"name":"Barbara Liskov","email":"barbara@example.com"}`, http.StatusCreated)
	b.says("#users li:first-child", "barbara@example.com")
	b.says("#count", "3")
	b.window(size{1280, 1040})
	b.show("page")
	b.window(narrow)
	b.scheme("dark")
	b.show("page-narrow")
	b.window(wide)
	b.scheme("light")

	b.fill("#id", "u-nobody")
	b.click("#find button")
	b.says("#list-result[role=alert]", "NOT_FOUND USER_NOT_FOUND")
	wantSaid(b, "404 /users/")
	b.fill("#id", "")
	b.click("#find button") // nothing asked for: whom this user may see
	b.says("#users", "ada@example.com")
	wantSaid(b)
}

// logIn returns a token of the admin.
func (s *system) logIn(t *testing.T) string {
	t.Helper()
	var session struct{ Token string }
	answer := post(t, s.page+"session", "", `{"email":"admin@example.com","password":"`+password+`"}`, http.StatusOK)
	if err := json.Unmarshal([]byte(answer), &session); err != nil {
		t.Fatal(err)
	}
	return session.Token
}

// fail adds users who cannot be added.
func (b *tab) fail() {
	b.t.Helper()
	b.fill("#name", "Grace H.")
	b.fill("#email", "GRACE@example.com")
	b.click("#add button")
	b.says("#add-result[role=alert]", "ALREADY_EXISTS USER_EMAIL_TAKEN")
	b.says("#email-error", "is taken by another user")
	b.until("document.activeElement.id === 'email' && document.activeElement.ariaInvalid === 'true'")
	b.show("page-error")
	b.fill("#name", "")
	b.fill("#email", "")
	b.click("#add button")
	b.says("#name-error", "is empty, want a name")
	b.says("#email-error", "is empty, want an address")
	wantSaid(b, "400 /users/", "409 /users/")

	// What was typed is text, and no part of the page.
	b.fill("#name", "<img src=x onerror=alert(1)>")
	b.fill("#email", "mallory@example.com")
	b.click("#add button")
	b.says("#users li:first-child .who", "<img src=x onerror=alert(1)>")
	wantSaid(b)
}

// trace opens the trace of the request that added Grace, which the collector has from all three services.
func (b *tab) trace(s *system) {
	b.t.Helper()
	link := obtain(b, chromedp.Evaluate[string](
		"[...document.querySelectorAll('#requests li')].findLast((li) => li.innerText.includes('POST /users/\\n')).querySelector('a.trace').href"))
	id, found := strings.CutPrefix(link, s.jaeger+"/trace/")
	if !found || len(id) != 32 {
		b.t.Fatalf("got trace link %q, want one to %s/trace/ and 32 hexadecimal digits", link, s.jaeger)
	}
	opened := chromedp.WaitNewTarget(b.ctx, func(i *target.Info) bool { return i.URL == link })
	b.click(fmt.Sprintf("a[href=%q]", link))
	ctx, done := chromedp.NewContext(b.ctx, chromedp.WithTargetID(<-opened))
	defer done()
	jaeger := &tab{t: b.t, ctx: ctx}
	jaeger.says("body", "/trace/"+id)

	services := func() []string {
		var names []string
		for _, span := range s.traces.Spans() {
			if hex.EncodeToString(span.GetTraceId()) == id {
				names = append(names, span.Service())
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	want := []string{"users-api", "users-audit", "users-web"}
	s.traces.WaitFor("the spans of trace "+id, func() bool { return len(services()) >= len(want) })
	if diff := cmp.Diff(want, services()); diff != "" {
		b.t.Errorf("services of the trace (-want +got):\n%s", diff)
	}
}

// faults tries each fault that the page offers.
func (b *tab) faults() {
	b.t.Helper()
	wants := map[string]string{
		"error":                  "UNKNOWN",
		"panic":                  "INTERNAL",
		"delay=2s":               "",
		"audit:code=UNAVAILABLE": "UNAVAILABLE",
		"audit:error":            "INTERNAL",
		"audit:delay=2s":         "DEADLINE_EXCEEDED",
	}
	offered := obtain(b, chromedp.Evaluate[[]string]("[...document.querySelectorAll('#fault option')].map((o) => o.value)"))
	for i, fault := range slices.DeleteFunc(offered, func(fault string) bool { return fault == "" }) {
		want, known := wants[fault]
		if !known {
			b.t.Errorf("the page offers the fault %q, which this test does not know", fault)
		}
		delete(wants, fault)
		b.choose("#fault", fault)
		b.fill("#name", fault)
		b.fill("#email", fmt.Sprintf("fault%d@example.com", i))
		b.click("#add button")
		if want == "" {
			b.says("#add-result", fault+" was added.")
			wantSaid(b)
			continue
		}
		b.says("#add-result[role=alert]", want)
		if said := b.said(); len(said) != 1 || !strings.HasPrefix(said[0], "50") {
			b.t.Errorf("%s: the console says %q, want one server error", fault, said)
		}
		if text := b.text("body"); strings.Contains(text, "hunter2") || strings.Contains(text, "goroutine") {
			b.t.Errorf("%s: the page tells what is private:\n%s", fault, text)
		}
	}
	for fault := range wants {
		b.t.Errorf("the page does not offer the fault %q", fault)
	}
	b.show("page-faults")
	b.choose("#fault", "")
}

// faultsForAll switches a fault on that others have too, and off again.
func (b *tab) faultsForAll(s *system) {
	b.t.Helper()
	token := s.logIn(b.t)
	b.choose("#fault", "audit:code=UNAVAILABLE")
	b.click("#fault-all")
	b.says("#fault-hint", "Every call to the users service has it until")
	post(b.t, s.page+"users/", token, `{"name":"Eve","email":"eve@example.com"}`, http.StatusServiceUnavailable)
	b.click("#fault-all")
	b.says("#fault-hint", "the requests of this page")
	b.choose("#fault", "")
	post(b.t, s.page+"users/", token, `{"name":"Eve","email":"eve@example.com"}`, http.StatusCreated)
	b.says("#users li:first-child", "eve@example.com")
	wantSaid(b)
}

// tooMany makes more calls than a user may make, some of which are refused.
func (b *tab) tooMany() {
	b.t.Helper()
	b.click("#many")
	b.until("[...document.querySelectorAll('#requests .took')].length === 50 && [...document.querySelectorAll('#requests .took')].every((e) => e.innerText)")
	b.says("#requests .warn", "RESOURCE_EXHAUSTED RATE_LIMITED")
	b.until("document.querySelector('#requests .good') !== null")
	if said := slices.Compact(b.said()); !slices.Equal(said, []string{"429 /session"}) {
		b.t.Errorf("the console says %q, want that some were refused", said)
	}
}

// administer logs in as an admin, who may do more.
func (b *tab) administer() {
	b.t.Helper()
	b.click("#log-out")
	b.until("!document.querySelector('#entrance').hidden")
	b.click("#enter-other")
	const left = "[...document.querySelectorAll('#users li, .result')].length + [...document.querySelectorAll('input')].filter((i) => i.value && i.type !== 'checkbox').length"
	if left := obtain(b, chromedp.Evaluate[int](left)); left != 0 {
		b.t.Errorf("logging out leaves %d users, results and values on the page, want none:\n%s", left, b.text("main"))
	}
	b.fill("#enter-email", "admin@example.com")
	b.fill("#enter-password", password)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.says("#who", "(admin)")
	b.says("#users", "grace@example.com")
	b.click("button[aria-label='History of Grace Hopper']")
	b.says("#users li:has([aria-label='History of Grace Hopper']) ol", "user.create by u-")
	b.show("page-admin")
	b.click("button[aria-label='Delete Barbara Liskov']")
	b.until("!document.querySelector('#users').innerText.includes('barbara@example.com')")
	b.accessible()
	wantSaid(b)
}

// accessible looks at what is shown as somebody would who sees badly, uses no mouse, or has a small window.
func (b *tab) accessible() {
	b.t.Helper()
	b.named()
	b.reachable()
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		if faint := obtain(b, chromedp.Evaluate[[]string](faint)); len(faint) > 0 {
			b.t.Errorf("%s: texts with less contrast than 4.5 to 1: %q", scheme, faint)
		}
	}
	for _, s := range []size{{320, 640}, narrow, wide} {
		b.window(s)
		if beyond := obtain(b, chromedp.Evaluate[[]string](beyond)); len(beyond) > 0 {
			b.t.Errorf("%d pixels: beyond the window are %q", s.width, beyond)
		}
	}
}

// named wants a heading, a banner, one main part, and a name for everything that can be used.
func (b *tab) named() {
	b.t.Helper()
	seen := map[string]int{}
	for _, thing := range b.things() {
		seen[thing.role]++
		if slices.Contains([]string{"button", "textbox", "combobox", "checkbox", "link", "region", "search", "form"}, thing.role) && thing.name == "" {
			b.t.Errorf("a %s has no name", thing.role)
		}
	}
	// What stands in an empty field is a name for a browser, and gone once something is typed.
	unlabelled := obtain(b, chromedp.Evaluate[[]string]("[...document.querySelectorAll('input, select')].filter((e) => e.labels.length === 0).map((e) => e.id)"))
	if len(unlabelled) > 0 {
		b.t.Errorf("the fields %q have no label", unlabelled)
	}
	for role, want := range map[string]int{"RootWebArea": 1, "banner": 1, "main": 1} {
		if seen[role] != want {
			b.t.Errorf("got %d of the role %s, want %d", seen[role], role, want)
		}
	}
	if seen["heading"] < 2 || seen["button"] < 1 || seen["textbox"] < 2 {
		b.t.Errorf("got roles %v, want headings, buttons and text boxes", seen)
	}
}

// reachable goes through the page with the Tab key: everything that can be used is reached, and is seen to be.
func (b *tab) reachable() {
	b.t.Helper()
	usable := obtain(b, chromedp.Evaluate[int](`(() => {
		document.activeElement?.blur();
		window.reached = new Set();
		return [...document.querySelectorAll('a[href], button, input, select')].filter((e) => !e.disabled && e.checkVisibility()).length;
	})()`))
	b.do(chromedp.Evaluate[chromedp.Void]("document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex')"))
	for range usable {
		b.do(chromedp.KeyEvent(kb.Tab))
		seen := obtain(b, chromedp.Evaluate[string](`(() => {
			const e = document.activeElement;
			reached.add(e);
			return getComputedStyle(e).outlineStyle;
		})()`))
		if seen == "none" {
			b.t.Errorf("%s has the focus, and does not look like it", obtain(b, chromedp.Evaluate[string]("document.activeElement.outerHTML")))
		}
	}
	if got := obtain(b, chromedp.Evaluate[int]("reached.size")); got != usable {
		b.t.Errorf("Tab reaches %d of %d things that can be used", got, usable)
	}
}

// faint is JavaScript for the texts whose contrast is less than WCAG 2.2 asks for in success criterion 1.4.3.
const faint = `(() => {
	const context = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
	const paint = (colours) => {
		for (const c of colours) { context.fillStyle = c; context.fillRect(0, 0, 1, 1); }
		return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	const luminance = (rgb) => {
		const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const found = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let text = walker.nextNode(); text; text = walker.nextNode()) {
		const e = text.parentElement;
		if (!text.data.trim() || !e.checkVisibility() || e.closest('script, noscript, .hidden, .skip, option')) continue;
		const grounds = [];
		for (let up = e; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
		const ground = luminance(paint(['#fff', ...grounds])), ink = luminance(paint(['#fff', ...grounds, getComputedStyle(e).color]));
		if ((Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05) < 4.5) found.push(text.data.trim());
	}
	return found;
})()`

// beyond is JavaScript for what reaches beyond the right edge of the window.
const beyond = `[...document.querySelectorAll('body *')]
	.filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 0.5)
	.map((e) => e.outerHTML.slice(0, 120))`
